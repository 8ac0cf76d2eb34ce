//! The grammar of `camshaft modbus`: the verbs, their arguments, and the allowed values.
//!
//! Words such as `holding` or `CDAB` are the same as in the configuration. The `///` text of a verb
//! or an argument is also its text in `--help`. Only the answer of a Modbus unit shows whether the
//! unit has the requested register or bit. `work.rs` runs the verbs.

use std::time::Duration;

use clap::{Args as Group, Subcommand};
use serde::de::DeserializeOwned;

use crate::cli::help::{MODBUS_READ_HELP, MODBUS_SCAN_HELP, MODBUS_WRITE_HELP};
use crate::cli::value::value;
use crate::driver::modbus::client::line::{Parity, Target};
use crate::driver::modbus::wire::register::WordOrder;
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{PointKind, Value};

/// The verbs for a bus.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Modbus {
    /// Read registers or bits
    #[command(after_help = MODBUS_READ_HELP)]
    Read(Reading),
    /// Write one value
    #[command(after_help = MODBUS_WRITE_HELP)]
    Write(Writing),
    /// Find out which units answer
    #[command(after_help = MODBUS_SCAN_HELP)]
    Scan(Scanning),
}

/// The connection to a bus, and the settings of the bus.
#[derive(Debug, Group)]
pub(in crate::cli) struct Bus {
    /// tcp://HOST or tcp://HOST:PORT, rtu:///dev/..., rtu+tcp://HOST:PORT
    pub(super) target: Target,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Baud rate of a serial line, in bits per second [default: 19200]
    #[arg(long)]
    pub(super) baud: Option<u32>,
    /// Parity on a serial line: even, odd or none [default: even]
    #[arg(long, value_parser = word::<Parity>)]
    pub(super) parity: Option<Parity>,
    /// Stop bits on a serial line
    #[arg(long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) stop_bits: u8,
    /// Print the bytes of each frame to standard error
    #[arg(long)]
    pub(super) trace: bool,
}

/// What to read.
#[derive(Debug, Group)]
pub(in crate::cli) struct Reading {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// coil, discrete, holding or input
    #[arg(value_parser = word::<Table>)]
    pub(super) table: Table,
    /// The first register or bit, counted from 0
    pub(super) address: u16,
    /// How many registers or bits [default: as many as one value needs]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub(super) count: Option<u16>,
    /// Address of the unit
    #[arg(long, default_value = "1")]
    pub(super) unit: u8,
    /// Type of the values in registers, such as i16, u32 or f32
    #[arg(long = "type", value_name = "TYPE", default_value = "u16", value_parser = number)]
    pub(super) kind: PointKind,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// What to write.
#[derive(Debug, Group)]
pub(in crate::cli) struct Writing {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// coil or holding
    #[arg(value_parser = writable)]
    pub(super) table: Table,
    /// The first register, or the coil, counted from 0
    pub(super) address: u16,
    /// A number, or true, false, on, off for a coil
    #[arg(allow_negative_numbers = true, value_parser = value)]
    pub(super) value: Value,
    /// Address of the unit
    #[arg(long, default_value = "1")]
    pub(super) unit: u8,
    /// Type of the value in registers, such as i16, u32 or f32
    #[arg(long = "type", value_name = "TYPE", default_value = "u16", value_parser = number)]
    pub(super) kind: PointKind,
    /// Order of the bytes on the wire, such as CDAB; A is the most significant byte
    #[arg(long, value_parser = word::<WordOrder>)]
    pub(super) order: Option<WordOrder>,
    /// Use function code 5 or 6, for devices without function codes 15 and 16
    #[arg(long)]
    pub(super) single: bool,
}

/// Where to look for units.
#[derive(Debug, Group)]
pub(in crate::cli) struct Scanning {
    #[command(flatten)]
    pub(super) bus: Bus,
    /// The first unit to ask [default: 0 over TCP, 1 on a serial line]
    #[arg(long)]
    pub(super) from: Option<u8>,
    /// The last unit to ask [default: 255 over TCP, 247 on a serial line]
    #[arg(long)]
    pub(super) to: Option<u8>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// Parses a word of the configuration, such as `holding`.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Parses the type of a value in registers: a type of 16 bits or more.
fn number(text: &str) -> Result<PointKind, String> {
    match word(text)? {
        PointKind::Bool | PointKind::U8 | PointKind::I8 => {
            Err("expected a type of 16 bits or more".into())
        }
        kind => Ok(kind),
    }
}

/// Parses the name of a Modbus table that a request can write: coils or holding registers.
fn writable(text: &str) -> Result<Table, String> {
    match word(text)? {
        table @ (Table::Coil | Table::Holding) => Ok(table),
        table => {
            let found = table.word();
            Err(format!("expected coil or holding, found {found}, which cannot be written"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command line has the words of the configuration, and refuses other words.
    #[test]
    fn words_are_those_of_the_configuration() {
        assert_eq!(word::<Table>("holding"), Ok(Table::Holding));
        assert!(word::<Table>("register").unwrap_err().contains("`holding`"));
        assert_eq!(number("f32"), Ok(PointKind::F32));
        assert!(number("bool").is_err() && number("f16").is_err());
        assert!(writable("input").unwrap_err().contains("cannot be written"));
    }
}
