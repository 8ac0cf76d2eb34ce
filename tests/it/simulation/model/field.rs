//! Other points and devices in the model.
//!
//! Written from what `scan/reconfigure.rs` promises: what is among both is not touched, what goes
//! leaves nothing behind, what comes is unread or safe.

use std::sync::Arc;

use camshaft::process::image::{Direction, Quality, Safe};

use super::super::plant::{ANNEX, Mirror};
use super::{Annex, Field, Model};

impl Model {
    pub(super) fn take_over(&mut self, field: Field) {
        let world = &mut self.world;
        let before = std::mem::replace(&mut world.points, Arc::clone(&field.points));
        let points = field.points;
        for (id, point) in before.iter().filter(|(id, _)| points.get(*id).is_none()) {
            let image = match point.direction {
                Direction::In => &mut world.inputs.bytes,
                Direction::Out => &mut world.outputs,
            };
            point.bytes().for_each(|at| image[at] &= !point.mask());
            if point.direction == Direction::Out {
                point.bytes().for_each(|at| world.before[at] &= !point.mask());
            }
            world.owners[id.index()] = None;
            world.inputs.quality[id.index()] = Quality::Good;
            self.events.push(("point gone", point.name.clone()));
        }
        world.inputs.bytes.resize(points.image_bytes(Direction::In), 0);
        world.outputs.resize(points.image_bytes(Direction::Out), 0);
        world.before.resize(points.image_bytes(Direction::Out), 0);
        world.inputs.quality.resize(points.ids(), Quality::Good);
        world.inputs.good_at.resize(points.ids(), std::time::Duration::ZERO);
        world.owners.resize(points.ids(), None);
        for (id, point) in points.iter().filter(|(id, _)| before.get(*id).is_none()) {
            match (point.direction, point.safe) {
                (Direction::In, _) => world.inputs.quality[id.index()] = Quality::Waiting,
                (Direction::Out, Safe::Value(safe)) => {
                    point.write(&mut world.outputs, safe).expect("safe values fit");
                }
                (Direction::Out, Safe::Hold) => {
                    point.bytes().for_each(|at| world.outputs[at] &= !point.mask());
                }
            }
            if point.direction == Direction::Out {
                point.put_raw(&mut world.before, &point.raw(&world.outputs));
            }
            self.events.push(("new point", point.name.clone()));
        }
        if field.annex != Annex::Kept {
            self.devices.truncate(ANNEX);
        }
        if field.annex == Annex::Opened {
            self.devices.push((Mirror::new(&points, ANNEX), None));
        }
        for program in &mut self.seated {
            program.configure(&program.settings.clone());
            if let Some(standby) = &mut program.standby {
                standby.program.configure(&program.settings);
            }
        }
    }
}
