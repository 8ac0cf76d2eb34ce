//! The plugins: their files, versions and instances, and which program runs.
//!
//! ```text
//!   PluginFolder ── file ──▶ Supervisor ── Prepare ──▶ Loader ── Loaded ──▶ Supervisor
//!                                │  ▲                                           │
//!                                │  └────────── facts ◀── the scan ◀── Install, Stop
//!                                └── Log ──▶ log and Record
//! ```
//! `PluginFolder` knows the plugin files, the supervisor decides which programs run, and the loader
//! makes programs from `.wasm` modules. `plugins.rs` connects these parts: it passes facts to the
//! supervisor, and passes the supervisor's orders to the loader and to the scan. It decides
//! nothing. Next: `plugins/roster.rs` (the data about each name), `plugins/loader.rs`,
//! `plugins/record.rs` (history), `supervisor.rs` (the decisions).
//!
//! `daemon.rs` calls `pursue` after each event. So the supervisor returns its next orders at once
//! after a new file, a finished preparation or an order of the operator. A later snapshot of the
//! scan shows the effect of an order to the scan.

mod bytes;
mod call;
mod crash;
mod deploy;
mod folder;
mod hold;
mod lack;
mod line;
mod loader;
mod note;
mod owner;
mod rate;
mod recall;
mod record;
pub(super) mod recovery;
mod refused;
mod roster;
mod shadow;
mod store;
mod verdict;
mod version;
mod view;

pub(super) use crash::Crashes;
pub(super) use folder::PluginFolder;
pub(super) use loader::{Loaded, Loader};
pub(super) use owner::Owners;
pub(super) use rate::{LineStore, Lines};
pub(super) use record::Record;
pub(super) use recovery::{Beginning, Recovery};
pub(super) use refused::{is_seated, writers};
pub(super) use roster::Roster;
pub(super) use store::Store;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::link::ScanLink;
use super::micros;
use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::SwapView;
use crate::heap::Trimming;
use crate::plugin::instance::program::NewProgram;
use crate::plugin::shadow::Feed;
use crate::plugin::{Generation, ModuleHash, Refusal};
use crate::process::seat::Seat;
use crate::scan::{MAX_ORDERS, Order, ProgramFact};
use crate::supervisor::{Action, Fact, Note, Supervisor};

use roster::{Ordered, Ready};
use verdict::log_note;

/// All data that the daemon has about plugins.
pub(super) struct Plugins {
    /// The supervisor, which decides which programs run.
    pub(super) supervisor: Supervisor,
    /// The seat and the prepared program of each plugin, and the modules.
    pub(super) roster: Roster,
    /// The tasks that make programs from modules.
    pub(super) loader: Loader,
    /// New shadow runs, for which the daemon has not yet ordered input data from the scan.
    pub(super) feeds: Vec<Feed>,
    /// The crash reports of programs that trapped.
    pub(super) crashes: Crashes,
    /// The watched folder.
    pub(super) folder: PluginFolder,
    /// The versions that are stored on the disk, because they have passed their probation.
    pub(super) store: Store,
    /// The history of the plugins, and the record of each version.
    pub(super) record: Record,
    /// The state of recovery. In recovery, no plugin runs.
    pub(super) recovery: Recovery,
    /// The last owner of each output point that `log_owners` has recorded.
    pub(super) owners: Owners,
    /// The names of the plugins whose bad required input point is logged. `log_lacks` removes a
    /// name when all required input points are good again, or when the plugin is removed.
    pub(super) lacks: BTreeSet<Arc<str>>,
    /// When the memory of ended programs is returned to the system.
    pub(super) trimming: Trimming,
}

