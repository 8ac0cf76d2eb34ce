//! The frames of shadow runs. A frame is a copy of the values that a program read and wrote in one
//! poll.
//!
//! A shadow run tests a new version of a plugin on another thread: the new version is polled with
//! the same inputs as the running version. The scan fills the frames, which were allocated in
//! advance, and never waits for a shadow run. The scan allocates memory only in the cycle in which
//! a shadow run begins. If both versions have `save` and `restore`, the running version saves its
//! state for the new version in that cycle, as in a hand-over, and then runs on. `plugin/shadow.rs`
//! has the shadow run, which reads the frames.
//!
//! ```text
//! begin_feed ──▶ in each cycle: feed_before, poll of the running version, feed_after ──▶ end_feed
//! ```

use super::position::Doing;
use super::{Return, Scan};
use crate::plugin::shadow::{Feed, MAX_FEEDS};

impl Scan {
    /// Starts to record the polls of the running version into this feed. The scan returns the feed
    /// to the daemon at once if the plugin does not run, or if the new version already runs. The
    /// scan also returns the feed at once if it is halting, if there are too many feeds, or if the
    /// points have changed.
    pub(super) fn begin_feed(&mut self, mut feed: Feed) {
        let index = self.index(feed.seat).filter(|&index| {
            let program = &self.programs[index].program;
            program.name == feed.name && program.hash != feed.hash
        });
        let may_begin =
            !self.is_halting() && self.feeds.len() < MAX_FEEDS && feed.fits(&self.world);
        let Some(index) = index.filter(|_| may_begin) else {
            return self.end_feed(feed);
        };
        let program = &mut self.programs[index].program;
        let mut state = None;
        if feed.takes_state {
            self.slot.mark();
            self.ends.position.is_at(Doing::Save(program.seat, program.generation));
            state = program.spare_state(&mut self.world, &self.slot);
            self.ends.position.is_at(Doing::Own);
        }
        feed.begin(program.generation, state);
        self.feeds.push(feed);
        self.lose_if_spent(index);
    }

    /// Returns to the daemon each feed that can get no more frames. The reason is one of these: the
    /// shadow run has ended, the running version has lost its seat, or the points have changed.
    pub(super) fn end_feeds(&mut self) {
        for at in (0..self.feeds.len()).rev() {
            let feed = &self.feeds[at];
            let is_it = |program: &super::Seated| program.program.generation == feed.generation();
            if feed.is_over() || !feed.fits(&self.world) || !self.programs.iter().any(is_it) {
                let feed = self.feeds.swap_remove(at);
                self.end_feed(feed);
            }
        }
    }

    /// Returns a feed to the daemon. If the points have changed, the feed is marked as outdated.
    fn end_feed(&mut self, feed: Feed) {
        if !feed.fits(&self.world) {
            feed.outdate();
        }
        self.give_back(Return::Feed(feed));
    }

    /// Copies the variables, the outputs and the degraded flag before the poll into the frames. The
    /// scan calls this function directly before the program's poll.
    pub(super) fn feed_before(&mut self, index: usize) {
        let generation = self.programs[index].program.generation;
        for feed in self.feeds.iter_mut().filter(|f| f.generation() == generation) {
            feed.before(&self.world);
        }
    }

    /// Copies the inputs and the outputs of the poll into the frames, and sends the frames to the
    /// shadow runs. The scan calls this function after a poll without a trap.
    pub(super) fn feed_after(&mut self, index: usize) {
        let program = &self.programs[index].program;
        for feed in self.feeds.iter_mut().filter(|f| f.generation() == program.generation) {
            feed.after(program.polls, &self.world);
        }
    }
}
