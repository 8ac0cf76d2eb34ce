//! `camshaft modbus`: single Modbus requests by hand, for example to find the byte order of a
//! device.
//!
//! These verbs connect to the device directly, with the transport code of the driver. The verbs
//! need no daemon. While a verb runs, no daemon may use the same serial line, because the frames of
//! the daemon and of the verb would collide.
//!
//! `modbus/grammar.rs` has the arguments. `modbus/work.rs` sends the requests. `modbus/table.rs`
//! prints the results.

mod grammar;
mod table;
mod work;

use super::CommandResult;
use super::screen::Screen;

pub(super) use grammar::Modbus;

/// Runs one of the Modbus verbs.
pub(super) async fn modbus(verb: Modbus, screen: &mut Screen) -> CommandResult {
    match verb {
        Modbus::Read(what) => work::read(what, screen).await,
        Modbus::Write(what) => work::write(what, screen).await,
        Modbus::Scan(what) => work::scan(what, screen).await,
    }
}
