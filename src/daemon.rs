//! The daemon: it builds all parts, then runs one loop over one kind of event, then stops in order.
//!
//! It decides nothing itself. The folder knows which files there are, the supervisor which of them
//! should run, the loader makes programs of modules, and the scan runs them. The daemon carries the
//! facts of each part to the others.
//!
//! Next: `roster.rs` (names, seats, modules), `loader.rs` (preparation), `folder.rs`, `shadow.rs`
//! (shadow runs), `reload.rs` (live changes), `device.rs`, `force.rs`, `say.rs` (the log),
//! `record.rs` and `audit.rs` (receipts), `answer.rs` and `view.rs` (answers to people), `stall.rs`
//! (a scan that stands), `stop.rs` (the end). What outlives the daemon is in `keep.rs`,
//! `version.rs`, `recall.rs`, `retain.rs`, `reset.rs` and `recovery.rs`.

mod answer;
mod audit;
mod build;
mod crash;
mod device;
mod folder;
mod force;
mod keep;
mod loader;
mod recall;
mod record;
mod recovery;
mod reload;
mod reset;
mod retain;
mod roster;
mod say;
mod shadow;
mod stall;
mod stop;
mod version;
mod view;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::clock::{Clock, MonotonicClock};
use crate::config::Config;
use crate::control::{Call, Reply, SwapView, Who};
use crate::log;
use crate::plugin::instance::program::Request;
use crate::plugin::module::folder::Change;
use crate::plugin::shadow::Feed;
use crate::plugin::{ModuleHash, Refusal, Settings};
use crate::process::line::Line;
use crate::scan::stats::Stats;
use crate::scan::{MAX_ORDERS, Order, Return, ScanHandle, thread};
use crate::supervisor::{Action, Fact, Supervisor};
use crate::systemd::{Notifier, Watchdog};

use audit::{Audit, Obeyed};
pub use build::run;
use crash::Crashes;
use device::Devices;
use folder::PluginFolder;
use force::Forces;
use keep::Store;
use loader::{Loaded, Loader};
use record::Record;
use recovery::Recovery;
use reload::{Cause, Reload};
use reset::Reset;
use retain::Retain;
use roster::{Ordered, Ready, Roster};
use say::Told;
use stall::Stall;

/// How often the daemon looks at the scan's news. This is quick enough for a restart "at once", and
/// costs some microseconds fifty times a second.
const TICK: Duration = Duration::from_millis(20);

/// What the loop waits for.
#[derive(Debug)]
enum Event {
    /// Something in the plugin folder changed.
    Folder(Change),
    /// A preparation has ended.
    Loaded(Box<Loaded>),
    /// A shadow run is ready to be fed by the scan.
    Feed(Feed),
    /// A module was refused before it was put into the folder.
    TurnedAway { name: String, hash: Option<ModuleHash>, refusal: Refusal, who: Option<Who> },
    /// A request from a person or a script.
    Call(Call),
    /// An order has its outcome. The sender of the order has no answer yet.
    Obeyed(Box<Obeyed>),
    /// It is time to look at the scan's news.
    Tick,
    /// It is time to write retained variables, if they have changed.
    Flush,
    /// The configuration is to be read again.
    Reload(Cause),
    /// SIGTERM or SIGINT came.
    Stop,
}

/// Everything that the loop works with.
struct Daemon {
    /// The configuration in force; a reload takes over what can change live.
    config: Config,
    log: log::Handle,
    supervisor: Supervisor,
    roster: Roster,
    loader: Loader,
    /// Shadow runs that are not ordered from the scan yet.
    feeds: Vec<Feed>,
    /// The scan's thread; `None` once it was ended.
    scan: Option<thread::Running>,
    /// The daemon's ends of the queues to the scan.
    handle: ScanHandle,
    /// The log lines of guests.
    lines: rtrb::Consumer<Line>,
    stats: Stats,
    crashes: Crashes,
    devices: Devices,
    forces: Forces,
    folder: PluginFolder,
    /// The good versions that are kept.
    store: Store,
    retain: Retain,
    /// The reset of variables that is under way, if one is.
    reset: Option<Reset>,
    recovery: Recovery,
    reload: Reload,
    /// The requests that wait for the scan's answer, by ticket.
    askers: HashMap<u64, oneshot::Sender<Reply>>,
    /// The newest ticket, which numbers the orders that the scan answers.
    last_ticket: u64,
    notifier: Notifier,
    watchdog: Option<Watchdog>,
    /// When the parts were assembled, just before the loop began.
    started: Instant,
    stall: Stall,
    /// What was last logged, so that only changes are logged.
    told: Told,
    record: Record,
    audit: Audit,
    /// Whether systemd was told that the daemon is ready, which is after the first cycle.
    is_ready: bool,
}

