//! All values that a server offers, and the answer to each request.
//!
//! ```text
//!   request, time, values of the controller --> Offer::answer --> answer
//!                                                    +----------> commands for the scan
//! ```
//! This file uses no socket and reads no clock. The caller passes the bytes of a request, the time,
//! and an [`Export`], which is the newest copy of the controller's values. The function
//! `Offer::answer` returns the bytes of the answer. `Offer::answer` also passes the commands of the
//! request to a function of the caller. `connection.rs` and `server.rs` decide which clients may
//! send requests, and how often.

use std::time::Duration;

use super::Config;
use super::command::Command;
use super::map::{self, Clash, Form, Map, Slot};
use super::request::{Exception, ServerRequest, cells_read, cells_written, refused};
use super::shown::Shown;
use crate::driver::OpenError;
use crate::driver::export::Export;
use crate::driver::modbus::wire::table::Table;
use crate::process::image::{MAX_POINTS, Point, PointId, Points, Raw};
use crate::process::variable::MAX_VARIABLES;

/// The maximum number of entries in `show`: one entry for each possible point and variable.
const MAX_SHOWN: usize = MAX_POINTS + MAX_VARIABLES;

/// One item of the [`Map`]. The number is the index of an entry of `show`, or the index of a
/// command. A command is an input of this device, which clients write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    /// The value of an entry of `show`.
    Shown(usize),
    /// The quality of the value of an entry of `show`.
    ShownQuality(usize),
    /// The value of a command. Clients write and read this value.
    Command(usize),
    /// The quality of a command. Clients can only read it.
    CommandQuality(usize),
}

impl map::Item for Item {
    /// Whether two items may share a register. A client writes all bits of a register together, so
    /// a register with a read-only part cannot be written. Therefore the value of a command shares
    /// a register only with values of other commands.
    fn goes_with(self, other: Self) -> bool {
        matches!(self, Self::Command(_)) == matches!(other, Self::Command(_))
    }
}

/// All values that clients can read or write.
#[derive(Debug)]
pub(super) struct Offer {
    map: Map<Item>,
    shown: Vec<Shown>,
    commands: Vec<Command>,
}

impl Offer {
    /// Plans the addresses of all values that the configuration names.
    ///
    /// # Errors
    /// When the list `show` is too long, when an entry of `show` or a point cannot work, or when
    /// two items need the same address.
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

    /// Adds a command, which is an input of this device, to the map. If the command has a quality,
    /// the function adds the quality too.
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

    /// Adds one item to the map. `wrong` makes the error if the item cannot be added at this
    /// address.
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
                let found = format!("{address}, where the value would end after 65535");
                wrong(found, "an address at which the value ends at 65535 or before".into())
            }
            Clash::With(other) => {
                let found =
                    format!("{} {address}, which {} occupies", table.word(), self.name(other));
                wrong(found, "an address that no other value occupies".into())
            }
        })
    }

    /// Returns the item in words, for error messages.
    fn name(&self, item: Item) -> String {
        match item {
            Item::Shown(n) => format!("show[{n}] ({})", self.shown[n].name),
            Item::ShownQuality(n) => format!("the quality of show[{n}] ({})", self.shown[n].name),
            Item::Command(n) => format!("the command {}", self.commands[n].name()),
            Item::CommandQuality(n) => {
                format!("the quality of the command {}", self.commands[n].name())
            }
        }
    }

    /// Returns how long the scan trusts an input of this device after its last write.
    pub(super) fn freshness(&self, id: PointId) -> crate::process::image::Freshness {
        let command = self.commands.iter().find(|command| command.id == id);
        command.map(Command::freshness).unwrap_or_default()
    }

    /// Returns the names in `show` that have no point and no variable in `export`.
    pub(super) fn unknown<'s>(&'s self, export: &'s Export) -> impl Iterator<Item = &'s str> {
        let names = self.shown.iter().map(|shown| &*shown.name);
        names.filter(|name| export.find(name).is_none())
    }

    /// Deletes all values that clients have written.
    pub(super) fn forget(&mut self) {
        self.commands.iter_mut().for_each(Command::forget);
    }

    /// Answers a request, which begins with its function code. If the request is a valid write,
    /// passes all its commands to `take`. For any other request, passes no command.
    pub(super) fn answer(
        &mut self,
        pdu: &[u8],
        export: &Export,
        now: Duration,
        take: &mut dyn FnMut(PointId, Raw),
    ) -> Vec<u8> {
        let done = ServerRequest::parse(pdu).and_then(|request| match request {
            ServerRequest::Read { table, start, count } => {
                let cells = self.read((table, start, usize::from(count)), export, now)?;
                Ok(cells_read(pdu[0], table, &cells))
            }
            ServerRequest::Write { table, start, cells } => {
                for (n, raw) in self.commands_in(table, start, &cells)? {
                    self.commands[n].take(raw, now);
                    take(self.commands[n].id, raw);
                }
                Ok(cells_written(pdu))
            }
        });
        done.unwrap_or_else(|why| refused(pdu, why))
    }

    /// Returns the content of the `count` cells from `start` on, or the exception that the server
    /// must send. A cell is a register or a bit.
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

    /// Returns the raw value of an item for a read in `table`, or the exception that the server
    /// must send.
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
                shown.seen(export, now).answer(shown.instead, shown.has_companion)
            }
            Item::ShownQuality(n) => Ok(self.shown[n].seen(export, now).companion(table)),
            Item::Command(n) => {
                let command = &self.commands[n];
                command.seen(now).answer(command.instead(), command.has_companion)
            }
            Item::CommandQuality(n) => Ok(self.commands[n].seen(now).companion(table)),
        }
    }

    /// Returns the indexes of the commands that a write of these cells contains, with the new
    /// values. Returns an exception if the server must refuse the write.
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

    /// Adds the commands of one slot to `commands`. The new values of the commands are in `cells`;
    /// `cells[0]` is the first cell of the slot.
    fn commands_of(
        &self,
        slot: &Slot<Item>,
        cells: &[u16],
        commands: &mut Vec<(usize, Raw)>,
    ) -> Result<(), Exception> {
        // A bit that belongs to no command must be 0. A later read of this bit would return 0, so
        // the server must not accept a 1.
        let is_for_nobody = cells[0] & !slot.mask() != 0;
        for (item, form) in &slot.items {
            // The value of an entry of `show` can only be read.
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
