//! The field: the devices, what operators force on them, and the values that outlive the daemon.
//!
//! Reading and writing devices is the scan's work.

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
    pub(super) devices: Devices,
    pub(super) forces: Forces,
    /// The variables whose values outlive the daemon.
    pub(super) retain: Retain,
    /// The reset of variables that is under way, if one is.
    pub(super) reset: Option<Reset>,
}
