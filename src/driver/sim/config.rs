//! The settings of a simulated device: its `[[device]]` table in TOML.
//!
//! The table refers to points by their names. `wiring.rs` finds the points, and the other files of
//! this folder check the settings that depend on the points. The crate serde checks the types of
//! the values and refuses unknown keys.
//!
//! ```toml
//! [[device]]
//! name = "plant"
//! driver = "sim"
//! tank = { level = "tank.level", inflow = "tank.inflow", drain_percent_per_s = 2.0,
//!          inflow_percent_per_s = 6.0, initial = 40.0 }
//! signal = [{ point = "tank.temperature", shape = "sine", period = "10s", low = 0, high = 100 }]
//! fault = { kind = "slow", after = "10s", for = "5s", delay = "200ms" }
//! ```

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

/// A simulated device. If no model drives an input, the input keeps the value that an operator
/// sets.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The tanks. In TOML, the key contains one table or a list of tables.
    #[serde(deserialize_with = "one_or_many")]
    pub tank: Vec<Tank>,
    /// The signal generators.
    pub signal: Vec<Signal>,
    /// The connections that copy an output directly to an input.
    pub loopback: Vec<Loopback>,
    /// The inputs that follow a file.
    pub script: Option<Script>,
    /// A failure at a planned time.
    pub fault: Option<Plan>,
    /// The first values of inputs that no model drives. Of these inputs, an input without an entry
    /// starts with 0 or false.
    pub initial: BTreeMap<String, Value>,
}

/// A tank with an inflow valve, a drain that is always open, and a level sensor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tank {
    /// The input that shows the level, in percent.
    pub level: String,
    /// The output that opens the valve: 0 to 100 percent, or a bool with false for closed.
    pub inflow: String,
    /// The drain at a level of 100 %, in percent per second. At a lower level, the drain decreases
    /// with the square root of the level.
    pub drain_percent_per_s: f64,
    /// The inflow through the fully open valve, in percent per second.
    pub inflow_percent_per_s: f64,
    /// The level at the start, in percent.
    #[serde(default)]
    pub initial: f64,
}

/// A generator for one input. A bool input is true while the signal is above the middle between low
/// and high.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "shape", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields mean the same in every shape: point, period, low, high")]
pub enum Signal {
    /// The constant `value`.
    Constant { point: String, value: Value },
    /// A sine wave. The wave starts in the middle between low and high, and rises.
    Sine {
        point: String,
        #[serde(with = "duration")]
        period: Duration,
        #[serde(default)]
        low: f64,
        #[serde(default = "one")]
        high: f64,
    },
    /// A square wave. The signal is high for the part `duty` (0 to 1) of each period and then low.
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
    /// A ramp. In each period, the signal rises from low to high and then jumps back to low.
    Ramp {
        point: String,
        #[serde(with = "duration")]
        period: Duration,
        #[serde(default)]
        low: f64,
        #[serde(default = "one")]
        high: f64,
    },
    /// Random numbers with an even distribution between low and high. With the same seed, the
    /// signal has the same value at the same time.
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

/// The default duty: the signal is high for half of the period.
fn half() -> f64 {
    0.5
}

/// The default value of `high`. The default of `low` is 0, so the two defaults suit a bool input.
fn one() -> f64 {
    1.0
}

/// A connection from an output to an input. The raw bits are copied, so both points must have the
/// same type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loopback {
    /// The name of an output of this device.
    pub from: String,
    /// The name of an input of this device.
    pub to: String,
}

/// Inputs that follow a CSV file. `script.rs` describes the rows and columns of this file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The path of the CSV file. `settle` in `sim.rs` makes this path absolute. `script.rs` then
    /// opens exactly this path.
    pub file: PathBuf,
    /// Whether the script starts again at the time of the last row. If false, the values of the
    /// last row stay for ever.
    #[serde(default)]
    pub repeat: bool,
}

/// The maximum time of a hang. A hang is for practice, so it must end before an operator believes
/// that the daemon has a real defect.
pub(super) const MOST_HANG: Duration = Duration::from_secs(60);

/// A failure at a planned time. The device measures the times from its first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PlanFile")]
pub struct Plan {
    /// The kind of the failure with its settings.
    pub injection: Injection,
    /// The time at which the failure begins.
    pub after: Duration,
    /// The duration of the failure; `None` if the configuration plans no end.
    pub lasting: Option<Duration>,
}

impl Plan {
    /// The failure that is active at the time `elapsed`; `None` if no failure is active.
    pub(super) fn at(&self, elapsed: Duration) -> Option<Injection> {
        let since = elapsed.checked_sub(self.after)?;
        self.lasting.is_none_or(|lasting| since < lasting).then_some(self.injection)
    }
}

/// The TOML table `fault`: one flat table for all kinds of failure. `try_from` checks which keys
/// belong to the kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    kind: PlanKind,
    #[serde(default, with = "duration")]
    after: Duration,
    #[serde(default, deserialize_with = "duration::some")]
    r#for: Option<Duration>,
    #[serde(default, deserialize_with = "duration::some")]
    delay: Option<Duration>,
    seed: Option<u64>,
}

/// The kind of a planned failure: the value of the key `kind` in the TOML table `fault`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlanKind {
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
            (PlanKind::Hang, None, None) => match file.r#for {
                Some(lasting) if lasting <= MOST_HANG => Injection::Hang { lasting },
                _ => return Err("kind `hang` needs `for`, such as \"1s\", at most a minute"),
            },
            (PlanKind::Disconnect, None, None) => Injection::Disconnect,
            (PlanKind::Freeze, None, None) => Injection::Freeze,
            (PlanKind::Slow, Some(delay), None) => Injection::Slow { delay },
            (PlanKind::Garbage, None, seed) => {
                Injection::Garbage { seed: seed.unwrap_or_default() }
            }
            (PlanKind::Slow, None, _) => {
                return Err("kind `slow` needs `delay`, such as \"200ms\"");
            }
            (PlanKind::Slow, _, Some(_)) => return Err("`seed` belongs to kind `garbage` only"),
            (_, Some(_), _) => return Err("`delay` belongs to kind `slow` only"),
            (_, None, Some(_)) => return Err("`seed` belongs to kind `garbage` only"),
        };
        Ok(Self { injection, after: file.after, lasting: file.r#for })
    }
}

/// Reads one table or a list of tables. An untagged enum of serde would be shorter. But an untagged
/// enum would report every mistake inside the table as "did not match any variant". Therefore this
/// code is written by hand.
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

    /// The table as users write it. The test parses the table in two ways: as the driver's own
    /// table, and through the list of drivers.
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
        check("fault = { kind = \"slow\" }", "needs `delay`");
        check("fault = { kind = \"freeze\", delay = \"1s\" }", "`delay` belongs to");
        check("fault = { kind = \"slow\", delay = \"1s\", seed = 1 }", "`seed` belongs to");
        check("fault = { kind = \"disconnect\", seed = 1 }", "`seed` belongs to");
        check("fault = { kind = \"hang\" }", "needs `for`");
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
