//! Modbus: the side that asks, and what it shares with the side that answers.
//!
//! `modbus/client.rs` is the driver that reads and writes units on a bus, `modbus_server.rs` the
//! driver that a SCADA system reads and writes. `modbus/wire.rs` is what both share. The command
//! line uses the client's connection for single requests by hand: `cli/modbus.rs`.

pub mod client;
pub mod wire;
