//! The settings of a simulated device, as a `[[device]]` table in TOML.
//!
//! Points are only named here. `wiring.rs` finds them and checks what depends on them. serde checks
//! the form of the table and refuses unknown keys.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::driver::{Injection, duration};
use crate::process::image::Value;

/// A simulated device. Inputs that nothing here drives keep the value that an operator sets.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The tanks; in TOML one table or a list of tables.
    #[serde(deserialize_with = "one_or_many")]
    pub tank: Vec<Tank>,
    /// The signal generators.
    pub signal: Vec<Signal>,
    /// The wires from outputs straight back to inputs.
    pub loopback: Vec<Loopback>,
    /// The inputs that follow a file.
    pub script: Option<Script>,
    /// A failure that is planned ahead.
    pub fault: Option<Plan>,
    /// The first values of inputs that nothing drives; without an entry 0 or false.
    pub initial: BTreeMap<String, Value>,
}

/// A tank with an inflow valve, a drain that is always open, and a level sensor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tank {
    /// The input that shows the level, in percent.
    pub level: String,
    /// The output that opens the valve: 0 to 100 percent, or a bool for shut and open.
    pub inflow: String,
    /// The drain at a level of 100 %. It is less at a lower level, by the square root of the level.
    pub drain_percent_per_s: f64,
    /// The inflow through the open valve.
    pub inflow_percent_per_s: f64,
    /// The level at the start, in percent.
    #[serde(default)]
    pub initial: f64,
}

/// A generator for one input. A bool is on while the signal is above the middle of low and high.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "shape", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields mean the same in every shape: point, period, low, high")]
pub enum Signal {
    /// The value `value` all the time.
    Constant { point: String, value: Value },
    /// A sine that starts in the middle and rises.
    Sine {
        point: String,
        #[serde(with = "duration")]
        period: Duration,
        #[serde(default)]
        low: f64,
        #[serde(default = "one")]
        high: f64,
    },
    /// High for the part `duty` of each period (0 to 1), then low.
    Square {
        point: String,
        #[serde(with = "duration")]
        period: Duration,
        #[serde(default = "half")]
        duty: f64,
        #[serde(default)]
        low: f64,
        #[serde(default = "one")]
        high: f64,
    },
    /// A rise from low to high in each period, and then at once back to low.
    Ramp {
        point: String,
        #[serde(with = "duration")]
        period: Duration,
        #[serde(default)]
        low: f64,
        #[serde(default = "one")]
        high: f64,
    },
    /// Random numbers spread evenly between low and high. The same seed gives the same noise at the
    /// same time.
    Noise {
        point: String,
        #[serde(default)]
        seed: u64,
        #[serde(default)]
        low: f64,
        #[serde(default = "one")]
        high: f64,
    },
}

/// The default duty: high for half of the period.
fn half() -> f64 {
    0.5
}

/// The default upper end of a signal. With the lower end 0 it suits a bool.
fn one() -> f64 {
    1.0
}

/// A wire from an output to an input. The raw bits travel, so both have the same type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loopback {
    /// An output of this device.
    pub from: String,
    /// An input of this device.
    pub to: String,
}

/// Inputs that follow a CSV file; `script.rs` describes its form.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The file. It is opened under exactly this path; the code that loads the configuration makes
    /// the path absolute.
    pub file: PathBuf,
    /// Whether the script starts again at the time of the last row. Otherwise the last row holds.
    #[serde(default)]
    pub repeat: bool,
}

/// The longest hang. A hang is for practice, so it must end before an operator doubts that it does.
pub(super) const MOST_HANG: Duration = Duration::from_secs(60);

/// A failure that comes by itself. Its times count from the first call of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PlanFile")]
pub struct Plan {
    /// The failure.
    pub injection: Injection,
    /// When the failure begins.
    pub after: Duration,
    /// How long the failure lasts; for ever if `None`.
    pub lasting: Option<Duration>,
}

impl Plan {
    /// The failure at the time `elapsed`, if there is one then.
    pub(super) fn at(&self, elapsed: Duration) -> Option<Injection> {
        let since = elapsed.checked_sub(self.after)?;
        self.lasting.is_none_or(|lasting| since < lasting).then_some(self.injection)
    }
}

/// A plan as the file has it: flat, with keys that fit one kind only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    kind: Kind,
    #[serde(default, with = "duration")]
    after: Duration,
    #[serde(default, deserialize_with = "duration::some")]
    r#for: Option<Duration>,
    #[serde(default, deserialize_with = "duration::some")]
    delay: Option<Duration>,
    seed: Option<u64>,
}

/// The kind of a planned failure, as the file spells it.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Disconnect,
    Freeze,
    Slow,
    Garbage,
    Hang,
}

impl TryFrom<PlanFile> for Plan {
    type Error = &'static str;

