//! Log lines about the owners of outputs: a program takes an output from another, or an output has
//! no owner any more.
//!
//! The scan decides which program owns an output (`process/overlay.rs`); this file only logs it.
//! What the status says about owners is in `refused.rs` and `daemon/view.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Plugins;
use super::refused::is_polled;
use crate::config::Config;
use crate::daemon::link::ScanLink;
use crate::process::image::{Direction, Point, PointId, Safe};

/// The owners of outputs, as last logged.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Owners {
    /// The last owner of each point, by the id of the point.
    last: Vec<Option<Arc<str>>>,
    /// Whether the log already says that the point has no owner any more, by the id of the point.
    lost: Vec<bool>,
    /// When a line about owners was last logged.
    told_at: Option<Instant>,
}

impl Owners {
    /// The last owner of this point; `None` if no program has owned it.
    pub(in crate::daemon) fn last(&self, id: PointId) -> Option<&str> {
        self.last.get(id.index())?.as_deref()
    }
}

/// The largest number of lines about owners in [`OWNERS_PAUSE`], because two programs may take all
/// outputs from each other for ever. A change that found no line is logged later, if it still holds
/// then.
const OWNERS_LINES: usize = 10;

/// The value of an output that has no owner any more, as text.
fn without_owner(point: &Point) -> String {
    match (point.safe, point.hold_for) {
        (Safe::Hold, _) => "it keeps its value, because its `safe` is \"hold\"".into(),
        (_, Duration::ZERO) => "it is safe".into(),
        (_, time) => format!("it is safe after {} (hold_for)", humantime::format_duration(time)),
    }
}

/// The time in which at most [`OWNERS_LINES`] lines about owners are logged.
const OWNERS_PAUSE: Duration = Duration::from_secs(1);

impl Plugins {
    /// Logs which outputs have another owner than their last one, and which have no owner any more.
    pub(in crate::daemon) fn tell_of_owners(&mut self, config: &Config, link: &mut ScanLink) {
        let (news, owners) = (link.news(), &mut self.owners);
        if owners.told_at.is_some_and(|at| at.elapsed() < OWNERS_PAUSE) {
            return;
        }
        owners.last.resize(news.owners.len(), None);
        owners.lost.resize(news.owners.len(), false);
        // A point that a reload has removed may come back, and then it has no last owner.
        for (id, owner) in (0..).map(PointId).zip(&mut owners.last) {
            if news.points.get(id).is_none_or(|point| point.direction == Direction::In) {
                (*owner, owners.lost[id.index()]) = (None, false);
            }
        }
        let mut lines = 0;
        for (id, point) in news.points.iter() {
            let (seat, last) = (news.owners[id.index()], &mut owners.last[id.index()]);
            let (point, is_lost) = (&*point.name, &mut owners.lost[id.index()]);
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
            owners.told_at = Some(Instant::now());
        }
    }
}
