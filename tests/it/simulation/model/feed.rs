//! Shadow runs in the model: who is fed, and when that ends.

use std::sync::Arc;

use camshaft::plugin::shadow::MAX_FEEDS;

use super::super::version::{Failure, HandOver};
use super::{Back, Feed, Model};

impl Model {
    /// A feed begins if another version of its plugin runs among the same points.
    pub(super) fn begin_feed(&mut self, mut feed: Feed) {
        let index = self.index(feed.seat).filter(|index| {
            let program = &self.seated[*index];
            program.name == feed.name && program.instance.version != feed.version
        });
        let may_begin = !self.is_halted
            && !self.is_halting
            && self.feeds.len() < MAX_FEEDS
            && Arc::ptr_eq(&feed.points, &self.world.points);
        let Some(index) = index.filter(|_| may_begin) else {
            return self.returns.push_back(Back::Feed);
        };
        let program = &self.seated[index];
        let mut is_cut_off = false;
        feed.generation = program.generation;
        if feed.version.hand_over != HandOver::Unknown && program.instance.hands_over() {
            // It is asked for its state, and goes on as before, unless that has no end.
            let saved = program.instance.save(program.seat, &mut self.world);
            is_cut_off = saved == Err(Failure::Endless);
        }
        self.events.push(("shadow begun", feed.name.to_owned()));
        self.feeds.push(feed);
        if is_cut_off {
            self.lose_in_save(index);
        }
    }

    /// Those that nobody wants any more, whose program has left or that have other points come back.
    pub(super) fn end_feeds(&mut self) {
        let before = self.feeds.len();
        let (seated, over, points) = (&self.seated, &self.over, &self.world.points);
        self.feeds.retain(|feed| {
            let is_there = seated.iter().any(|program| program.generation == feed.generation);
            is_there && Arc::ptr_eq(&feed.points, points) && !over.contains(&feed.number)
        });
        self.returns.extend((self.feeds.len()..before).map(|_| Back::Feed));
    }
}
