//! The field: the devices, the forces that operators set, and the values that outlive the daemon.
//!
//! The daemon does not read or write devices: the scan does. Next: `field/device.rs` (what is known
//! of devices), `field/force.rs` (forces and their records), `field/retain.rs` (the files of
//! retained variables), `field/reset.rs` (their reset).

mod device;
mod force;
mod reset;
mod retain;

pub(super) use device::Devices;
pub(super) use force::Forces;
pub(super) use reset::Reset;
pub(super) use retain::Retain;

/// What the daemon knows of the field.
#[derive(Debug)]
pub(super) struct Field {
    /// What the daemon knows about each device.
    pub(super) devices: Devices,
    /// The forces of operators.
    pub(super) forces: Forces,
    /// The variables whose values outlive the daemon.
    pub(super) retain: Retain,
    /// The reset of variables that is under way, if one is.
    pub(super) reset: Option<Reset>,
}
