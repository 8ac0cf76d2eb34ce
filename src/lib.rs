//! Camshaft: a soft-PLC daemon whose control programs are WebAssembly plugins.

pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod driver;
pub mod image;
pub mod latest;
pub mod log;
pub mod plugin;
pub mod scan;
pub mod supervisor;
pub mod systemd;
pub mod variable;
