//! The work of `camshaft modbus`: opens one connection and sends single requests.
//!
//! The verbs `read` and `write` send their request once. Before a write with function code 5 or 6
//! on a serial line, a read finds out whether the line has an echo. The verb `scan` repeats a
//! request only if the connection ends, because the other side may close it after each answer. The
//! output contains only answers of the device. `grammar.rs` has the arguments, and `table.rs`
//! prints the results.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::time::Uptime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::grammar::{Bus, Reading, Scanning, Writing};
use super::table::{Found, hex, show_bits, show_registers, show_units};
use crate::cli::screen::Screen;
use crate::cli::{CommandResult, Exit, Failed};
use crate::driver::modbus::client::line::{Line, Serial, Target};
use crate::driver::modbus::client::transport::Transport;
use crate::driver::modbus::wire::error::{WireError, exception};
use crate::driver::modbus::wire::register::{Layout, MAX_REGISTERS};
use crate::driver::modbus::wire::request::{Ask, Reply, UnitRequest};
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{Direction, Point, Value};

/// Time limit for each unit in a scan. Most devices answer faster. If no unit answers, a scan of
/// all 256 units over TCP takes about 52 s.
const SCAN_TIMEOUT: Duration = Duration::from_millis(200);

/// Returns a failure with exit code 1.
fn failed(message: impl Into<String>) -> Failed {
    Failed::new(Exit::Failure, message)
}

impl Bus {
    /// Returns the settings of the connection. `--baud` and `--parity` are refused if the target is
    /// no serial line.
    fn line(&self) -> Result<Line, Failed> {
        let mut line = Line::new(self.target.clone());
        line.timeout = self.timeout;
        let is_serial = matches!(self.target, Target::Rtu(_));
        if let (false, true) = (is_serial, self.baud.is_some() || self.parity.is_some()) {
            let message = "--baud and --parity are only for serial lines, such as \
                           rtu:///dev/ttyUSB0";
            return Err(Failed::new(Exit::Usage, message));
        }
        line.serial = line.serial.map(|usual| Serial {
            baud: self.baud.unwrap_or(usual.baud),
            parity: self.parity.unwrap_or(usual.parity),
            stop_bits: self.stop_bits,
        });
        Ok(line)
    }
}

/// Opens a connection to the target of `line`. An error names this target. With `--trace`, the
/// frames on the connection are printed from now on.
async fn open(bus: &Bus, line: &Line) -> Result<Transport, Failed> {
    if bus.trace {
        print_frames();
    }
    Transport::open(line).await.map_err(|error| unreached(line, &error))
}

/// Makes the failure for a target to which no connection can be made.
fn unreached(line: &Line, error: &io::Error) -> Failed {
    failed(format!("{}: {error}", line.target))
}

/// Prints each frame to standard error, as the transport writes it to the log with the level trace.
fn print_frames() {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_level(false)
        .with_target(false)
        .with_timer(Uptime::default());
    let frames = Targets::new().with_target("camshaft::driver::modbus", LevelFilter::TRACE);
    // The process has no other log, so this cannot fail.
    let _ = tracing_subscriber::registry().with(lines).with(frames).try_init();
}

/// Sends one request and returns the reply. An error names the target and the request.
async fn ask(bus: &Bus, request: &UnitRequest) -> Result<Reply, Failed> {
    let line = bus.line()?;
    let mut transport = open(bus, &line).await?;
    let failed =
        |why: WireError| failed(format!("{}, {request}: {why}{}", line.target, request.hint(&why)));
    if line.is_rtu() && request.is_repeated_by_reply() {
        // On a line with an echo, the echo of this request is equal to its reply. The reply to a
        // read shows whether the line has an echo.
        let read = transport.transact(&UnitRequest::presence(request.unit)).await;
        if read == Err(WireError::Timeout) {
            // Not even an echo has come. The unit may still accept the write.
            transport.assume_no_echo();
        }
        if transport.ended().is_some() || !matches!(line.target, Target::Rtu(_)) {
            // The server may close each connection after a reply.
            transport.reopen().await.map_err(|error| unreached(&line, &error))?;
        }
    }
    let reply = transport.transact(request).await.map_err(failed)?;
    if transport.has_echo() {
        let target = &line.target;
        let _ =
            writeln!(io::stderr(), "note: {target}: the line gives back each request as an echo");
    }
    Ok(reply)
}

