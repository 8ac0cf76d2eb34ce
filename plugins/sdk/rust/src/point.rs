//! Points: the inputs and outputs of the field, with name and type (ABI version 1).

use core::marker::PhantomData;

use crate::{check, raw, Error};

/// The quality of a value: how far the value can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// A new value from the device.
    Good,
    /// The last good value, but it is too old.
    Uncertain,
    /// Do not use the value: it was never read, the device is lost, or it is not a number.
    Bad,
}

impl Quality {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Good,
            1 => Self::Uncertain,
            _ => Self::Bad,
        }
    }
}

/// A value with its quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading<T> {
    /// The value, in the unit of the point.
    pub value: T,
    /// The quality of the value.
    pub quality: Quality,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for bool {}
    impl Sealed for f64 {}
    impl Sealed for i32 {}
}

/// The types in which a point can be read and written: `bool`, `f64` and `i32`.
pub trait PointType: sealed::Sealed + Copy {
    #[doc(hidden)]
    fn read(id: u32, quality: &mut u8) -> Result<Self, Error>;
    #[doc(hidden)]
    fn write(id: u32, value: Self) -> Result<(), Error>;
}

impl PointType for bool {
    fn read(id: u32, quality: &mut u8) -> Result<Self, Error> {
        let mut value = 0u8;
        // SAFETY: the host writes one byte to each of the two.
        check(unsafe { raw::wasm_point_read_boolean(id, &mut value, quality) })?;
        Ok(value != 0)
    }

    fn write(id: u32, value: Self) -> Result<(), Error> {
        // SAFETY: no pointer is passed.
        check(unsafe { raw::wasm_point_write_boolean(id, i32::from(value)) })
    }
}

impl PointType for f64 {
    fn read(id: u32, quality: &mut u8) -> Result<Self, Error> {
        let mut value = 0.0;
        // SAFETY: the host writes one f64 and one byte.
        check(unsafe { raw::wasm_point_read_double(id, &mut value, quality) })?;
        Ok(value)
    }

    fn write(id: u32, value: Self) -> Result<(), Error> {
        // SAFETY: no pointer is passed.
        check(unsafe { raw::wasm_point_write_double(id, value) })
    }
}

impl PointType for i32 {
    fn read(id: u32, quality: &mut u8) -> Result<Self, Error> {
        let mut value = 0;
        // SAFETY: the host writes one i32 and one byte.
        check(unsafe { raw::wasm_point_read_int(id, &mut value, quality) })?;
        Ok(value)
    }

    fn write(id: u32, value: Self) -> Result<(), Error> {
        // SAFETY: no pointer is passed.
        check(unsafe { raw::wasm_point_write_int(id, value) })
    }
}

/// A point that was found. The first read or write checks that the point has the type `T`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point<T> {
    id: u32,
    of: PhantomData<T>,
}

/// Returns whether an input in the list `requires` of this plugin is bad. While such an input is
/// bad, all outputs of this plugin are safe, and its writes have no effect.
pub fn is_degraded() -> Result<bool, Error> {
    let mut degraded = 0u8;
    // SAFETY: the host writes one byte.
    check(unsafe { raw::wasm_degraded(&mut degraded) })?;
    Ok(degraded != 0)
}

/// Finds a point by its name. Call this function once, in `init`. The result is valid as long as
/// the point exists. If one reload removes the point and another adds it, find the point again.
pub fn point<T: PointType>(name: &str) -> Result<Point<T>, Error> {
    let mut id = 0;
    // SAFETY: the host reads `name.len()` bytes and writes one u32.
    check(unsafe { raw::wasm_point_find(name.as_ptr(), name.len(), &mut id) })?;
    Ok(Point { id, of: PhantomData })
}

impl<T: PointType> Point<T> {
    /// Reads the value with its quality.
    pub fn read(self) -> Result<Reading<T>, Error> {
        let mut quality = 0;
        let value = T::read(self.id, &mut quality)?;
        Ok(Reading { value, quality: Quality::from_code(quality) })
    }

    /// Reads the reason for the quality, as a status code of OPC UA. The second number is the time
    /// since the point was last good, in milliseconds, or `u32::MAX` if it was never good.
    pub fn status(self) -> Result<(u32, u32), Error> {
        let (mut status, mut age_ms) = (0, 0);
        // SAFETY: the host writes one u32 to each of the two.
        check(unsafe { raw::wasm_point_quality(self.id, &mut status, &mut age_ms) })?;
        Ok((status, age_ms))
    }

    /// Reads the value if its quality is good. Returns `None` for any other quality or an error.
    pub fn good(self) -> Option<T> {
        match self.read() {
            Ok(Reading { value, quality: Quality::Good }) => Some(value),
            _ => None,
        }
    }

    /// Writes `value`, in the unit of the point; [`Error::Generic`] if the type cannot hold it.
    pub fn write(self, value: T) -> Result<(), Error> {
        T::write(self.id, value)
    }
}
