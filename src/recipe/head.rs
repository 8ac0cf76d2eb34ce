//! The head of a recipe: the sizes of the images, the setting `clear_outputs`, and the variables
//! and points that exist before `init`.
//!
//! The head is valid for all passes. `recipe/file.rs` parses the head first, then the passes.
//! `recipe.rs` runs a recipe.

use anyhow::{Context, ensure};
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::named::Named;
use crate::process::image::{
    Direction, MAX_IMAGE_BYTES, MAX_POINTS, Point, PointKind, Points, Value,
};
use crate::process::variable::{MAX_NAME_BYTES, MAX_VARIABLES, Variable, VariableKind, Variables};

/// The keys of a recipe. The contents of the key `passes` are skipped here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    #[serde(rename = "passes")]
    _passes: IgnoredAny,
    #[serde(default)]
    pub(super) image: ImageSize,
    #[serde(default)]
    pub(super) clear_outputs: bool,
    #[serde(default)]
    variables: Named<Declared>,
    #[serde(default)]
    points: Vec<DeclaredPoint>,
}

impl Head {
    /// Returns the variables that exist before `init`.
    pub(super) fn variables(&self) -> anyhow::Result<Variables> {
        let mut variables = Variables::default();
        for (name, declared) in &self.variables.0 {
            variables.write(name, declared.0).ok().with_context(|| {
                format!(
                    "variables: `{name}` cannot be declared: a name has 1 to {MAX_NAME_BYTES} \
                     bytes, and there are at most {MAX_VARIABLES} variables"
                )
            })?;
        }
        variables.commit();
        Ok(variables)
    }

    /// Returns the declared points. Before that, checks the number of points, and the name,
    /// address, scale and offset of each point.
    pub(super) fn points(&self) -> anyhow::Result<Points> {
        ensure!(self.points.len() <= MAX_POINTS, "points: there are at most {MAX_POINTS} points");
        let mut points: Vec<Point> = Vec::new();
        for point in self.points.iter().map(DeclaredPoint::point) {
            let name = &point.name;
            let twice = points.iter().any(|other| other.name == *name);
            ensure!(
                !twice,
                "points: two points have the name `{name}`; give each a different name"
            );
            let (image, size) = match point.direction {
                Direction::In => ("inputs", self.image.inputs),
                Direction::Out => ("outputs", self.image.outputs),
            };
            ensure!(
                point.bytes().end <= size as usize,
                "points: `{name}` needs bytes {:?} of the image, which has {size} bytes; raise \
                 image.{image} or lower the address of the point",
                point.bytes()
            );
            ensure!(
                point.bit == 0 || point.kind == PointKind::Bool,
                "points: `{name}` is a {}, which has no address of a bit; write the address as \
                 \"{}\"",
                point.kind,
                point.byte
            );
            ensure!(
                point.scale.is_finite() && point.scale != 0.0 && point.offset.is_finite(),
                "points: `{name}` has a scale of {}; write a number other than 0",
                point.scale
            );
            points.push(point);
        }
        Ok(Points::new(points, self.image.inputs as usize, self.image.outputs as usize))
    }
}

/// Sizes of the input image and the output image, in bytes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ImageSize {
    #[serde(deserialize_with = "image_bytes")]
    pub(super) inputs: u32,
    #[serde(deserialize_with = "image_bytes")]
    pub(super) outputs: u32,
}

impl Default for ImageSize {
    /// Returns the default sizes of the recipe format. They are enough for most small programs.
    fn default() -> Self {
        Self { inputs: 64, outputs: 64 }
    }
}

/// Parses the size of an image, and refuses a size that is too large.
fn image_bytes<'de, D: Deserializer<'de>>(json: D) -> Result<u32, D::Error> {
    let bytes = u32::deserialize(json)?;
    if bytes > MAX_IMAGE_BYTES {
        return Err(D::Error::custom(format!("an image has at most {MAX_IMAGE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// A variable that exists before `init`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "TypedValue")]
struct Declared(Variable);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
/// A variable as it is written in the recipe file: its type, and an optional first value. Without
/// this value, the variable begins with false, 0 or 0.0.
struct TypedValue {
    #[serde(rename = "type")]
    kind: VariableKind,
    value: Option<Value>,
}

impl TryFrom<TypedValue> for Declared {
    type Error = String;

    fn try_from(TypedValue { kind, value }: TypedValue) -> Result<Self, String> {
        let Some(value) = value else { return Ok(Self(Variable::initial(kind))) };
        Variable::from_value(kind, value)
            .map(Self)
            .ok_or_else(|| format!("the value {value} is no {kind}; {}", wanted(kind)))
    }
}

/// Returns a hint for error messages: the JSON notation of a value of type `kind`.
pub(super) fn wanted(kind: VariableKind) -> &'static str {
    match kind {
        VariableKind::Boolean => "write true or false",
        VariableKind::Int => "write a whole number of 32 bits",
        VariableKind::Double => "write a number",
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredPoint {
    name: String,
    direction: Direction,
    #[serde(rename = "type")]
    kind: PointKind,
    address: Address,
    #[serde(default = "plain_scale")]
    scale: f64,
    #[serde(default)]
    offset: f64,
}

fn plain_scale() -> f64 {
    1.0
}

impl DeclaredPoint {
    /// Converts the declared point to a point of the process image.
    fn point(&self) -> Point {
        Point {
            byte: self.address.byte,
            bit: self.address.bit,
            scale: self.scale,
            offset: self.offset,
            ..Point::new(self.name.clone(), self.direction, self.kind)
        }
    }
}

/// An address in an image. `"8"` is byte 8. For a bool, `"8.1"` is bit 1 of byte 8.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Address {
    byte: u32,
    bit: u8,
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (byte, bit) = text.split_once('.').unwrap_or((&text, "0"));
        match (byte.parse(), bit.parse()) {
            (Ok(byte), Ok(bit @ 0..=7)) if byte < MAX_IMAGE_BYTES => Ok(Self { byte, bit }),
            _ => {
                Err(format!("\"{text}\" is no address; write \"8\", or \"8.1\" for a bit (0 to 7)"))
            }
        }
    }
}
