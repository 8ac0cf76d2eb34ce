//! Questions about the devices of a configuration: where their points are, which names they show,
//! which list entries nothing uses.
//!
//! `config/note.rs` asks them in its search for slips. A driver's plan refuses what can never work,
//! such as two writers of one register. This file describes what a plan allows, because an operator
//! may want it. `config/note.rs` decides whether it deserves a note. All functions expect a device
//! whose plan succeeded.

use std::ops::Range;

use super::{Config, file, gpio, modbus};
use crate::image::{Direction, PointId, Points};

/// The place of a point in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// What the place is a part of. Only places with equal `within` can collide. If one point may
    /// read a place and another may write it, the two have different texts here.
    pub within: String,
    /// The cells that the point occupies there.
    pub cells: Range<u32>,
    /// The place in words for people, such as `holding 10 of unit drive`.
    pub words: String,
}

/// The places of the points of device number `device`, for those that have one.
pub fn locations(config: &Config, points: &Points, device: usize) -> Vec<(PointId, Location)> {
    match config {
        Config::File(config) => file::locations(config, points, device),
        Config::Gpio(config) => gpio::locations(config, points, device),
        Config::Modbus(config) => modbus::locations(config, points, device),
        // The plant of `sim` belongs to its configuration. The plans of the other two refuse
        // collisions.
        Config::Sim(_) | Config::ModbusServer(_) | Config::Mqtt(_) => Vec::new(),
    }
}

/// The word that separates the two directions in [`Location::within`], for places that an input and
/// an output may share.
pub(super) const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "read",
        Direction::Out => "written",
    }
}

impl Config {
    /// The names of the points and variables that this device shows to other systems, each with its
    /// key.
    pub fn shown(&self) -> Vec<(String, &str)> {
        match self {
            Self::ModbusServer(config) => {
                let names = config.show.iter().map(|show| &*show.name).enumerate();
                names.map(|(n, name)| (format!("show[{n}].name"), name)).collect()
            }
            Self::Mqtt(config) => {
                let names = config.publish.iter().map(|said| &*said.name).enumerate();
                names.map(|(n, name)| (format!("publish[{n}].name"), name)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A thing that only one device can have at a time: the key, the value of the key, and the
    /// consequence if two devices have it.
    pub fn claim(&self) -> Option<(&'static str, String, &'static str)> {
        match self {
            Self::ModbusServer(config) if config.listen.port() != 0 => {
                Some(("listen", config.listen.to_string(), "one of them never gets the port"))
            }
            Self::Mqtt(config) => {
                let whole = format!("{:?} at {}", config.client_id, config.connect);
                Some(("client_id", whole, "the broker throws out one for the other, in turn"))
            }
            _ => None,
        }
    }

    /// Whether the device has something to do without any points.
    pub fn works_without_points(&self) -> bool {
        match self {
            Self::Modbus(config) => config.heartbeat.is_some(),
            Self::ModbusServer(config) => !config.show.is_empty(),
            Self::Mqtt(config) => {
                let says = config.will.is_some() || config.birth.is_some();
                says || config.sparkplug.is_some() || !config.publish.is_empty()
            }
            Self::Sim(_) | Self::File(_) | Self::Gpio(_) => false,
        }
    }

    /// The keys of list entries that nothing uses.
    pub fn unused(&self) -> Vec<String> {
        match self {
            Self::Modbus(config) => config.unused(),
            _ => Vec::new(),
        }
    }
}
