//! What the status tells of the parts of a device: units on a bus, a session with a broker.
//!
//! A driver's thread writes it when it likes, the daemon reads it when somebody asks; the scan has
//! nothing to do with it. What programs shall see of it is an input like any other.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

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

/// A window on a device's parts. Clones look at the same.
#[derive(Debug, Clone, Default)]
pub struct Monitor(Arc<Mutex<Vec<Part>>>);

impl Monitor {
    /// The parts, as they were told last.
    pub fn parts(&self) -> Vec<Part> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, parts: Vec<Part>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = parts;
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
