//! What devices are about, for whoever looks for slips in a configuration: where their points are,
//! which names they show, what of them nothing uses.
//!
//! What can never be, such as two writers of one register, each driver refuses in its plan. Here is
//! what it lets pass, because somebody may want it; whether it is worth a word is decided in
//! `config/note.rs`. All of this is about devices whose plan was found to be right.

use std::ops::Range;

use super::{Config, file, gpio, modbus};
use crate::image::{Direction, PointId, Points};

/// Where a point is in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What it is a part of. Only places in the same can be in each other's way; a place that may
    /// be read and written by different points is in another for each of the two.
    pub within: String,
    /// Which cells of that.
    pub cells: Range<u32>,
    /// The same for people, such as `holding 10 of unit drive`.
    pub words: String,
}

/// The places of all points of device number `device` that have one.
pub fn places(config: &Config, points: &Points, device: usize) -> Vec<(PointId, Place)> {
    match config {
        Config::File(config) => file::places(config, points, device),
        Config::Gpio(config) => gpio::places(config, points, device),
        Config::Modbus(config) => modbus::places(config, points, device),
        // The plant is the configuration's own; the others have refused what meets.
        Config::Sim(_) | Config::ModbusServer(_) | Config::Mqtt(_) => Vec::new(),
    }
}

/// What a direction makes of a place that an input and an output may share.
pub(super) const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "read",
        Direction::Out => "written",
    }
}

impl Config {
    /// The names of points and variables that this device shows to others, each with its key.
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

    /// The key of something that no other device can have at the same time, with what it has, and
    /// what would become of two.
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

    /// Whether it has something to do without any points.
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

    /// Entries of its lists that nothing uses, by their keys.
    pub fn unused(&self) -> Vec<String> {
        match self {
            Self::Modbus(config) => config.unused(),
            _ => Vec::new(),
        }
    }
}
