//! Modbus: two drivers, and what they share.
//!
//! `modbus/client.rs` is the driver that reads and writes units on a bus. `modbus/server.rs` is the
//! driver that a SCADA system reads and writes. `modbus/wire.rs` is what both share; the two do not
//! know each other. The command line uses the client's connection for single requests by hand:
//! `cli/modbus.rs`.

pub mod client;
pub mod server;
pub mod wire;
