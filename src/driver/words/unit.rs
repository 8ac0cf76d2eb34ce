//! Units of measurement in texts: which words after a number are units, and which of them are
//! equal.
//!
//! A word is accepted only if this file knows it. A word such as `error` or `stale` after a number
//! says that the number is not valid, and no list could contain all such words. If a unit is
//! missing here, the key `unit` of the point names it.
//!
//! This file converts no value: 1 kW and 1000 W are different units.

/// Units that may have one of [`PREFIXES`]. `C` is the degree Celsius here; the coulomb has the
/// same sign.
const UNITS: [&str; 37] = [
    "A", "V", "W", "VA", "var", "VAr", "Ah", "Wh", "VAh", "varh", "J", "N", "Nm", "Pa", "bar", "g",
    "m", "l", "s", "Hz", "Ω", "F", "H", "T", "S", "C", "K", "B", "bit", "mol", "cd", "lm", "lx",
    "t", "eV", "cal", "°C",
];

/// Units without a prefix.
const BARE_UNITS: [&str; 38] = [
    "%", "‰", "%RH", "RH", "h", "min", "d", "rpm", "ppm", "ppb", "pH", "pF", "hPa", "psi", "inHg",
    "mmHg", "atm", "in", "ft", "yd", "mi", "gal", "gpm", "cfm", "mph", "kn", "lb", "oz", "hp",
    "deg", "rad", "dB", "dBm", "dBA", "NTU", "Bq", "Sv", "lux",
];

/// The prefixes of units: micro, milli, centi, deci, kilo, mega, giga and nano. `u` stands for the
/// letter µ.
const PREFIXES: [&str; 8] = ["u", "m", "c", "d", "k", "M", "G", "n"];

/// Names of units, in lower case, with the sign of the unit.
const NAMES: [(&str, &str); 26] = [
    ("degree", "deg"),
    ("degrees", "deg"),
    ("celsius", "C"),
    ("fahrenheit", "F"),
    ("kelvin", "K"),
    ("percent", "%"),
    ("volt", "V"),
    ("volts", "V"),
    ("amp", "A"),
    ("amps", "A"),
    ("ampere", "A"),
    ("amperes", "A"),
    ("watt", "W"),
    ("watts", "W"),
    ("rpm", "rpm"),
    ("hertz", "Hz"),
    ("pascal", "Pa"),
    ("ohm", "Ω"),
    ("ohms", "Ω"),
    ("second", "s"),
    ("seconds", "s"),
    ("minutes", "min"),
    ("hours", "h"),
    ("days", "d"),
    ("litres", "l"),
    ("liters", "l"),
];

/// The maximum number of units in a unit such as `kg/m3*s`. Longer texts are no units.
const MAX_PARTS: usize = 3;

/// Whether a text is a unit of measurement: a unit above, or a quotient or product of such units
/// with exponents, such as `m3/h`, `1/min` or `µS/cm`.
pub(super) fn is_known(text: &str) -> bool {
    let unit = normal(text);
    let parts: Vec<_> = unit.split(['/', '*', '·']).collect();
    let is_inverse = parts.len() > 1 && parts[0] == "1";
    let parts = if is_inverse { &parts[1..] } else { &parts[..] };
    parts.len() <= MAX_PARTS && parts.iter().all(|part| is_part(part))
}

/// Whether two texts are the same unit, such as `°C` and `deg C`. The units need not be known.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    normal(one) == normal(other)
}

/// Whether a text is one unit, which may have a prefix and an exponent.
fn is_part(text: &str) -> bool {
    let base = match text.strip_suffix(['1', '2', '3', '4']) {
        Some(base) => base.trim_end_matches(['^', '-']),
        None => text,
    };
    let with_prefix =
        |prefix: &str| base.strip_prefix(prefix).is_some_and(|unit| UNITS.contains(&unit));
    UNITS.contains(&base) || BARE_UNITS.contains(&base) || PREFIXES.into_iter().any(with_prefix)
}

/// Returns a unit in the form in which equal units are equal texts. For example, `° C` and
/// `degrees C` become `C`, and `µS/cm` becomes `uS/cm`.
fn normal(text: &str) -> String {
    if let Some(sign) = sign_of(text.trim()) {
        return sign.to_owned();
    }
    // These two characters are whole units in one character.
    let mut unit = match text.trim() {
        "℃" => "C",
        "℉" => "F",
        unit => unit,
    };
    for degree in ["degrees ", "degree ", "deg ", "deg", "°", "º"] {
        // `deg` and `°` alone are units of angles.
        if let Some(rest) = unit.strip_prefix(degree).filter(|rest| !rest.is_empty()) {
            unit = rest.trim_start();
            break;
        }
    }
    if let Some(sign) = sign_of(unit) {
        return sign.to_owned();
    }
    let usual = |c| match c {
        'µ' | 'μ' => 'u',
        'L' => 'l',
        '\u{2126}' => 'Ω',
        '²' => '2',
        '³' => '3',
        '°' | 'º' => '°',
        c => c,
    };
    let unit: String = unit.chars().map(usual).collect();
    if unit == "°" { "deg".into() } else { unit }
}

/// Returns the sign of the unit with this name.
fn sign_of(name: &str) -> Option<&'static str> {
    let is_it = |(known, _): &&(&str, &str)| known.eq_ignore_ascii_case(name);
    NAMES.iter().find(is_it).map(|(_, sign)| *sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_known() {
        for unit in [
            "C",
            "°C",
            "º C",
            "℃",
            "deg C",
            "degC",
            "degrees C",
            "Celsius",
            "F",
            "K",
            "%",
            "%RH",
            "mV",
            "kPa",
            "µA",
            "μA",
            "uA",
            "kΩ",
            "ohms",
            "l/min",
            "L/h",
            "m3/h",
            "m³/h",
            "kg/m3",
            "m/s2",
            "m/s^2",
            "m*s-2",
            "1/min",
            "µS/cm",
            "RPM",
            "rpm",
            "dB",
            "bar",
            "mbar",
            "hPa",
            "min",
            "°",
            "deg",
            "kWh",
            "kvar",
        ] {
            assert!(is_known(unit), "{unit}");
        }
        for word in [
            "", "error", "stale", "bad", "ok", "OK", "no", "on", "na", "n/a", "apples", "of", "pm",
            "2", "1/2", "1", "/", "m//s", "e3", "C 46", "C error", "a/b/c/d", "(error)",
        ] {
            assert!(!is_known(word), "{word}");
        }
    }

    #[test]
    fn equal_units_may_be_written_in_two_ways() {
        let check = |one: &str, other: &str, expected| {
            assert_eq!(is_same(one, other), expected, "{one} {other}");
        };
        check("C", "°C", true);
        check("deg C", "°C", true);
        check("celsius", "°C", true);
        check("℃", "°C", true);
        check("℉", "F", true);
        check("℉", "℃", false);
        check("L/min", "l/min", true);
        check("uS/cm", "µS/cm", true);
        check("m3/h", "m³/h", true);
        check("F", "°C", false);
        check("mW", "MW", false);
        check("°", "degrees", true);
        check("kW", "W", false);
        check("pieces", "pieces", true);
    }
}
