//! What both sides of a Modbus share: the four tables, the requests with their replies, and the
//! layout of values in registers.
//!
//! Nothing here waits and nothing here opens a connection. `client.rs` is the side
//! that asks, `server.rs` the side that answers.

pub mod register;
pub mod request;
pub mod table;
