//! The plugins: their files, versions and instances, and which program runs.
//!
//! ```text
//!   PluginFolder ── file ──▶ Supervisor ── Prepare ──▶ Loader ── Loaded ──▶ Supervisor
//!                                │  ▲                                           │
//!                                │  └────────── facts ◀── the scan ◀── Install, Stop
//!                                └── Tell ──▶ log and Record
//! ```
//! The folder knows which files there are, the supervisor decides which of them run, and the loader
//! makes programs of modules. This part carries facts between them, and sends to the scan the
//! orders that the supervisor has decided. It decides nothing itself. Next: `plugins/roster.rs`
//! (what is known under each name), `plugins/loader.rs`, `plugins/record.rs` (history),
//! `supervisor.rs` (the decisions).

mod call;
mod crash;
mod deploy;
mod folder;
mod hold;
mod keep;
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
mod verdict;
mod version;
mod view;

pub(super) use crash::Crashes;
pub(super) use folder::PluginFolder;
pub(super) use keep::Store;
pub(super) use loader::{Loaded, Loader};
pub(super) use owner::Owners;
pub(super) use rate::{LineStore, Lines};
pub(super) use record::Record;
pub(super) use recovery::{Beginning, Recovery};
pub(super) use refused::{is_seated, writers};
pub(super) use roster::Roster;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::link::ScanLink;
use super::micros;
use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::SwapView;
use crate::plugin::instance::program::Request;
use crate::plugin::shadow::Feed;
use crate::plugin::{Generation, ModuleHash, Refusal};
use crate::process::seat::Seat;
use crate::scan::{MAX_ORDERS, Order, ProgramFact};
use crate::supervisor::{Action, Fact, Note, Supervisor};

use roster::{Ordered, Ready};
use verdict::tell;

/// All that the daemon knows about plugins.
pub(super) struct Plugins {
    /// The decisions which program runs; pure.
    pub(super) supervisor: Supervisor,
    /// The seat, the program and the module of each plugin.
    pub(super) roster: Roster,
    /// The tasks that make programs of modules.
    pub(super) loader: Loader,
    /// Shadow runs that the scan was not ordered to feed yet.
    pub(super) feeds: Vec<Feed>,
    /// The reports of traps.
    pub(super) crashes: Crashes,
    /// The watched folder.
    pub(super) folder: PluginFolder,
    /// The good versions that are kept on the disk.
    pub(super) store: Store,
    /// The history of plugins, and what is known about each version.
    pub(super) record: Record,
    /// Whether the daemon is in recovery, in which no plugin runs.
    pub(super) recovery: Recovery,
    /// The owners of the outputs, as last logged.
    pub(super) owners: Owners,
    /// Programs whose outputs are safe because a required input is bad, as last logged.
    pub(super) lacks: BTreeSet<Arc<str>>,
}

impl Plugins {
    /// Takes in the result of a preparation: logs it, keeps the module, and tells the supervisor.
    pub(super) fn loaded(&mut self, loaded: Loaded, config: &Config, link: &mut ScanLink) {
        self.tell_of_shadow(&loaded);
        self.say_notes(&loaded);
        loaded.lines.iter().for_each(|line| self.say(line, config, link));
        if let Some(post_mortem) = loaded.post_mortem {
            self.report_failed_start(&loaded.name, loaded.hash, *post_mortem, config);
        }
        let cached = loaded.cached;
        match (loaded.module, &loaded.result) {
            (Some(module), Ok(_)) => {
                self.roster.modules.insert(loaded.hash, module);
            }
            // The bytes of a module that does not run are not kept in memory. Another try reads
            // them again.
            _ => {
                if !self.supervisor.has_run(loaded.hash) {
                    self.roster.modules.remove(&loaded.hash);
                }
                self.folder.watch.refused(&loaded.name);
            }
        }
        let result = loaded.result.map(|program| {
            if let Some(entry) = self.roster.get_mut(&loaded.name) {
                let times = SwapView {
                    // A restart of the same file has no time of detection.
                    detect_us: micros(std::mem::take(&mut entry.detect)),
                    compile_us: micros(loaded.compile),
                    prepare_us: micros(loaded.prepare),
                    cached,
                    ..SwapView::default()
                };
                // The instance of an abandoned preparation may come after the instance that
                // replaced it.
                let newer = |ready: &Ready| ready.generation() > loaded.generation;
                if !entry.ready.as_ref().is_some_and(newer) {
                    entry.ready = Some(Ready { program: Box::new(program), times });
                }
            }
        });
        self.supervisor.prepared(&loaded.name, loaded.generation, result);
    }

    /// Lets the supervisor compare the wanted state with the actual state, and carries out its
    /// orders.
    pub(super) fn pursue(&mut self, config: &Config, link: &mut ScanLink) {
        let news = link.news();
        let facts: Vec<_> = self.roster.seats.programs(news).map(fact_of).collect();
        let now = MonotonicClock.now();
        for action in self.supervisor.step(now, &facts) {
            self.act(action, config, link);
        }
    }

