//! The parser for a recipe file. The file is strict JSON: an unknown key is an error. An error
//! names the place of the mistake, in most cases by line and column.
//!
//! The file is parsed twice: first the head, which is valid for the whole recipe, then the passes.
//! Each pass is checked against the head while it is parsed. So the error text for a pass contains
//! the number of the pass, the line and the column. `recipe/head.rs` defines the head. `recipe.rs`
//! runs the module.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::head::{Head, ImageSize};
use super::named::Named;
use crate::file;
use crate::process::image::{Points, Value};
use crate::process::variable::{MAX_NAME_BYTES, Variables};

/// The maximum size of a recipe file, in bytes. A recipe with one pass per second for a whole day
/// has half this size.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A checked recipe.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The declared points of the images. Only modules with version 1 of the contract access values
    /// by points. Most recipes declare no points.
    pub(super) points: Points,
    /// The variables that exist before `init`.
    pub(super) variables: Variables,
    /// Whether all outputs are set to zero before each pass.
    pub(super) clear_outputs: bool,
    /// The passes. Their times never decrease.
    pub(super) passes: Vec<Pass>,
}

/// One poll: the values that the module gets, and the expected results.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pass {
    /// The time of the virtual clock in this pass.
    #[serde(deserialize_with = "duration")]
    pub(super) elapsed: Duration,
    /// The first bytes of the input image. The bytes after them do not change.
    #[serde(default)]
    pub(super) inputs: Vec<u8>,
    /// The expected first bytes of the output image. The bytes after them are not compared.
    #[serde(default)]
    pub(super) expected_outputs: Vec<u8>,
    /// All messages that must be logged, in any order. With `None`, messages are not compared.
    pub(super) expected_log_messages: Option<Vec<String>>,
    /// The variables that are written and committed before the poll, with their values.
    #[serde(default)]
    pub(super) set_variables: Named<Value>,
    /// The variables that are compared after the poll, with their expected values.
    #[serde(default)]
    pub(super) expected_variables: Named<Value>,
}

impl Recipe {
    /// Reads and checks a recipe file.
    ///
    /// # Errors
    /// When the file cannot be read or is not a valid recipe. The chain of causes names the file
    /// and the mistake, and in most cases the pass, the line and the column.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = text(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Parses the text twice: first the head, then the passes, which are checked against the head.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let head: Head = serde_json::from_str(text)?;
        let points = head.points()?;
        let variables = head.variables()?;
        let mut json = serde_json::Deserializer::from_str(text);
        let passes = Passes(&head.image).deserialize(&mut json)?;
        Ok(Self { points, variables, clear_outputs: head.clear_outputs, passes })
    }
}

/// Reads the text of a recipe file. Returns an error if the file is larger than the maximum size or
/// is not UTF-8.
fn text(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= MAX_FILE_BYTES,
        "the file is too large: a recipe has at most {MAX_FILE_BYTES} bytes"
    );
    String::from_utf8(bytes).context("the file is not UTF-8 text; a recipe is JSON in UTF-8")
}

/// Parses a duration such as `50ms`.
fn duration<'de, D: Deserializer<'de>>(json: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(json)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format!(
            "elapsed \"{text}\": {error}; write a time such as \"50ms\" or \"1s\""
        ))
    })
}

/// A parser for the passes of a recipe. It knows the sizes of the images.
struct Passes<'a>(&'a ImageSize);

impl<'de> DeserializeSeed<'de> for Passes<'_> {
    type Value = Vec<Pass>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<Pass>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Passes<'_> {
    type Value = Vec<Pass>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a recipe, {\"passes\": [...]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Pass>, A::Error> {
        let mut passes = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "passes" => passes = map.next_value_seed(PassList(self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(passes)
    }
}

/// A parser for the list of passes.
struct PassList<'a>(&'a ImageSize);

impl<'de> DeserializeSeed<'de> for PassList<'_> {
    type Value = Vec<Pass>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<Pass>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PassList<'_> {
    type Value = Vec<Pass>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of passes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Pass>, A::Error> {
        let mut passes: Vec<Pass> = Vec::new();
        loop {
            // The text of an error of serde_json ends with the line and the column. When serde_json
            // makes the new error, it reads both from the end of the text. So the new error has the
            // same position.
            let numbered =
                |problem: String| A::Error::custom(format!("pass {}: {problem}", passes.len() + 1));
            let pass = list.next_element::<Pass>().map_err(|error| numbered(error.to_string()))?;
            let Some(pass) = pass else { break };
            check(&pass, passes.last(), self.0).map_err(numbered)?;
            passes.push(pass);
        }
        if passes.is_empty() {
            return Err(A::Error::custom("a recipe needs at least one pass"));
        }
        Ok(passes)
    }
}