/// Runs the verb `read`: sends one request, and prints the values in each possible byte order.
pub(super) async fn read(what: Reading, screen: &mut Screen) -> CommandResult {
    let Reading { bus, table, address, count, unit, kind, json } = what;
    let (most, width) = (table.most(), (kind.size() as u16 / 2).max(1));
    let count = count.unwrap_or(if table.is_bits() { 1 } else { width });
    if count > most || u32::from(address) + u32::from(count) > 0x1_0000 {
        let message = format!(
            "{} {address} to {} is too much: one request reads at most {most}, and the last \
             address is 65535",
            table.word(),
            u32::from(address) + u32::from(count) - 1
        );
        return Err(Failed::new(Exit::Usage, message));
    }
    if !table.is_bits() && !count.is_multiple_of(width) {
        let message = format!(
            "a {kind} needs {width} registers; the count {count} is not a multiple of {width}"
        );
        return Err(Failed::new(Exit::Usage, message));
    }
    let request = UnitRequest { unit, ask: Ask::Read { table, address, count } };
    match ask(&bus, &request).await? {
        Reply::Bits(bits) => show_bits(address, &bits, json, screen),
        Reply::Registers(registers) => show_registers(address, &registers, kind, json, screen),
        Reply::Written => {
            Err(failed("the unit answered a read request with the answer to a write request"))
        }
    }
}

/// Runs the verb `write`: writes one value, and prints what the unit has acknowledged.
pub(super) async fn write(what: Writing, screen: &mut Screen) -> CommandResult {
    let Writing { bus, table, address, value, unit, kind, order, single } = what;
    let usage = |message: String| Failed::new(Exit::Usage, message);
    let (ask_for, registers) = if table == Table::Coil {
        let Value::Bool(on) = value else {
            let message = format!("expected true, false, on or off for a coil, found {value}");
            return Err(usage(message));
        };
        (Ask::WriteCoil { address, on, single }, Vec::new())
    } else {
        let layout = Layout::new(kind, order, None, None).map_err(|why| {
            usage(format!("--{}: expected {}, found {}", why.key, why.wanted, why.found))
        })?;
        let raw = Point::new("", Direction::Out, kind).raw_of(value);
        let raw = raw.map_err(|why| usage(format!("{value}: {why}")))?;
        let mut registers = [0; MAX_REGISTERS];
        layout.write(raw, &mut registers);
        let values = registers[..layout.registers()].to_vec();
        if single && values.len() > 1 {
            return Err(usage(format!(
                "--single writes one register, but a {kind} needs more than one"
            )));
        }
        (Ask::WriteRegisters { address, values: values.clone(), single }, values)
    };
    ask(&bus, &UnitRequest { unit, ask: ask_for }).await?;
    let hex = match registers.is_empty() {
        true => String::new(),
        false => format!(" ({})", hex(&registers)),
    };
    let place = format!("{} {address}", table.word());
    Ok(screen.print(&format!("unit {unit} has acknowledged {place}: {value}{hex}\n"))?)
}

/// Runs the verb `scan`: reads one register of each Modbus unit. A unit that answers with an
/// exception or with an invalid frame is printed too, because it exists.
pub(super) async fn scan(what: Scanning, screen: &mut Screen) -> CommandResult {
    let Scanning { bus, from, to, json } = what;
    let mut line = bus.line()?;
    line.timeout = Some(bus.timeout.unwrap_or(SCAN_TIMEOUT));
    let ids = line.ids();
    let (from, to) = (from.unwrap_or(*ids.start()), to.unwrap_or(*ids.end()));
    if !(ids.contains(&from) && ids.contains(&to)) {
        let message = format!(
            "expected units from {} to {} for {}, found {from} to {to}",
            ids.start(),
            ids.end(),
            line.target
        );
        return Err(Failed::new(Exit::Usage, message));
    }
    let mut transport = open(&bus, &line).await?;
    let mut found = Vec::new();
    for unit in from..=to {
        let started = Instant::now();
        if let Some(answer) = answer(&mut transport, unit, &line).await? {
            found.push(Found { unit, answer, took_us: started.elapsed().as_micros() as u64 });
        }
    }
    show_units(&found, json, screen)?;
    if found.is_empty() {
        return Err(failed(format!("{}: none of the units {from} to {to} answers", line.target)));
    }
    Ok(())
}

/// Asks one unit, and returns its answer in words. Returns `None` if the unit does not answer. If
/// the connection ends, the function asks once more on a new connection, because the other side may
/// close each connection after a reply.
async fn answer(
    transport: &mut Transport,
    unit: u8,
    line: &Line,
) -> Result<Option<String>, Failed> {
    let request = UnitRequest::presence(unit);
    for _ in 0..2 {
        if transport.ended().is_some() {
            transport.reopen().await.map_err(|error| unreached(line, &error))?;
        }
        return Ok(match transport.transact(&request).await {
            Ok(_) => Some("answers".to_owned()),
            // Exceptions 10 and 11 come from a gateway: no device with this address answers behind
            // the gateway.
            Err(WireError::Exception(10 | 11) | WireError::Timeout | WireError::OnlyEcho) => None,
            Err(WireError::Exception(code)) => {
                Some(format!("answers with exception {code} ({})", exception(code)))
            }
            // On a serial line, this can be the late answer of the unit before.
            Err(WireError::WrongUnit { found, .. }) if !line.is_rtu() => {
                Some(format!("answers as unit {found}"))
            }
            Err(WireError::Closed(_)) => continue,
            Err(why) => Some(why.to_string()),
        });
    }
    Ok(None)
}
