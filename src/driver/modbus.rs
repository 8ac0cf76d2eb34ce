//! The two Modbus drivers, and the code that both drivers use.
//!
//! `modbus/client.rs` is the driver that reads and writes Modbus units on a bus. `modbus/server.rs`
//! is the driver that a SCADA system reads and writes. `modbus/wire.rs` has the code that both
//! drivers use. The client and the server do not use each other. The command `camshaft modbus`
//! sends single requests by hand. It uses the client's connection for this: `cli/modbus.rs`.

pub mod client;
pub mod server;
pub mod wire;
