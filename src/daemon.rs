//! The daemon: one loop over one kind of event, and the parts that it works with.
//!
//! ```text
//!   folder, people, signals, timers ──▶ Event ──▶ the loop: one call for each
//!                                                   │
//!      ┌──────────┬──────────┬──────────┬───────────┼────────┬────────┐
//!   Reload     Service     Field     Plugins     ScanLink  Config   Audit
//!   changes    log and    devices,   files,      orders    in       orders of
//!   of Config  systemd    forces,    versions,   down,     force    people, in
//!                         RETAIN     who runs    facts up           the history
//! ```
//! Each part has its own file, with its behaviour in the folder of the same name. A part may use
//! those to its right up to `Config`; what concerns more of them than that is a method of
//! [`Daemon`]: answers to people (`answer.rs`, `view.rs`), the reload, a scan that stands
//! (`stall.rs`), the start (`build.rs`) and the end (`stop.rs`). The loop decides nothing, and it
//! makes no call that can wait.

mod answer;
mod audit;
mod build;
mod field;
mod link;
mod plugins;
mod reload;
mod service;
mod stall;
mod stop;
mod view;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::Config;
use crate::control::{Call, Who};
use crate::plugin::module::folder::Change;
use crate::plugin::shadow::Feed;
use crate::plugin::{ModuleHash, Refusal};
use crate::scan::Return;

use audit::{Audit, Obeyed};
pub use build::run;
use field::Field;
use link::ScanLink;
use plugins::{Loaded, Plugins};
use reload::{Cause, Reload};
use service::Service;

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

/// The configuration, and the parts that the loop works with.
struct Daemon {
    /// The configuration in force; a reload takes over what can change live.
    config: Config,
    /// The way to the scan and back.
    link: ScanLink,
    /// Files, versions, instances, and who may run.
    plugins: Plugins,
    /// Devices, forces, and the values that outlive the daemon.
    field: Field,
    /// What the log and systemd are told.
    service: Service,
    /// The reload of the configuration that is under way, and what it has left.
    reload: Reload,
    /// The orders of people, on their way into the history.
    audit: Audit,
}

impl Daemon {
    /// Runs the loop until an event stops it, then stops in order.
    async fn live(mut self, mut events: mpsc::Receiver<Event>) -> anyhow::Result<()> {
        while let Some(event) = events.recv().await {
            match event {
                Event::Folder(change) => self.plugins.folder_changed(
                    change,
                    self.field.is_emptying(),
                    &self.config,
                    &mut self.link,
                ),
                Event::Loaded(loaded) => self.plugins.loaded(*loaded, &self.config, &mut self.link),
                Event::Feed(feed) => self.plugins.take_feed(feed, &mut self.link),
                Event::TurnedAway { name, hash, refusal, who } => {
                    self.plugins.record.turned_away(&name, hash, &refusal, who);
                }
                Event::Call(call) => self.answer(call),
                Event::Obeyed(obeyed) => self.obeyed(*obeyed),
                Event::Tick => self.look(),
                Event::Flush => self.field.keep(&mut self.link),
                Event::Reload(cause) => self.reload(cause),
                Event::Stop => break,
            }
            self.plugins.pursue(&self.config, &mut self.link);
            self.leave_the_scan().await;
        }
        // A sender that waits for room in the queue of events would wait for ever.
        drop(events);
        self.stop().await
    }

    /// Looks at everything that the scan has put out, in this order: whether it moves at all, which
    /// all else asks; what it gives back, which ends orders; then orders that have waited for room
    /// in its queue. What became of plugins is recorded before what follows from it, and the log
    /// and systemd hear of the outcome of all.
    fn look(&mut self) {
        self.watch_the_scan();
        self.take_all_back();
        self.pursue_orders();
        self.settle();
        self.tell();
    }

    /// Takes in what the scan has given back: orders with their answers, lines, and times.
    fn take_all_back(&mut self) {
        while let Ok(thing) = self.link.handle.returns.pop() {
            self.take_back(thing);
        }
        while let Ok(line) = self.link.lines.pop() {
            self.plugins.say(&line, &self.config, &self.link);
        }
        self.link.stats.collect();
    }

    /// Goes on with what waits for the scan, or for a disk.
    fn pursue_orders(&mut self) {
        self.pursue_reload();
        self.plugins.order_feeds(&mut self.link);
        self.field.pursue_reset(&self.config, &mut self.link, &mut self.plugins);
    }

    /// Records what has become of plugins, forces and orders, and lets go what no part needs.
    fn settle(&mut self) {
        self.plugins.settle_swaps(&mut self.link);
        self.settle_forces();
        self.pursue_audit();
        self.plugins.forget_the_gone(&mut self.link);
        self.plugins.keep_the_good(&self.config, &mut self.link);
    }

    /// Shows and logs what has changed: to devices, to the operator, and to systemd.
    fn tell(&mut self) {
        let stands = self.link.stall.is_on();
        self.field.devices.show(self.link.news(), stands);
        self.service.tell_the_operator(&mut self.link);
        self.plugins.tell_of_owners(&self.config, &mut self.link);
        self.plugins.tell_of_lacks(&self.config, &mut self.link);
        self.plugins.watch_the_folder(&self.config);
        self.service.tell_the_manager(&self.plugins, &self.field, &mut self.link);
    }

    /// Takes in one thing that the scan gives back.
    fn take_back(&mut self, thing: Return) {
        match thing {
            Return::Program(program) => self.plugins.report_crash(program, &self.config),
            Return::Reconfigured(reconfiguration) => self.reconfigured(*reconfiguration),
            // The feed is dropped here, off the scan.
            Return::Feed(_) => {}
            Return::Refused(prepared, refusal) => {
                let program = &prepared.program;
                let refusal = refusal.unwrap_or_else(|| {
                    Refusal::new("the scan did not take it", "it is being stopped").by_accident()
                });
                self.plugins.supervisor.prepared(&program.name, program.generation, Err(refusal));
                self.plugins.report_crash(prepared.program, &self.config);
            }
            Return::Answer { ticket, result } => self.answered(ticket, result),
            Return::VariablesSet { ticket, cycle, result, .. } => {
                self.field.variables_set(ticket, cycle, result, &mut self.plugins);
                self.answered(ticket, result);
            }
        }
    }
}

/// Whole microseconds; a longer time than fits counts as the longest.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
