//! Feeds shadow runs: copies what a program read and did in a poll into frames that were allocated
//! in advance.
//!
//! The scan never waits for a shadow run. It allocates only in the cycle in which a shadow run
//! begins: in that cycle the running version saves its state, as for a hand-over, and goes on
//! unchanged. `plugin/shadow.rs` has the shadow run, which reads the frames.

use super::position::Doing;
use super::{Return, Scan};
use crate::plugin::shadow::{Feed, MAX_FEEDS};

impl Scan {
    /// Feeds this shadow run from now on, if another version of its plugin runs. Otherwise the feed
    /// goes back to the daemon at once.
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

    /// Gives back to the daemon each feed that is over, whose program is gone, or whose frames do
    /// not fit the present points.
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

    /// Gives a feed back to the daemon. If the feed does not fit the present points, this is noted
    /// in it.
    fn end_feed(&mut self, feed: Feed) {
        if !feed.fits(&self.world) {
            feed.outdate();
        }
        self.give_back(Return::Feed(feed));
    }

    /// Fills the frames with the values that this program is about to read. The caller calls this
    /// function before the program's poll.
    pub(super) fn feed_before(&mut self, index: usize) {
        let generation = self.programs[index].program.generation;
        for feed in self.feeds.iter_mut().filter(|f| f.generation() == generation) {
            feed.before(&self.world);
        }
    }

    /// Fills the frames with the values that this program wrote. The caller calls this function
    /// after a good poll.
    pub(super) fn feed_after(&mut self, index: usize) {
        let program = &self.programs[index].program;
        for feed in self.feeds.iter_mut().filter(|f| f.generation() == program.generation) {
            feed.after(program.polls, &self.world);
        }
    }
}