    /// Carries out one order of the supervisor. If the scan's queue is full, the order is dropped,
    /// and the supervisor gives it again.
    fn act(&mut self, action: Action, config: &Config, link: &mut ScanLink) {
        match action {
            Action::Prepare { name, hash, generation } => {
                let settings = config.settings(&name);
                let (world, is_tried) =
                    (link.rehearsal(config), self.is_to_be_tried(&name, hash, config));
                let module = self.module(&name, hash, config);
                let Some(entry) = self.roster.enter(&name) else {
                    let refusal = Refusal::new("all seats are taken", "remove another plugin");
                    self.supervisor.prepared(&name, generation, Err(refusal.by_accident()));
                    return;
                };
                let (name, seat) = (name.into(), entry.seat);
                let request = Request { name, seat, hash, generation, settings };
                entry.loading.replace(self.loader.load(request, module, world, is_tried));
            }
            Action::Install { name, generation } => {
                let settings = config.settings(&name);
                if let Some(entry) = self.roster.get_mut(&name)
                    && let Some(mut ready) =
                        entry.ready.take_if(|ready| ready.generation() == generation)
                {
                    // A reload may have changed the settings since the preparation began.
                    let program = &mut ready.program.program;
                    program.configure(settings, &config.live.points);
                    let (missed, hash) = (link.news().missed, program.hash);
                    let (times, at) = (ready.times, MonotonicClock.now());
                    entry.order(Ordered { hash, generation, times, at, missed }, program.refused());
                    if let Err(rtrb::PushError::Full(order)) =
                        link.handle.orders.push(Order::Install(ready.program))
                        && let Order::Install(program) = order
                    {
                        // The queue is full. The program is kept, because the supervisor gives the
                        // order again.
                        entry.ready = Some(Ready { program, times: ready.times });
                    }
                }
            }
            Action::Discard { name, generation } => {
                if let Some(entry) = self.roster.get_mut(&name) {
                    entry.ready.take_if(|ready| ready.generation() == generation);
                    entry.loading.abandon(generation);
                }
            }
            Action::Stop { name } => {
                if let Some(entry) = self.roster.get(&name) {
                    // If the queue is full, the supervisor gives the order again.
                    let _ = link.handle.orders.push(Order::Remove(entry.seat));
                }
            }
            Action::Tell { name, note } => self.note(&name, &note, link),
        }
    }

    /// Frees the seats, modules and histograms of plugins that the supervisor has forgotten.
    pub(super) fn forget_the_gone(&mut self, link: &mut ScanLink) {
        let news = link.handle.latest.read();
        // A program of the forgotten plugin may still be in the queue, on its way to its seat.
        // Until it has arrived, no other plugin may get this seat.
        let on_the_way = link.handle.orders.slots() < MAX_ORDERS;
        let free = self.roster.retain(|name, seat| {
            on_the_way
                || self.supervisor.plugin(name).is_some()
                || news.programs.iter().any(|fact| fact.seat == seat)
        });
        free.into_iter().for_each(|seat| link.stats.forget(seat));
        self.record.forget(|name| self.supervisor.plugin(name).is_some());
        for fact in news.programs.iter().filter(|fact| self.roster.name(fact.seat).is_none()) {
            // The program was still in the queue when the daemon forgot its plugin, and the order
            // to stop it found no room. If the queue is full now, the next look gives the order
            // again.
            let _ = link.handle.orders.push(Order::Remove(fact.seat));
        }
        let needed: Vec<_> = self.supervisor.needed().collect();
        self.roster.keep_modules(&needed);
    }

    /// Logs and records a note of the supervisor.
    pub(in crate::daemon) fn note(&mut self, name: &str, note: &Note, link: &mut ScanLink) {
        tell(name, note, &self.supervisor);
        // A swap or trap is recorded first, because the note tells its consequence.
        self.settle_swaps(link);
        let quarantined = self.supervisor.quarantined(name);
        self.record.noted(name, note, |hash| {
            quarantined.iter().find(|(of, _)| *of == hash).map(|(_, why)| why.clone())
        });
    }

    /// Completes the times of swaps that the scan shows as done. Records these swaps, and traps.
    pub(in crate::daemon) fn settle_swaps(&mut self, link: &mut ScanLink) {
        self.settle_reports();
        let news = link.news();
        self.record.cycle = news.cycle;
        for (name, fact) in self.roster.seats.programs(news) {
            let Some(entry) = self.roster.entries.get_mut(name) else { continue };
            self.record.settle(name, entry, fact, news.missed);
        }
    }

    /// The name and the version of an instance that is in the scan or on its way into it.
    pub(super) fn version_at(
        &self,
        seat: Seat,
        generation: Generation,
    ) -> (String, Option<ModuleHash>) {
        let Some(name) = self.roster.name(seat) else {
            return ("a plugin that is gone".into(), None);
        };
        let ordered = self.roster.get(name).and_then(|entry| entry.on_its_way(generation));
        let view = self.supervisor.plugin(name);
        let known = view.into_iter().flat_map(|view| [view.running, view.next]).flatten();
        let known = known.filter(|version| version.generation == generation);
        (name.to_string(), known.map(|version| version.hash).next().or(ordered))
    }
}

/// The fact about a program in the scan, in the form that the supervisor takes.
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
