//! Camshaft: a soft-PLC daemon whose control programs are WebAssembly plugins.

pub mod cli;
pub mod clock;
pub mod control;
pub mod driver;
pub mod image;
pub mod latest;
pub mod plugin;
pub mod scan;
pub mod variable;
