//! The parts of the Modbus protocol that do not depend on a connection.
//!
//! `table.rs` has the four tables of a unit, and `register.rs` has the layout of values in
//! registers. The client and the server use both files. `request.rs` makes the requests of the
//! client and checks the replies, and `error.rs` has the reasons why there is no valid reply. The
//! server has its own file for requests, `server/request.rs`. The code in `wire` opens no
//! connection: `client.rs` sends requests, and `server.rs` answers requests.

pub mod error;
pub mod register;
pub mod request;
pub mod table;