    fn try_from(file: PlanFile) -> Result<Self, Self::Error> {
        let injection = match (file.kind, file.delay, file.seed) {
            (Kind::Hang, None, None) => match file.r#for {
                Some(lasting) if lasting <= MOST_HANG => Injection::Hang { lasting },
                _ => return Err("kind `hang` wants `for`, such as \"1s\", at most a minute"),
            },
            (Kind::Disconnect, None, None) => Injection::Disconnect,
            (Kind::Freeze, None, None) => Injection::Freeze,
            (Kind::Slow, Some(delay), None) => Injection::Slow { delay },
            (Kind::Garbage, None, seed) => Injection::Garbage { seed: seed.unwrap_or_default() },
            (Kind::Slow, None, _) => return Err("kind `slow` wants `delay`, such as \"200ms\""),
            (Kind::Slow, _, Some(_)) => return Err("`seed` belongs to kind `garbage` only"),
            (_, Some(_), _) => return Err("`delay` belongs to kind `slow` only"),
            (_, None, Some(_)) => return Err("`seed` belongs to kind `garbage` only"),
        };
        Ok(Self { injection, after: file.after, lasting: file.r#for })
    }
}

/// Reads one table or a list of tables. It is written by hand, because an untagged enum would
/// report every mistake inside the table as "did not match any variant".
fn one_or_many<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct OneOrMany<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table or a list of tables")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            Ok(vec![T::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }
    from.deserialize_any(OneOrMany(PhantomData))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The table as users write it, read as the driver's own table and through the list of
    /// drivers.
    #[test]
    fn the_whole_stanza_is_understood() {
        let text = r#"
            tank = { level = "tank.level", inflow = "tank.inflow", drain_percent_per_s = 2.0,
                     inflow_percent_per_s = 6, initial = 40.0 }
            signal = [
                { point = "a", shape = "sine", period = "10s", low = 0, high = 100 },
                { point = "b", shape = "constant", value = true },
                { point = "c", shape = "square", period = "1s 500ms" },
                { point = "d", shape = "ramp", period = "3s", high = 7 },
                { point = "e", shape = "noise", seed = 5 },
            ]
            loopback = [{ from = "out.point", to = "in.point" }]
            script = { file = "inputs.csv", repeat = true }
            fault = { kind = "slow", after = "10s", for = "5s", delay = "200ms" }
            initial = { "button.estop_ok" = true, speed = 3 }
        "#;
        let plain: Config = toml::from_str(text).unwrap();
        let keys = toml::Deserializer::parse(text).unwrap();
        let listed = crate::driver::Config::read("sim", keys, Path::new("")).unwrap();
        assert_eq!(Some(crate::driver::Config::Sim(Box::new(plain.clone()))), listed);
        assert_eq!(plain.tank[0].inflow_percent_per_s, 6.0);
        let (point, period) = ("c".into(), Duration::from_millis(1500));
        let square = Signal::Square { point, period, duty: 0.5, low: 0.0, high: 1.0 };
        assert_eq!(plain.signal[2], square);
        let injection = Injection::Slow { delay: Duration::from_millis(200) };
        let (after, lasting) = (Duration::from_secs(10), Some(Duration::from_secs(5)));
        assert_eq!(plain.fault, Some(Plan { injection, after, lasting }));
        assert_eq!(plain.initial["speed"], Value::Int(3));
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    /// Checks that `text` is refused with a message that contains `expected`.
    fn check(text: &str, expected: &str) {
        let message = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}\nsays: {message}\nnot: {expected}");
    }

    #[test]
    fn mistakes_are_named() {
        check("tnak = 1", "unknown field `tnak`");
        check("tank = 1", "a table or a list of tables");
        check("tank = { level = \"a\", inflwo = \"b\" }", "unknown field `inflwo`");
        check("signal = [{ point = \"a\", shape = \"sin\" }]", "unknown variant `sin`");
        check("signal = [{ point = \"a\", shape = \"sine\" }]", "missing field `period`");
        check("signal = [{ point = \"a\", shape = \"noise\", duty = 1 }]", "unknown field `duty`");
        let period = |period| format!("signal = [{{point=\"a\",shape=\"ramp\",period={period}}}]");
        check(&period("5"), "a duration with its unit");
        check(&period("\"5 apples\""), "\"5 apples\" is not a duration");
        check("fault = { kind = \"slow\" }", "wants `delay`");
        check("fault = { kind = \"freeze\", delay = \"1s\" }", "`delay` belongs to");
        check("fault = { kind = \"slow\", delay = \"1s\", seed = 1 }", "`seed` belongs to");
        check("fault = { kind = \"disconnect\", seed = 1 }", "`seed` belongs to");
        check("fault = { kind = \"hang\" }", "wants `for`");
        check("fault = { kind = \"hang\", for = \"61s\" }", "at most a minute");
        check("fault = { kind = \"hang\", for = \"1s\", delay = \"1s\" }", "`delay` belongs to");
        check("fault = { kind = \"explode\" }", "unknown variant `explode`");
    }

    #[test]
    fn a_plan_has_a_beginning_and_an_end() {
        let injection = Injection::Freeze;
        let second = Duration::from_secs(1);
        let plan = Plan { injection, after: second, lasting: Some(second) };
        let at = |millis| plan.at(Duration::from_millis(millis)).is_some();
        assert_eq!([999, 1000, 1999, 2000].map(at), [false, true, true, false]);
        assert!(Plan { lasting: None, ..plan }.at(Duration::MAX).is_some());
    }
}
