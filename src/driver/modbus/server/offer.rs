//! All that a server offers, and the answer to each request.
//!
//! This file knows no socket and reads no clock. A request comes in as bytes, together with the
//! time and the controller's values at that time. The answer goes out as bytes, together with the
//! commands that the request brought. `connection.rs` and `server.rs` decide which clients may
//! ask, and how often.

use std::time::Duration;

use super::Config;
use super::command::Command;
use super::map::{self, Clash, Form, Map, Slot};
use super::request::{Exception, Request, cells_read, cells_written, refused};
use super::shown::Shown;
use crate::driver::OpenError;
use crate::driver::export::Export;
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{MAX_POINTS, Point, PointId, Points, Raw};
use crate::process::variable::MAX_VARIABLES;

/// The maximum number of entries in `show`: as many as there can be names.
const MAX_SHOWN: usize = MAX_POINTS + MAX_VARIABLES;

/// The content of a place in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    /// The value of an entry of `show`.
    Shown(usize),
    /// The quality of an entry of `show`.
    ShownQuality(usize),
    /// The value of a command, which clients write.
    Command(usize),
    /// The quality of a command.
    CommandQuality(usize),
}

impl map::Item for Item {
    /// A register of which one part is only shown cannot be written at all. Therefore commands
    /// share registers only with commands.
    fn goes_with(self, other: Self) -> bool {
        matches!(self, Self::Command(_)) == matches!(other, Self::Command(_))
    }
}

/// Everything that can be read and written.
#[derive(Debug)]
pub(super) struct Offer {
    map: Map<Item>,
    shown: Vec<Shown>,
    commands: Vec<Command>,
}

impl Offer {
    /// Plans the places of all that the configuration names.
    ///
    /// # Errors
    /// When an entry cannot work, or two entries need the same place.
    pub(super) fn plan(config: &Config, points: &Points, device: usize) -> Result<Self, OpenError> {
        if config.show.len() > MAX_SHOWN {
            let found = format!("{} entries", config.show.len());
            return Err(OpenError::new("show", found, format!("at most {MAX_SHOWN}")));
        }
        let mut offer = Self { map: Map::new(), shown: Vec::new(), commands: Vec::new() };
        for (n, show) in config.show.iter().enumerate() {
            let (shown, form) = Shown::plan(show, n, points)?;
            offer.shown.push(shown);
            let places = [
                Some((show.address, form, Item::Shown(n), "address")),
                show.quality.map(|at| (at, Form::Cell, Item::ShownQuality(n), "quality")),
            ];
            for (address, form, item, key) in places.into_iter().flatten() {
                let wrong =
                    |found, wanted| OpenError::new(format!("show[{n}].{key}"), found, wanted);
                offer.lay(show.table, address, form, item, &wrong)?;
            }
        }
        for (id, point) in points.iter().filter(|(_, point)| point.device == device) {
            offer.lay_command(id, point, config)?;
        }
        Ok(offer)
    }

    /// Adds a point of this device, which is a command, with its quality.
    fn lay_command(
        &mut self,
        id: PointId,
        point: &Point,
        config: &Config,
    ) -> Result<(), OpenError> {
        let Some(at) = config.at.get(&point.name) else {
            let wanted = "{ table = \"holding\", address = 0, expires = \"10s\" }";
            return Err(OpenError::at(&point.name, "", "nothing", wanted));
        };
        let (command, form) = Command::plan(id, point, at)?;
        let n = self.commands.len();
        self.commands.push(command);
        let places = [
            Some((at.address, form, Item::Command(n), "address")),
            at.quality.map(|at| (at, Form::Cell, Item::CommandQuality(n), "quality")),
        ];
        for (address, form, item, key) in places.into_iter().flatten() {
            let wrong = |found, wanted| OpenError::at(&point.name, key, found, wanted);
            self.lay(at.table, address, form, item, &wrong)?;
        }
        Ok(())
    }

    /// Adds one item to the map.
    fn lay(
        &mut self,
        table: Table,
        address: u16,
        form: Form,
        item: Item,
        wrong: &dyn Fn(String, String) -> OpenError,
    ) -> Result<(), OpenError> {
        let clash = match self.map.add((table, address), form, item) {
            Ok(()) => return Ok(()),
            Err(clash) => clash,
        };
        Err(match clash {
            Clash::Beyond => {
                let found = format!("{address}, where too few registers are left");
                wrong(found, "a place where it ends by 65535".into())
            }
            Clash::With(other) => {
                let found = format!("{} {address}, where {} is", table.word(), self.name(other));
                wrong(found, "a place of its own".into())
            }
        })
    }

