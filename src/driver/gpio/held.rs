//! Lines that the kernel has granted in one request. One call reads all of these lines, and one
//! call writes all of them.
//!
//! When a request is dropped, the kernel releases its lines. The kernel then guarantees no level at
//! the outputs, but most chips do not change the levels. This file does not know the meaning of the
//! levels; `line.rs` does. `claim.rs` decides when lines are requested.

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

/// The number of edges that the kernel stores for one request until they are read. 1024 is the
/// maximum that the kernel allows. The buffer stores edges while the device's thread gets no CPU
/// time. Edges that do not fit into the buffer are dropped but still counted, see [`Line::edge`].
const KERNEL_EDGES: u32 = 1024;

/// The number of edges in one read. 64 edges need 3 KiB of memory.
const READ_EDGES: usize = 64;

/// Lines that the kernel has granted. All of these lines are on one chip and have the same
/// direction.
#[derive(Debug)]
pub(super) struct Held {
    request: AsyncFd<Request>,
    /// The path of the chip's device file.
    pub(super) chip: PathBuf,
    pub(super) direction: Direction,
    pub(super) seats: Vec<Seat>,
    /// The kernel's sequence number of the last edge, over all lines of the request. The number
    /// starts at 1 and wraps. 0 before the first edge.
    last: u32,
}

/// A line's index in the board's list of lines, and the line's offset on the chip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) line: usize,
    pub(super) offset: Offset,
}

impl Held {
    /// Requests lines from the kernel. The kernel sets outputs to `levels` in the same step. For
    /// inputs, `levels` is empty.
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
        #[expect(deprecated, reason = "the replacement is unsafe; a Request keeps one descriptor")]
        let request = AsyncFd::with_interest(request, Interest::READABLE)?;
        Ok(Self { request, chip: chip.to_owned(), direction, seats: seats.to_vec(), last: 0 })
    }

    /// Returns `true` if new edges can be read or if the chip was removed. Otherwise returns
    /// `false`, and the task of `context` is woken when one of these two events happens.
    pub(super) fn poll_edges(&self, context: &mut Context<'_>) -> bool {
        match self.request.poll_read_ready(context) {
            Poll::Ready(Ok(mut ready)) => {
                ready.clear_ready();
                true
            }
            // If the runtime reports an error here, the loop still finds changes at its reads in
            // every period.
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }

    /// Reads the new edges and passes them to their lines. Returns the number of edges. One call
    /// reads about 1024 edges at most, which is the size of the kernel's buffer. The next call
    /// reads the remaining edges.
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

    /// Reads the levels of all lines of this request at the same instant.
    pub(super) fn levels(&self) -> Result<Values> {
        let mut levels = Values::default();
        self.request.get_ref().values(&mut levels)?;
        Ok(levels)
    }

    /// Writes the levels of all output lines of this request. The values in `levels` have the order
    /// of `seats`.
    pub(super) fn write(&self, levels: &[Raw]) -> Result<()> {
        let mut values = Values::default();
        for (seat, level) in self.seats.iter().zip(levels) {
            values.set(seat.offset, Value::from(level[0]));
        }
        self.request.get_ref().set_values(&values)
    }

    /// Stores the outcome of a call to the kernel in the lines of this request. `error` is `None`
    /// if the call has succeeded. Returns whether the request is still usable. If this function
    /// returns `false`, the caller must drop the request.
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

/// Returns the error number of the operating system. Returns `None` if the error contains no such
/// number.
pub(super) fn errno(error: &Error) -> Option<Errno> {
    match error {
        Error::Os(errno) | Error::Uapi(_, CallError::Os(errno)) => Some(Errno::from_raw(errno.0)),
        _ => None,
    }
}

/// Whether the error means that the chip was removed. The request can then never be used again.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(errno(error), Some(Errno::ENODEV))
}

/// The quality of an input whose read has failed with this error.
pub(super) fn quality(error: &Error) -> Quality {
    if is_gone(error) { Quality::NoComm } else { Quality::Device }
}
