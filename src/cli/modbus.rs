//! `camshaft modbus`: single requests by hand, to find out what a device has and how its bytes are
//! ordered.
//!
//! These verbs speak to the device themselves, with the transport of the driver. They need no
//! daemon; a daemon on the same serial line disturbs them. `modbus/grammar.rs` has the arguments,
//! `modbus/work.rs` the requests, `modbus/table.rs` what is printed.

mod grammar;
mod table;
mod work;

use super::Outcome;
use super::screen::Screen;

pub(super) use grammar::Modbus;

/// Runs a verb for a bus.
pub(super) async fn modbus(verb: Modbus, screen: &mut Screen) -> Outcome {
    match verb {
        Modbus::Read(what) => work::read(what, screen).await,
        Modbus::Write(what) => work::write(what, screen).await,
        Modbus::Scan(what) => work::scan(what, screen).await,
    }
}