    /// The item in words, for messages.
    fn name(&self, item: Item) -> String {
        match item {
            Item::Shown(n) => format!("show[{n}], {},", self.shown[n].name),
            Item::ShownQuality(n) => format!("the quality of show[{n}], {},", self.shown[n].name),
            Item::Command(n) => format!("the command {}", self.commands[n].name()),
            Item::CommandQuality(n) => {
                format!("the quality of the command {}", self.commands[n].name())
            }
        }
    }

    /// How long the scan trusts an input of this device.
    pub(super) fn freshness(&self, id: PointId) -> crate::process::image::Freshness {
        let command = self.commands.iter().find(|command| command.id == id);
        command.map(Command::freshness).unwrap_or_default()
    }

    /// The names of `show` that have no point and no variable now.
    pub(super) fn unknown<'s>(&'s self, export: &'s Export) -> impl Iterator<Item = &'s str> {
        let names = self.shown.iter().map(|shown| &*shown.name);
        names.filter(|name| export.find(name).is_none())
    }

    /// Forgets every value that was written.
    pub(super) fn forget(&mut self) {
        self.commands.iter_mut().for_each(Command::forget);
    }

    /// Answers a request, which begins with its function code. Passes the commands of the request
    /// to `take`: all of them or none.
    pub(super) fn answer(
        &mut self,
        pdu: &[u8],
        export: &Export,
        now: Duration,
        take: &mut dyn FnMut(PointId, Raw),
    ) -> Vec<u8> {
        let done = Request::parse(pdu).and_then(|request| match request {
            Request::Read { table, start, count } => {
                let cells = self.read((table, start, usize::from(count)), export, now)?;
                Ok(cells_read(pdu[0], table, &cells))
            }
            Request::Write { table, start, cells } => {
                for (n, raw) in self.commands_in(table, start, &cells)? {
                    self.commands[n].take(raw, now);
                    take(self.commands[n].id, raw);
                }
                Ok(cells_written(pdu))
            }
        });
        done.unwrap_or_else(|why| refused(pdu, why))
    }

    /// The content of these cells.
    fn read(
        &self,
        (table, start, count): (Table, u16, usize),
        export: &Export,
        now: Duration,
    ) -> Result<Vec<u16>, Exception> {
        let mut cells = vec![0; count];
        for (at, slot) in self.map.within(table, start, count)? {
            for (item, form) in &slot.items {
                form.put(self.raw(*item, table, export, now)?, &mut cells[at..]);
            }
        }
        Ok(cells)
    }

    /// The raw value of an item, as it is read in `table`.
    fn raw(
        &self,
        item: Item,
        table: Table,
        export: &Export,
        now: Duration,
    ) -> Result<Raw, Exception> {
        match item {
            Item::Shown(n) => {
                let shown = &self.shown[n];
                shown.look(export, now).answer(shown.instead, shown.has_companion)
            }
            Item::ShownQuality(n) => Ok(self.shown[n].look(export, now).companion(table)),
            Item::Command(n) => {
                let command = &self.commands[n];
                command.look(now).answer(command.instead(), command.has_companion)
            }
            Item::CommandQuality(n) => Ok(self.commands[n].look(now).companion(table)),
        }
    }

    /// The commands that these cells write, with their values.
    fn commands_in(
        &self,
        table: Table,
        start: u16,
        cells: &[u16],
    ) -> Result<Vec<(usize, Raw)>, Exception> {
        let mut commands = Vec::new();
        for (at, slot) in self.map.within(table, start, cells.len())? {
            self.commands_of(slot, &cells[at..], &mut commands)?;
        }
        Ok(commands)
    }

    /// Adds the commands of one slot, with the values that `cells` give them.
    fn commands_of(
        &self,
        slot: &Slot<Item>,
        cells: &[u16],
        commands: &mut Vec<(usize, Raw)>,
    ) -> Result<(), Exception> {
        // A bit that belongs to no command would not read back as it was written.
        let is_for_nobody = cells[0] & !slot.mask() != 0;
        for (item, form) in &slot.items {
            // A shown value cannot be written.
            let Item::Command(n) = *item else { return Err(Exception::Address) };
            let raw = form.take(cells).map_err(|_| Exception::Value)?;
            if is_for_nobody || !self.commands[n].is_in_range(&raw) {
                return Err(Exception::Value);
            }
            commands.push((n, raw));
        }
        Ok(())
    }
}
