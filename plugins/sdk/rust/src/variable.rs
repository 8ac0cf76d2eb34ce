//! Variables: named, typed values that all programs share. A swap does not change their values.

use crate::{check, raw, Error};

mod sealed {
    pub trait Sealed {}
    impl Sealed for bool {}
    impl Sealed for f64 {}
    impl Sealed for i32 {}
}

/// The types of variables: `bool`, `f64` and `i32`.
pub trait VariableType: sealed::Sealed + Copy {
    #[doc(hidden)]
    fn read(name: &str) -> Result<Self, Error>;
    #[doc(hidden)]
    fn write(name: &str, value: Self) -> Result<(), Error>;
}

impl VariableType for bool {
    fn read(name: &str) -> Result<Self, Error> {
        let mut value = 0u8;
        // SAFETY: the host reads `name.len()` bytes and writes one.
        check(unsafe { raw::wasm_variable_read_boolean(name.as_ptr(), name.len(), &mut value) })?;
        Ok(value != 0)
    }

    fn write(name: &str, value: Self) -> Result<(), Error> {
        let value = i32::from(value);
        // SAFETY: the host reads `name.len()` bytes.
        check(unsafe { raw::wasm_variable_write_boolean(name.as_ptr(), name.len(), value) })
    }
}

impl VariableType for f64 {
    fn read(name: &str) -> Result<Self, Error> {
        let mut value = 0.0;
        // SAFETY: the host reads `name.len()` bytes and writes one f64.
        check(unsafe { raw::wasm_variable_read_double(name.as_ptr(), name.len(), &mut value) })?;
        Ok(value)
    }

    fn write(name: &str, value: Self) -> Result<(), Error> {
        // SAFETY: the host reads `name.len()` bytes.
        check(unsafe { raw::wasm_variable_write_double(name.as_ptr(), name.len(), value) })
    }
}

impl VariableType for i32 {
    fn read(name: &str) -> Result<Self, Error> {
        let mut value = 0;
        // SAFETY: the host reads `name.len()` bytes and writes one i32.
        check(unsafe { raw::wasm_variable_read_int(name.as_ptr(), name.len(), &mut value) })?;
        Ok(value)
    }

    fn write(name: &str, value: Self) -> Result<(), Error> {
        // SAFETY: the host reads `name.len()` bytes.
        check(unsafe { raw::wasm_variable_write_int(name.as_ptr(), name.len(), value) })
    }
}

/// Reads a variable. A poll that has written a variable reads the new value.
pub fn read_variable<T: VariableType>(name: &str) -> Result<T, Error> {
    T::read(name)
}

/// Writes a granted variable, or creates it with this type. A plugin creates at most 256 variables.
pub fn write_variable<T: VariableType>(name: &str, value: T) -> Result<(), Error> {
    T::write(name, value)
}
