//! The JSON objects in a recipe whose keys are names of variables.
//!
//! This file checks only two things: no name occurs twice, and the number of names is within the
//! limit. `recipe/head.rs` and `recipe/file.rs` check the names and the values.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::process::variable::MAX_VARIABLES;

/// The names and values of a JSON object, as a list in the order of the recipe file. Each name
/// occurs once. The list has at most [`MAX_VARIABLES`] names. Without this limit, the search for a
/// name that occurs twice could take a long time.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if entries.len() == MAX_VARIABLES {
                        let why = format!(
                            "more than {MAX_VARIABLES} names; this is the largest number of \
                             variables"
                        );
                        return Err(A::Error::custom(why));
                    }
                    if entries.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format!("`{name}` occurs twice")));
                    }
                    let value = map.next_value();
                    let value =
                        value.map_err(|error| A::Error::custom(format!("`{name}`: {error}")))?;
                    entries.push((name, value));
                }
                Ok(Named(entries))
            }
        }
        json.deserialize_map(Entries(PhantomData))
    }
}
