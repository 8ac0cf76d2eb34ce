//! Log lines about the owners of outputs: a program takes over an output from another program, or
//! an output has no owner any more.
//!
//! The scan decides which program owns an output (`process/overlay.rs`); `log_owners` only logs the
//! owner. The owners for `camshaft status` are in `refused.rs` and `daemon/view.rs`.
//!
//! Examples of log lines: `valve is now owned by tank (was pump)`, and `valve has no owner now (was
//! pump, which may not write it any more); it is safe`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Plugins;
use super::refused::is_polled;
use crate::config::Config;
use crate::daemon::link::ScanLink;
use crate::process::image::{Direction, Point, PointId, Safe};

/// The owners of output points, as `log_owners` has recorded them.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Owners {
    /// The last owner of each point, by the id of the point. `log_owners` records the first owner
    /// without a log line, and each later owner with a log line.
    last: Vec<Option<Arc<str>>>,
    /// Whether the log has reported that the point has no owner any more, by the id of the point.
    lost: Vec<bool>,
    /// The time of the last log line about owners.
    logged_at: Option<Instant>,
}

impl Owners {
    /// Returns the last recorded owner of this point; `None` if no owner is recorded.
    pub(in crate::daemon) fn last(&self, id: PointId) -> Option<&str> {
        self.last.get(id.index())?.as_deref()
    }
}

/// The largest number of lines about owners in [`OWNERS_PAUSE`]. The limit protects the log if two
/// programs take all outputs from each other without end. A change over the limit is logged later,
/// if the output still has the new owner, or still has no owner, at that time.
const OWNERS_LINES: usize = 10;

/// Returns a text about the value of an output that no program owns any more.
fn without_owner(point: &Point) -> String {
    match (point.safe, point.hold_for) {
        (Safe::Hold, _) => "it keeps its value, because its `safe` is \"hold\"".into(),
        (_, Duration::ZERO) => "it has its safe value".into(),
        (_, time) => {
            format!("it has its safe value after {} (hold_for)", humantime::format_duration(time))
        }
    }
}

/// The time window in which at most [`OWNERS_LINES`] lines about owners are logged.
const OWNERS_PAUSE: Duration = Duration::from_secs(1);

impl Plugins {
    /// Logs which outputs another program has taken over, and which outputs have no owner any more.
    pub(in crate::daemon) fn log_owners(&mut self, config: &Config, link: &mut ScanLink) {
        let (news, owners) = (link.news(), &mut self.owners);
        if owners.logged_at.is_some_and(|at| at.elapsed() < OWNERS_PAUSE) {
            return;
        }
        owners.last.resize(news.owners.len(), None);
        owners.lost.resize(news.owners.len(), false);
        // A reload may have removed a point. If a later reload adds the point again, the point has
        // no last owner.
        for (id, owner) in (0..).map(PointId).zip(&mut owners.last) {
            if news.points.get(id).is_none_or(|point| point.direction == Direction::In) {
                (*owner, owners.lost[id.index()]) = (None, false);
            }
        }
        let mut lines = 0;
        for (id, point) in news.points.iter() {
            let (seat, last) = (news.owners[id.index()], &mut owners.last[id.index()]);
            let (point, is_lost) = (&*point.name, &mut owners.lost[id.index()]);
            // An output without an owner is logged one time, and only if the scan still polls the
            // last owner. Otherwise a stopped program would also cause a line for each of its
            // outputs.
            let Some(owner) = seat.and_then(|seat| self.roster.name(seat)) else {
                let loser = last.as_deref().filter(|last| is_polled(last, &self.roster, news));
                if let (Some(last), false, true) = (loser, *is_lost, lines < OWNERS_LINES) {
                    (lines, *is_lost) = (lines + 1, true);
                    let verb = if config.may_write(last, id) { "does" } else { "may" };
                    let fate = without_owner(&news.points[id]);
                    tracing::warn!(
                        plugin = last,
                        point,
                        "{point} has no owner now (was {last}, which {verb} not write it any \
                         more); {fate}"
                    );
                }
                continue;
            };
            *is_lost = false;
            match last {
                Some(last) if last == owner => continue,
                // `last` does not change here, so a later call finds the new owner again.
                Some(_) if lines == OWNERS_LINES => continue,
                Some(last) => {
                    lines += 1;
                    tracing::warn!(
                        plugin = &**owner,
                        point,
                        before = &**last,
                        "{point} is now owned by {owner} (was {last})"
                    );
                }
                None => {}
            }
            *last = Some(Arc::clone(owner));
        }
        if lines > 0 {
            owners.logged_at = Some(Instant::now());
        }
    }
}
