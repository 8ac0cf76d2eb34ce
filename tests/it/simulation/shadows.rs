//! The shadow runs of the simulation, from the point of view of the scan.
//!
//! Feeds begin, are filled and are returned at random. This file does not test what a shadow run
//! does with its frames; `shadow.rs` has these tests.

use std::sync::Arc;

use camshaft::plugin::Generation;
use camshaft::plugin::instance::program::{NewProgram, Program};
use camshaft::plugin::shadow::{Frames, Shadow};
use camshaft::scan::{self, Order};

use super::house::House;
use super::model;
use crate::rig::{PERIOD, Rig};

/// The other end of one, and its number in the model.
pub struct Run {
    pub number: u64,
    _frames: Frames,
}

impl House {
    /// Some version is to be tried beside the one that runs under this name, if one does.
    pub fn try_beside(&mut self, name: &'static str) {
        let Some(seat) = self.seat(name) else { return };
        let module = self.random.usize(..self.modules.len());
        let module = &self.modules[module];
        let settings = self.settings[name].clone();
        // Nobody else has this number, and it is never seated.
        let generation = Generation(u64::MAX);
        let hash = module.hash;
        let request = NewProgram { name: name.into(), seat, hash, generation, settings };
        let Rig { limits, keeper, handle, .. } = &mut self.rig;
        let news = handle.latest.read();
        let world = scan::rehearsal(news, PERIOD);
        let Ok(prepared) =
            Program::prepare(request, &module.artifact, world, limits, keeper).result
        else {
            return;
        };
        let shadow = Shadow::new(prepared, scan::rehearsal(news, PERIOD));
        let (feed, frames) = shadow.feed();
        self.ticket += 1;
        let copy = model::Feed {
            number: self.ticket,
            name,
            seat,
            version: module.version,
            points: Arc::clone(&news.points),
            generation,
        };
        self.note("shadow", name);
        if self.order(Order::Shadow(feed), model::Order::Shadow(copy)) {
            self.shadows.push(Run { number: self.ticket, _frames: frames });
        }
    }

    /// Somebody has seen enough.
    pub fn end_a_shadow(&mut self) {
        if !self.shadows.is_empty() {
            let run = self.shadows.swap_remove(self.random.usize(..self.shadows.len()));
            self.model.over.push(run.number);
        }
    }
}
