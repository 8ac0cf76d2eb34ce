//! What the status tells of the parts of a device: units on a bus, a session with a broker.
//!
//! A driver's thread writes it when it likes, the daemon reads it when somebody asks; the scan has
//! nothing to do with it. What programs shall see of it is an input like any other.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::watchdog::Watchdog;
use crate::text::is_or_are;

/// One part of a device, as the status shows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Part {
    /// Its name, unique in the device.
    pub name: String,
    /// Whether it does what it should.
    pub ok: bool,
    /// Its state in a word or a few, such as `online`.
    pub state: String,
    /// Counters and measured values, in the order in which they are shown. A name ends with its
    /// unit, such as `rtt_p50_us`. An object in the JSON.
    #[serde(with = "object")]
    pub facts: Vec<(String, f64)>,
}

/// Pairs in their order as an object.
mod object {
    use std::fmt;

    use serde::de::{Deserializer, MapAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(
        facts: &[(String, f64)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(facts.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(String, f64)>, D::Error> {
        struct Facts;
        impl<'de> Visitor<'de> for Facts {
            type Value = Vec<(String, f64)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut facts = Vec::new();
                while let Some(fact) = map.next_entry()? {
                    facts.push(fact);
                }
                Ok(facts)
            }
        }
        from.deserialize_map(Facts)
    }
}

/// A window on a device's parts, and on its watchdog. Clones look at the same.
#[derive(Debug, Clone, Default)]
pub struct Monitor {
    parts: Arc<Mutex<Vec<Part>>>,
    watchdog: Arc<Watchdog>,
}

impl Monitor {
    pub(super) fn new(watchdog: &Arc<Watchdog>) -> Self {
        Self { parts: Arc::default(), watchdog: Arc::clone(watchdog) }
    }

    /// The parts, as they were told last. While the scan stands it is one of them.
    pub fn parts(&self) -> Vec<Part> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        parts.into_iter().chain(self.stall()).collect()
    }

    /// What the device makes of a scan that stands.
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    fn stall(&self) -> Option<Part> {
        self.watchdog.is_tripped().then(|| {
            let (outputs, missing) = (self.watchdog.outputs(), self.watchdog.missing());
            let state = match (outputs, missing) {
                (0, _) => "stands".to_owned(),
                (_, 0) => "stands; outputs are safe and confirmed".to_owned(),
                _ => {
                    let are = is_or_are(missing);
                    format!("stands; outputs are made safe, {missing} {are} not yet CONFIRMED")
                }
            };
            let trips = self.watchdog.trips() as f64;
            let facts = [("safe_outputs", outputs as f64), ("unconfirmed", missing as f64)];
            let facts = facts.into_iter().chain([("stalls", trips)]);
            let facts = facts.map(|(name, count)| (name.to_owned(), count)).collect();
            Part { name: "scan".into(), ok: false, state, facts }
        })
    }

    pub(super) fn set(&self, parts: Vec<Part>) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = parts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_an_object_in_their_order() {
        let facts = vec![("requests".to_owned(), 3.0), ("load_percent".to_owned(), 0.5)];
        let part = Part { name: "u".into(), ok: true, state: "online".into(), facts };
        let text = serde_json::to_string(&part).unwrap();
        assert!(text.ends_with(r#""facts":{"requests":3.0,"load_percent":0.5}}"#), "{text}");
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), part);
    }
}
