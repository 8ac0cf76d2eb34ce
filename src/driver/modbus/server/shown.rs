//! The list `show`: which values of the controller a client can read, and in which registers or
//! bits.
//!
//! At each request, the server finds each requested value by its name. Values may therefore appear
//! and disappear while the server runs: programs create variables, and a reload changes points. If
//! no point and no variable has the name of an entry, the value of this entry is bad, like an input
//! that was never read. `seen.rs` decides the answer for a bad value.

use std::time::Duration;

use serde::Deserialize;

use super::map::Form;
use super::seen::{Instead, Seen};
use crate::driver::OpenError;
use crate::driver::export::Export;
use crate::driver::modbus::wire::register::{Byte, Layout, WordOrder};
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{Direction, Point, PointKind, Points, Quality, Value};

/// The age after which an export is outdated. An export is a copy of the controller's values, which
/// the daemon renews up to fifty times a second. If the newest export is older than this age, the
/// scan has stopped or the daemon no longer renews the export. Then no value of the export is
/// valid.
const OUTDATED: Duration = Duration::from_secs(2);

/// An entry of the list `show`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The name of a point or of a variable.
    pub name: String,
    /// The table in which clients read the value.
    pub table: Table,
    /// The address of the value's bit or first register, counted from 0.
    pub address: u16,
    /// The type of the value in its registers. A table of registers needs this key. In a table of
    /// bits, the type is always bool.
    #[serde(rename = "type")]
    pub kind: Option<PointKind>,
    /// The order of the bytes in the registers. The default is the most significant byte first.
    pub order: Option<WordOrder>,
    /// The half of its register that the value occupies.
    pub byte: Option<Byte>,
    /// The bit of its register that the value occupies.
    pub bit: Option<u8>,
    /// The scale: the value is the number on the wire, multiplied by the scale, plus the offset.
    #[serde(default = "one")]
    pub scale: f64,
    /// The offset, which is added after the multiplication by the scale.
    #[serde(default)]
    pub offset: f64,
    /// The address of the companion in the same table. The companion shows the quality of the
    /// value.
    pub quality: Option<u16>,
    /// The answer to a client while the value is bad, or uncertain and without a companion.
    #[serde(default)]
    pub on_bad: OnBad,
}

fn one() -> f64 {
    1.0
}

/// The key `on_bad` of an entry: the answer to a client while the value is bad, or uncertain and
/// without a companion.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// The server answers with exception 4.
    #[default]
    Exception,
    /// The server answers with the last value that was not bad. The companion shows that this value
    /// is old. If there is no such value, or if the value does not fit its type on the wire, the
    /// server answers with exception 4.
    Keep,
    /// The server answers with this value. The configured number is the value after scale and
    /// offset.
    #[serde(untagged)]
    Value(Value),
}

/// One entry of `show`: a value that clients can read.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) name: String,
    /// A point outside of the process image, with the type, the scale and the offset that the value
    /// has on the wire.
    wire: Point,
    pub(super) instead: Instead,
    pub(super) has_companion: bool,
}

/// Returns the [`Form`] of a value of type `kind` in `table`. `wrong` makes the error if a key does
/// not fit.
pub(super) fn form(
    table: Table,
    kind: PointKind,
    (order, byte, bit): (Option<WordOrder>, Option<Byte>, Option<u8>),
    wrong: &impl Fn(&str, &str, &str) -> OpenError,
) -> Result<Form, OpenError> {
    if !table.is_bits() {
        let layout = Layout::new(kind, order, byte, bit);
        return layout
            .map(Form::Registers)
            .map_err(|misfit| wrong(misfit.key, &misfit.found, &misfit.wanted));
    }
    let needless = [("order", order.is_some()), ("byte", byte.is_some()), ("bit", bit.is_some())];
    match needless.iter().find(|(_, is_there)| *is_there) {
        _ if kind != PointKind::Bool => {
            let found = format!("a {kind} in a table of bits");
            Err(wrong("type", &found, "type \"bool\", or the table \"input\" or \"holding\""))
        }
        Some((key, _)) => Err(wrong(
            key,
            "a table of bits",
            "the table \"input\" or \"holding\", because only registers have this key",
        )),
        None => Ok(Form::Cell),
    }
}

