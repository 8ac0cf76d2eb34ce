//! Feeds shadow runs: copies what a program saw and did in a poll into frames made in advance.
//!
//! The scan never waits for a shadow run. It allocates only in the cycle in which one begins: then
//! the running version saves its state, as for a hand-over, and goes on unchanged. What is done
//! with the frames is in `plugin/shadow.rs`.

use super::position::Doing;
use super::{Return, Scan};
use crate::plugin::shadow::{Feed, MAX_FEEDS};

impl Scan {
    /// Feeds this shadow run from now on, if another version of its plugin runs. Otherwise the feed
    /// goes back at once.
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

    /// Gives back the feeds that are over, whose program is gone, or whose frames do not fit the
    /// present points.
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

    /// Gives a feed back, and notes in it if it does not fit the present points.
    fn end_feed(&mut self, feed: Feed) {
        if !feed.fits(&self.world) {
            feed.outdate();
        }
        self.give_back(Return::Feed(feed));
    }

    /// Fills the frames with what this program is about to see. To be called before its poll.
    pub(super) fn feed_before(&mut self, index: usize) {
        let generation = self.programs[index].program.generation;
        for feed in self.feeds.iter_mut().filter(|f| f.generation() == generation) {
            feed.before(&self.world);
        }
    }

    /// Fills the frames with what this program did. To be called after a good poll.
    pub(super) fn feed_after(&mut self, index: usize) {
        let program = &self.programs[index].program;
        for feed in self.feeds.iter_mut().filter(|f| f.generation() == program.generation) {
            feed.after(program.polls, &self.world);
        }
    }
}
