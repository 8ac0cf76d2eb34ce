//! The two Modbus drivers, and the code that both drivers use.
//!
//! `modbus/client.rs` is the driver that reads and writes Modbus units on a bus. `modbus/server.rs`
//! is the driver that answers the reads and writes of a SCADA system. `modbus/wire.rs` has the code
//! that both drivers use. The client and the server do not use each other. The command `camshaft
//! modbus` sends single requests that a user types. The code of this command is in `cli/modbus.rs`;
//! it uses the connection of the client, `modbus/client/transport.rs`.

pub mod client;
pub mod server;
pub mod wire;