impl Plugins {
    /// Takes the outcome of a preparation: logs it, writes a crash report if the program trapped,
    /// and informs the supervisor. If the preparation succeeded, stores the module and the prepared
    /// program in the roster.
    pub(super) fn loaded(&mut self, loaded: Loaded, config: &Config, link: &mut ScanLink) {
        self.log_shadow(&loaded);
        self.log_notes(&loaded);
        loaded.lines.iter().for_each(|line| self.log_line(line, config, link));
        if let Some(post_mortem) = loaded.post_mortem {
            self.report_failed_start(&loaded.name, loaded.hash, *post_mortem, config);
        }
        let cached = loaded.cached;
        match (loaded.module, &loaded.result) {
            (Some(module), Ok(_)) => {
                self.roster.modules.insert(loaded.hash, module);
            }
            // The preparation has failed. If no plugin runs the module or has run it last, its
            // bytes are dropped from memory, and the next attempt reads the bytes from the disk.
            _ => {
                if !self.supervisor.has_run(loaded.hash) {
                    self.roster.modules.remove(&loaded.hash);
                }
                // The refused file may be incomplete. If the file grows later, the watch waits
                // longer before it reads the file again.
                self.folder.watch.refused(&loaded.name);
            }
        }
        let result = loaded.result.map(|program| {
            if let Some(entry) = self.roster.get_mut(&loaded.name) {
                let times = SwapView {
                    // Only the first program from a file gets the detection time of this file. A
                    // later program from the same file has a detection time of zero.
                    detect_us: micros(std::mem::take(&mut entry.detect)),
                    compile_us: micros(loaded.compile),
                    prepare_us: micros(loaded.prepare),
                    cached,
                    ..SwapView::default()
                };
                // If the result of an ended preparation arrives late, its instance must not replace
                // the instance of a newer preparation.
                let newer = |ready: &Ready| ready.generation() > loaded.generation;
                if !entry.ready.as_ref().is_some_and(newer) {
                    entry.ready = Some(Ready { program: Box::new(program), times });
                }
            }
        });
        self.supervisor.prepared(&loaded.name, loaded.generation, result);
    }

    /// Lets the supervisor compare the wanted state with the actual state, and executes the
    /// supervisor's orders.
    pub(super) fn pursue(&mut self, config: &Config, link: &mut ScanLink) {
        let news = link.news();
        let facts: Vec<_> = self.roster.seats.programs(news).map(fact_of).collect();
        let now = MonotonicClock.now();
        for action in self.supervisor.step(now, &facts) {
            self.act(action, config, link);
        }
    }

    /// Executes one order of the supervisor. If the queue of orders to the scan is full, nothing is
    /// sent, and the supervisor repeats the order later.
    fn act(&mut self, action: Action, config: &Config, link: &mut ScanLink) {
        match action {
            // The loader works in a task. The result of the preparation comes back as
            // `Event::Loaded`, which calls `loaded`.
            Action::Prepare { name, hash, generation } => {
                let settings = config.settings(&name);
                let (world, is_tried) =
                    (link.rehearsal(config), self.is_to_be_tried(&name, hash, config));
                let module = self.module(&name, hash, config);
                let Some(entry) = self.roster.enter(&name) else {
                    let refusal = Refusal::new(
                        "the scan has no room for another program",
                        "remove another plugin",
                    );
                    self.supervisor.prepared(&name, generation, Err(refusal.by_accident()));
                    return;
                };
                let (name, seat) = (name.into(), entry.seat);
                let request = NewProgram { name, seat, hash, generation, settings };
                entry.loading.replace(self.loader.load(request, module, world, is_tried));
            }
            // The prepared program moves from the roster into the queue to the scan.
            Action::Install { name, generation } => {
                let settings = config.settings(&name);
                if let Some(entry) = self.roster.get_mut(&name)
                    && let Some(mut ready) =
                        entry.ready.take_if(|ready| ready.generation() == generation)
                {
                    // A reload may have changed the settings after the preparation began.
                    let program = &mut ready.program.program;
                    program.configure(settings, &config.live.points);
                    let (missed, hash) = (link.news().missed, program.hash);
                    let (times, at) = (ready.times, MonotonicClock.now());
                    entry.order(Ordered { hash, generation, times, at, missed }, program.refused());
                    if let Err(rtrb::PushError::Full(order)) =
                        link.handle.orders.push(Order::Install(ready.program))
                        && let Order::Install(program) = order
                    {
                        // The queue is full. The program is stored in the roster again, because the
                        // supervisor repeats the order.
                        entry.ready = Some(Ready { program, times: ready.times });
                    }
                }
            }
            // This drops the prepared program, or ends its preparation.
            Action::Discard { name, generation } => {
                if let Some(entry) = self.roster.get_mut(&name) {
                    entry.ready.take_if(|ready| ready.generation() == generation);
                    entry.loading.abandon(generation);
                }
            }
            Action::Stop { name } => {
                if let Some(entry) = self.roster.get(&name) {
                    // If the queue is full, the supervisor repeats the order.
                    let _ = link.handle.orders.push(Order::Remove(entry.seat));
                }
            }
            Action::Log { name, note } => self.note(&name, &note, link),
        }
    }