impl Daemon {
    /// Runs the loop until an event stops it, then stops in order.
    async fn live(mut self, mut events: mpsc::Receiver<Event>) -> anyhow::Result<()> {
        while let Some(event) = events.recv().await {
            match event {
                Event::Folder(change) => self.folder_changed(change),
                Event::Loaded(loaded) => self.loaded(*loaded),
                Event::Feed(feed) => self.take_feed(feed),
                Event::TurnedAway { name, hash, refusal, who } => {
                    self.record.turned_away(&name, hash, &refusal, who);
                }
                Event::Call(call) => self.answer(call),
                Event::Obeyed(obeyed) => self.obeyed(*obeyed),
                Event::Tick => self.look(),
                Event::Flush => self.keep(),
                Event::Reload(cause) => self.reload(cause),
                Event::Stop => break,
            }
            self.pursue();
            self.leave_the_scan().await;
        }
        // A sender that waits for room in the queue of events would wait for ever.
        drop(events);
        self.stop().await
    }

    /// Takes in the result of a preparation: logs it, keeps the module, and tells the supervisor.
    fn loaded(&mut self, loaded: Loaded) {
        self.tell_of_shadow(&loaded);
        self.say_notes(&loaded);
        loaded.lines.iter().for_each(|line| self.say(line));
        if let Some(post_mortem) = loaded.post_mortem {
            self.report_failed_start(&loaded.name, loaded.hash, *post_mortem);
        }
        let cached = loaded.cached;
        match (loaded.module, &loaded.result) {
            (Some(module), Ok(_)) => {
                self.roster.modules.insert(loaded.hash, module);
            }
            // The bytes of a module that does not run are not worth their memory; another try reads
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
                    // A restart of the same file detects nothing.
                    detect_us: micros(std::mem::take(&mut entry.detect)),
                    compile_us: micros(loaded.compile),
                    prepare_us: micros(loaded.prepare),
                    cached,
                    ..SwapView::default()
                };
                // An instance that was discarded may come late, after its successor.
                let newer = |ready: &Ready| ready.generation() > loaded.generation;
                if !entry.ready.as_ref().is_some_and(newer) {
                    entry.ready = Some(Ready { program: Box::new(program), times });
                }
            }
        });
        self.supervisor.prepared(&loaded.name, loaded.generation, result);
    }

    /// Lets the supervisor compare the wanted state with the actual one, and carries out its
    /// orders.
    fn pursue(&mut self) {
        let news = self.handle.latest.read();
        let facts: Vec<_> = news
            .programs
            .iter()
            .filter_map(|fact| {
                let name = self.roster.name(fact.seat)?;
                let rolled_back = fact.rolled_back.as_ref();
                Some(Fact {
                    name,
                    generation: fact.generation,
                    trap: fact.trap.clone(),
                    standby: fact.standby,
                    rolled_back: rolled_back.and_then(|rolled_back| {
                        Some((rolled_back.generation, rolled_back.trap.clone()?))
                    }),
                })
            })
            .collect();
        let now = MonotonicClock.now();
        for action in self.supervisor.step(now, &facts) {
            self.act(action);
        }
    }

    /// Carries out one order of the supervisor. When the scan's queue is full, the supervisor
    /// repeats it.
    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare { name, hash, generation } => {
                let settings = self.settings(&name);
                let (world, is_tried) = (self.rehearsal(), self.is_to_be_tried(&name, hash));
                let module = self.module(&name, hash);
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
                let settings = self.settings(&name);
                if let Some(entry) = self.roster.get_mut(&name)
                    && let Some(mut ready) =
                        entry.ready.take_if(|ready| ready.generation() == generation)
                {
                    // A reload may have changed them since the preparation began.
                    let program = &mut ready.program.program;
                    program.configure(settings, &self.config.live.points);
                    let (missed, hash) = (self.handle.latest.read().missed, program.hash);
                    let (times, at) = (ready.times, MonotonicClock.now());
                    entry.order(Ordered { hash, generation, times, at, missed }, program.refused());
                    if let Err(rtrb::PushError::Full(order)) =
                        self.handle.orders.push(Order::Install(ready.program))
                        && let Order::Install(program) = order
                    {
                        // The queue is full; the supervisor repeats the order.
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
                    // When the queue is full, the supervisor repeats the order.
                    let _ = self.handle.orders.push(Order::Remove(entry.seat));
                }
            }
            Action::Tell { name, note } => self.note(&name, &note),
        }
    }

    /// Looks at everything that the scan has put out.
    fn look(&mut self) {
        self.watch_the_scan();
        while let Ok(thing) = self.handle.returns.pop() {
            self.take_back(thing);
        }
        while let Ok(line) = self.lines.pop() {
            self.say(&line);
        }
        self.stats.collect();
        self.devices.show(self.handle.latest.read(), self.stall.is_on());
        self.pursue_reload();
        self.order_feeds();
        self.pursue_reset();
        self.settle_swaps();
        self.tell_the_operator();
        self.tell_of_owners();
        self.tell_of_lacks();
        self.settle_forces();
        self.pursue_audit();
        self.forget_the_gone();
        self.keep_the_good();
        self.tell_the_manager();
        self.watch_the_folder();
    }

    /// Takes in one thing that the scan gives back.
    fn take_back(&mut self, thing: Return) {
        match thing {
            Return::Program(program) => self.report_crash(program),
            Return::Reconfigured(reconfiguration) => self.reconfigured(*reconfiguration),
            // The feed is dropped here, off the scan.
            Return::Feed(_) => {}
            Return::Refused(prepared, refusal) => {
                let program = &prepared.program;
                let refusal = refusal.unwrap_or_else(|| {
                    Refusal::new("the scan did not take it", "it is being stopped").by_accident()
                });
                self.supervisor.prepared(&program.name, program.generation, Err(refusal));
                self.report_crash(prepared.program);
            }
            Return::Answer { ticket, result } => self.answered(ticket, result),
            Return::VariablesSet { ticket, cycle, result, .. } => {
                self.variables_set(ticket, cycle, result);
                self.answered(ticket, result);
            }
        }
    }

    /// Frees the seats, modules and histograms of plugins that the supervisor has forgotten.
    fn forget_the_gone(&mut self) {
        let news = self.handle.latest.read();
        // A program may still be in the queue, on its way to its seat: no other plugin gets that
        // seat before.
        let on_the_way = self.handle.orders.slots() < MAX_ORDERS;
        let free = self.roster.retain(|name, seat| {
            on_the_way
                || self.supervisor.plugin(name).is_some()
                || news.programs.iter().any(|fact| fact.seat == seat)
        });
        free.into_iter().for_each(|seat| self.stats.forget(seat));
        self.record.forget(|name| self.supervisor.plugin(name).is_some());
        for fact in news.programs.iter().filter(|fact| self.roster.name(fact.seat).is_none()) {
            // It was still in the queue when its plugin was forgotten, and the order to stop it
            // found no room. If the queue is full now, the next look gives the order again.
            let _ = self.handle.orders.push(Order::Remove(fact.seat));
        }
        let needed: Vec<_> = self.supervisor.needed().collect();
        self.roster.keep_modules(&needed);
    }

    /// The settings of this plugin in the configuration in force.
    fn settings(&self, name: &str) -> Settings {
        self.config.settings(name)
    }

    /// The present moment of the monotonic clock, which the scan uses too.
    fn now(&self) -> Duration {
        MonotonicClock.now()
    }
}

/// Whole microseconds; a longer time than fits counts as the longest.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
