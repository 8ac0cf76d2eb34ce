//! Camshaft: a soft-PLC daemon whose control programs are WebAssembly plugins.

pub mod clock;
pub mod driver;
pub mod image;
pub mod latest;
pub mod plugin;
pub mod recipe;
pub mod scan;
pub mod variable;