    /// Frees the seats, modules, memory, histograms and history data of plugins that the supervisor
    /// has dropped. Orders the scan to remove programs that have no plugin any more.
    pub(super) fn forget_the_gone(&mut self, link: &mut ScanLink) {
        let news = link.handle.latest.read();
        // A program of a dropped plugin may still be in the queue to the scan. No other plugin may
        // get the seat of this program until the queue is empty.
        let on_the_way = link.handle.orders.slots() < MAX_ORDERS;
        let free = self.roster.retain(|name, seat| {
            on_the_way
                || self.supervisor.plugin(name).is_some()
                || news.programs.iter().any(|fact| fact.seat == seat)
        });
        free.into_iter().for_each(|seat| link.stats.forget(seat));
        self.record.forget(|name| self.supervisor.plugin(name).is_some());
        for fact in news.programs.iter().filter(|fact| self.roster.name(fact.seat).is_none()) {
            // The program of a dropped plugin was in the queue when the plugin was dropped, so it
            // is in the scan now. If the queue is full now, the next call of this function repeats
            // the order.
            let _ = link.handle.orders.push(Order::Remove(fact.seat));
        }
        let needed: Vec<_> = self.supervisor.needed().collect();
        self.roster.keep_modules(&needed);
        self.trimming.pursue();
    }

    /// Logs an event of the supervisor and adds it to the plugin's history.
    pub(in crate::daemon) fn note(&mut self, name: &str, note: &Note, link: &mut ScanLink) {
        log_note(name, note, &self.supervisor);
        // A swap or a trap may be the cause of the event, so it is recorded before the event.
        self.settle_swaps(link);
        let quarantined = self.supervisor.quarantined(name);
        self.record.noted(name, note, |hash| {
            quarantined.iter().find(|(of, _)| *of == hash).map(|(_, why)| why.clone())
        });
    }

    /// Computes the durations of the swaps that the snapshot shows for the first time. Records
    /// these swaps in the history, and the traps and crash reports that are not recorded yet.
    pub(in crate::daemon) fn settle_swaps(&mut self, link: &mut ScanLink) {
        self.settle_reports();
        let news = link.news();
        self.record.cycle = news.cycle;
        for (name, fact) in self.roster.seats.programs(news) {
            let Some(entry) = self.roster.entries.get_mut(name) else { continue };
            self.record.settle(name, entry, fact, news.missed);
        }
    }

    /// Returns the name of the plugin on this seat, and the module hash of this instance. The hash
    /// is `None` if the daemon no longer knows the instance.
    pub(super) fn version_at(
        &self,
        seat: Seat,
        generation: Generation,
    ) -> (String, Option<ModuleHash>) {
        let Some(name) = self.roster.name(seat) else {
            return ("a removed plugin".into(), None);
        };
        let ordered = self.roster.get(name).and_then(|entry| entry.on_its_way(generation));
        let view = self.supervisor.plugin(name);
        let known = view.into_iter().flat_map(|view| [view.running, view.next]).flatten();
        let known = known.filter(|version| version.generation == generation);
        (name.to_string(), known.map(|version| version.hash).next().or(ordered))
    }
}

/// Converts the scan's [`ProgramFact`] about a program into a [`Fact`] for the supervisor.
fn fact_of<'f>((name, fact): (&'f Arc<str>, &ProgramFact)) -> Fact<'f> {
    let rolled_back = fact.rolled_back.as_ref();
    Fact {
        name,
        generation: fact.generation,
        trap: fact.trap.clone(),
        standby: fact.standby,
        rolled_back: rolled_back
            .and_then(|rolled_back| Some((rolled_back.generation, rolled_back.trap.clone()?))),
    }
}
