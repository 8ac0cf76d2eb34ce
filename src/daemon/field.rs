//! The field: the devices, the forces of operators, and the variables that outlive the daemon.
//!
//! The daemon does not read or write devices; only the scan does. Next: `field/device.rs` (the
//! state of the devices), `field/force.rs` (forces and their records), `field/retain.rs` (the files
//! of retained variables), `field/reset.rs` (the reset of variables), `field/write.rs` (values that
//! devices write into variables).

mod device;
mod force;
mod reset;
mod retain;
mod write;

pub(super) use device::Devices;
pub(super) use force::Forces;
pub(super) use reset::Reset;
pub(super) use retain::Retain;
pub(super) use write::VariableWrites;

/// The daemon's knowledge about the field.
#[derive(Debug)]
pub(super) struct Field {
    /// The monitors of the devices, and the values for devices that show values of the controller.
    pub(super) devices: Devices,
    /// The forces of operators.
    pub(super) forces: Forces,
    /// The variables whose values outlive the daemon.
    pub(super) retain: Retain,
    /// The reset of variables that is in progress; `None` if no reset is in progress.
    pub(super) reset: Option<Reset>,
}