/// Checks that a pass is not earlier than the pass before it, that the names in `set_variables`
/// have a valid length, and that the bytes of the pass fit the images.
fn check(pass: &Pass, before: Option<&Pass>, image: &ImageSize) -> Result<(), String> {
    let before = before.map_or(Duration::ZERO, |pass| pass.elapsed);
    if pass.elapsed < before {
        let (now, before) =
            (humantime::format_duration(pass.elapsed), humantime::format_duration(before));
        return Err(format!("elapsed {now} is less than {before}, the time of the previous pass"));
    }
    let names = pass.set_variables.0.iter().map(|(name, _)| name);
    if let Some(name) = names.into_iter().find(|n| n.is_empty() || n.len() > MAX_NAME_BYTES) {
        return Err(format!(
            "set_variables: \"{name}\" is no name; a name has 1 to {MAX_NAME_BYTES} bytes"
        ));
    }
    let fits = |key: &str, image_key: &str, len: usize, size: u32| {
        if len <= size as usize {
            return Ok(());
        }
        Err(format!("{key} has {len} bytes, the image has {size}; raise image.{image_key}"))
    };
    fits("inputs", "inputs", pass.inputs.len(), image.inputs)?;
    fits("expected_outputs", "outputs", pass.expected_outputs.len(), image.outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the error of a recipe. The expected text is empty if the recipe is valid.
    fn check(text: &str, expected: &str) {
        let problem = Recipe::parse(text).err().map(|error| format!("{error:#}"));
        assert_eq!(problem.unwrap_or_default(), expected, "{text}");
    }

    fn check_pass(second: &str, expected: &str) {
        check(&format!("{{\"passes\":[{{\"elapsed\":\"50ms\"}},\n{second}]}}"), expected);
    }

    #[test]
    fn a_mistake_in_a_pass_is_named_with_its_place() {
        let good = r#"{"elapsed":"1s","inputs":[1,2],"expected_outputs":[0,1],
            "expected_log_messages":["Polling"],"set_variables":{"a":1,"b":true},
            "expected_variables":{"c":1.5}}"#;
        check_pass(good, "");
        check_pass(
            r#"{"elapsed":"1s","input":[1]}"#,
            "pass 2: unknown field `input`, expected one of `elapsed`, `inputs`, \
             `expected_outputs`, `expected_log_messages`, `set_variables`, `expected_variables` \
             at line 2 column 23",
        );
        check_pass(
            r#"{"elapsed":"1s","inputs":[1,256]}"#,
            "pass 2: invalid value: integer `256`, expected u8 at line 2 column 31",
        );
        check_pass("{}", "pass 2: missing field `elapsed` at line 2 column 2");
        check_pass(
            r#"{"elapsed":"5"}"#,
            "pass 2: elapsed \"5\": time unit needed, for example 5sec or 5ms; write a time such \
             as \"50ms\" or \"1s\" at line 2 column 15",
        );
        check_pass(
            r#"{"elapsed":"49ms"}"#,
            "pass 2: elapsed 49ms is less than 50ms, the time of the previous pass \
             at line 2 column 19",
        );
        check_pass(
            r#"{"elapsed":"1s","set_variables":{"a":"x"}}"#,
            "pass 2: `a`: invalid type: string \"x\", expected true, false or a number \
             at line 2 column 40",
        );
        check_pass(
            r#"{"elapsed":"1s","set_variables":{"a":1,"a":2}}"#,
            "pass 2: `a` occurs twice at line 2 column 42",
        );
        check_pass(
            r#"{"elapsed":"1s","set_variables":{"":1}}"#,
            "pass 2: set_variables: \"\" is no name; a name has 1 to 128 bytes at line 2 column 40",
        );
        check_pass(
            &format!(r#"{{"elapsed":"1s","inputs":{:?}}}"#, [0; 65]),
            "pass 2: inputs has 65 bytes, the image has 64; raise image.inputs \
             at line 2 column 222",
        );
        check_pass(
            "7",
            "pass 2: invalid type: integer `7`, expected struct Pass at line 2 column 1",
        );
    }

    #[test]
    fn a_mistake_in_the_head_is_named() {
        let check_head = |head: &str, expected: &str| {
            check(&format!("{{{head},\n\"passes\":[{{\"elapsed\":\"0s\"}}]}}"), expected);
        };
        check_head(r#""clear_outputs":true,"image":{"inputs":0,"outputs":65536}"#, "");
        check_head(
            r#""image":{"outputs":65537}"#,
            "an image has at most 65536 bytes at line 1 column 26",
        );
        check_head(
            r#""pases":1"#,
            "unknown field `pases`, expected one of `passes`, `image`, `clear_outputs`, \
             `variables`, `points` at line 1 column 8",
        );
        check_head(r#""variables":{"a":{"type":"double","value":1},"b":{"type":"int"}}"#, "");
        check_head(
            r#""variables":{"a":{"type":"int","value":1.5}}"#,
            "`a`: the value 1.5 is no int; write a whole number of 32 bits at line 1 column 45",
        );
        check_head(
            r#""variables":{"a":{"type":"real"}}"#,
            "`a`: unknown variant `real`, expected one of `boolean`, `int`, `double` \
             at line 1 column 32",
        );
        let point = |rest: &str| format!(r#""points":[{{"name":"p","direction":"out",{rest}}}]"#);
        check_head(&point(r#""type":"bool","address":"8.1""#), "");
        check_head(
            &point(r#""type":"bool","address":"8.8""#),
            "\"8.8\" is no address; write \"8\", or \"8.1\" for a bit (0 to 7) at line 1 column 71",
        );
        check_head(
            &point(r#""type":"f64","address":"60""#),
            "points: `p` needs bytes 60..68 of the image, which has 64 bytes; raise image.outputs \
             or lower the address of the point",
        );
        check_head(
            &point(r#""type":"u8","address":"3.1""#),
            "points: `p` is a u8, which has no address of a bit; write the address as \"3\"",
        );
        check_head(
            &point(r#""type":"u8","address":"3","scale":0"#),
            "points: `p` has a scale of 0; write a number other than 0",
        );
        check(r#"{"passes":[]}"#, "a recipe needs at least one pass at line 1 column 12");
        check("{}", "missing field `passes` at line 1 column 2");
        check("", "EOF while parsing a value at line 1 column 0");
    }
}