impl Shown {
    /// Plans entry number `n` of the list `show`.
    ///
    /// # Errors
    /// When the value cannot be shown as the entry describes it.
    pub(super) fn plan(show: &Show, n: usize, points: &Points) -> Result<(Self, Form), OpenError> {
        let wrong = |key: &str, found: &str, wanted: &str| {
            OpenError::new(format!("show[{n}].{key}"), found, wanted)
        };
        let kind = match show.kind {
            None if show.table.is_bits() => PointKind::Bool,
            None => {
                return Err(wrong(
                    "type",
                    "nothing",
                    "the type that the value has in registers, such as \"f32\"",
                ));
            }
            Some(kind) => kind,
        };
        let form = form(show.table, kind, (show.order, show.byte, show.bit), &wrong)?;
        if let Some(point) = points.find(&show.name).map(|id| &points[id])
            && (point.kind == PointKind::Bool) != (kind == PointKind::Bool)
        {
            let found = format!("{kind} for {}, which is a {}", show.name, point.kind);
            return Err(wrong(
                "type",
                &found,
                "bool for a bool point, or a type of numbers for a point of numbers",
            ));
        }
        let is_scaled = show.scale != 1.0 || show.offset != 0.0;
        if !show.scale.is_normal()
            || !show.offset.is_finite()
            || is_scaled && kind == PointKind::Bool
        {
            let found = format!("scale {} and offset {} for a {kind}", show.scale, show.offset);
            let wanted =
                "finite numbers, a scale other than 0, and neither scale nor offset for a bool";
            return Err(wrong("scale", &found, wanted));
        }
        let plain = Point::new("", Direction::In, kind);
        let wire = Point { scale: show.scale, offset: show.offset, ..plain };
        let instead = match show.on_bad {
            OnBad::Exception => Instead::Exception,
            OnBad::Keep if show.quality.is_none() => {
                let wanted = "both `on_bad = \"keep\"` and `quality`, so that a client can see \
                              that the value is old";
                return Err(wrong("on_bad", "\"keep\" without `quality`", wanted));
            }
            OnBad::Keep => Instead::Keep,
            OnBad::Value(value) => Instead::Value(raw_on_wire(&wire, value).ok_or_else(|| {
                wrong("on_bad", &value.to_string(), "a value that fits the type of this entry")
            })?),
        };
        let has_companion = show.quality.is_some();
        Ok((Self { name: show.name.clone(), wire, instead, has_companion }, form))
    }

    /// Returns the value and its quality at the time `now`.
    pub(super) fn seen(&self, export: &Export, now: Duration) -> Seen {
        let Some(shown) = export.find(&self.name).filter(|_| export.cycle > 0) else {
            return Seen::nothing(Quality::Waiting);
        };
        let is_outdated = now.saturating_sub(export.now) > OUTDATED;
        let quality = if is_outdated { shown.quality.max(Quality::NoComm) } else { shown.quality };
        if !was_ever_good(export, &self.name) {
            return Seen::nothing(quality);
        }
        match self.wire.raw_of(shown.value) {
            Ok(raw) => Seen { raw: Some(raw), quality },
            // A number that does not fit into its type on the wire must not appear as a wrong
            // number.
            Err(_) => Seen::nothing(quality.max(Quality::Config)),
        }
    }
}

/// Returns the raw form of the value on the wire. Returns `None` if the value does not fit its
/// type. The function accepts NaN for a float, although a process image cannot contain NaN: on the
/// wire, NaN can show that the value is bad.
fn raw_on_wire(wire: &Point, value: Value) -> Option<crate::process::image::Raw> {
    let mut raw = [0; 8];
    match (wire.kind, value) {
        (PointKind::F32, Value::Real(nan)) if nan.is_nan() => {
            raw[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        (PointKind::F64, Value::Real(nan)) if nan.is_nan() => raw = f64::NAN.to_le_bytes(),
        _ => raw = wire.raw_of(value).ok()?,
    }
    Some(raw)
}

/// Whether the value was ever usable. Returns false only for an input that has never had a good or
/// uncertain value: the process image contains 0 for this input, and this 0 comes from no device.
fn was_ever_good(export: &Export, name: &str) -> bool {
    export.points.find(name).is_none_or(|id| {
        export.points[id].direction == Direction::Out
            || export.inputs.good_at[id.index()] > Duration::ZERO
            || export.inputs.quality[id.index()] <= Quality::Substitute
    })
}
