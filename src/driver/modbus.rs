//! Modbus: how values lie in registers, for the client, the server and the command line.
//!
//! The protocol is Modbus application protocol 1.1b3. What a value looks like in registers is in
//! `modbus/register.rs`.

pub mod register;
