//! Lines that the kernel has given in one request. One call reads them, one call writes them.
//!
//! When a request is dropped, its lines are released. The kernel then guarantees nothing about
//! outputs; most chips leave them as they are. What the levels mean is in `line.rs`; when lines are
//! requested is in `claim.rs`.

use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use gpiocdev::line::{Offset, Value, Values};
use gpiocdev::request::Config;
use gpiocdev::{Error, Request, Result};
use gpiocdev_uapi::Error as CallError;
use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::line::Line;
use crate::process::image::{Direction, Quality, Raw};

/// How many edges the kernel keeps for one request until they are read: its maximum. It covers the
/// time in which the device's thread gets no CPU. Edges that are lost nevertheless are counted, see
/// [`Line::edge`].
const KERNEL_EDGES: u32 = 1024;

/// How many edges are read at once; they take 3 KiB.
const READ_EDGES: usize = 64;

/// Lines of one chip and one direction that the kernel has given.
#[derive(Debug)]
pub(super) struct Held {
    request: AsyncFd<Request>,
    /// The chip's device file.
    pub(super) chip: PathBuf,
    pub(super) direction: Direction,
    pub(super) seats: Vec<Seat>,
    /// The kernel's number of the last edge over all lines of the request. It counts from 1 and
    /// wraps.
    last: u32,
}

/// A line's index in the board's list of lines, and its offset on the chip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) line: usize,
    pub(super) offset: Offset,
}

impl Held {
    /// Requests lines. Outputs get `levels` in the same step; for inputs `levels` is empty.
    pub(super) fn take(
        consumer: &str,
        chip: &Path,
        seats: &[Seat],
        lines: &[Line],
        levels: &[Raw],
    ) -> Result<Self> {
        let mut config = Config::default();
        config.on_chip(chip);
        for (n, seat) in seats.iter().enumerate() {
            let mut line = lines[seat.line].config();
            line.value = levels.get(n).map(|level| Value::from(level[0]));
            config.with_line(seat.offset).from_line_config(&line);
        }
        let mut request = Request::from_config(config);
        let direction = lines[seats[0].line].direction;
        request.with_consumer(consumer);
        if direction == Direction::In {
            request.with_kernel_event_buffer_size(KERNEL_EDGES);
        }
        let request = request.request()?;
        #[expect(deprecated, reason = "its heir is unsafe; a Request keeps its one descriptor")]
        let request = AsyncFd::with_interest(request, Interest::READABLE)?;
        Ok(Self { request, chip: chip.to_owned(), direction, seats: seats.to_vec(), last: 0 })
    }

    /// Whether edges have come since the last call, or the chip is gone. If neither, `context` is
    /// woken when that happens.
    pub(super) fn poll_edges(&self, context: &mut Context<'_>) -> bool {
        match self.request.poll_read_ready(context) {
            Poll::Ready(Ok(mut ready)) => {
                ready.clear_ready();
                true
            }
            // Without this event, the reads once in a period have to do.
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }

    /// Passes the edges that have come to their lines. Returns their number. It reads no more edges
    /// than the kernel's buffer holds; the rest follows in the next call.
    pub(super) fn edges(&mut self, lines: &mut [Line]) -> Result<usize> {
        let request = self.request.get_ref();
        let size = request.edge_event_u64_size();
        let mut buffer = Vec::new();
        let mut count = 0;
        while count < KERNEL_EDGES as usize && request.has_edge_event()? {
            buffer.resize(READ_EDGES * size, 0);
            let read = request.read_edge_events_into_slice(&mut buffer)?;
            for event in buffer[..read].chunks_exact(size) {
                let event = request.edge_event_from_slice(event)?;
                let dropped = event.seqno.wrapping_sub(self.last).saturating_sub(1);
                self.last = event.seqno;
                for seat in &self.seats {
                    let line = &mut lines[seat.line];
                    line.miss(dropped);
                    if seat.offset == event.offset {
                        line.edge(&event);
                    }
                }
                count += 1;
            }
        }
        Ok(count)
    }

    /// Reads the levels of all lines at one instant.
    pub(super) fn levels(&self) -> Result<Values> {
        let mut levels = Values::default();
        self.request.get_ref().values(&mut levels)?;
        Ok(levels)
    }

    /// Sets all lines, in the order of the seats.
    pub(super) fn write(&self, levels: &[Raw]) -> Result<()> {
        let mut values = Values::default();
        for (seat, level) in self.seats.iter().zip(levels) {
            values.set(seat.offset, Value::from(level[0]));
        }
        self.request.get_ref().set_values(&values)
    }

    /// Notes at the lines how a call has ended. Returns whether this request can still be used.
    pub(super) fn survives(&self, error: Option<Error>, lines: &mut [Line]) -> bool {
        let is_alive = !error.as_ref().is_some_and(is_gone);
        let trouble = error.map(|error| format!("{}: {error}", self.chip.display()));
        for seat in &self.seats {
            let line = &mut lines[seat.line];
            line.is_held = is_alive;
            line.trouble.clone_from(&trouble);
        }
        is_alive
    }
}

/// The error number of the system, if the error has one.
pub(super) fn errno(error: &Error) -> Option<Errno> {
    match error {
        Error::Os(errno) | Error::Uapi(_, CallError::Os(errno)) => Some(Errno::from_raw(errno.0)),
        _ => None,
    }
}

/// Whether the chip is no longer there. The request is then useless for ever.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(errno(error), Some(Errno::ENODEV))
}

/// The quality of an input whose read has failed with this error.
pub(super) fn quality(error: &Error) -> Quality {
    if is_gone(error) { Quality::NoComm } else { Quality::Device }
}
