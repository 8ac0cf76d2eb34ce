//! The daemon: the loop, the kinds of events that the loop takes, and the parts that the loop
//! calls.
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
//! Each part has its own file, and more of its code is in the folder of the same name. A part may
//! use the parts to its right in the drawing, up to `Config`. Work that needs more parts is a
//! method of `Daemon`: answers to people (`answer.rs`, `view.rs`), the audit (`audit.rs`), the
//! reload (`reload.rs`), a scan that stands (`stall.rs`), the start (`build.rs`) and the end
//! (`stop.rs`).
//!
//! The loop decides nothing itself: it hands each event to one part. The loop also makes no call
//! that can wait, because a loop that waits could not see that the scan stands. Next: `link.rs`,
//! then the parts from right to left.

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

/// The time between two looks at the news of the scan. A restart "at once" comes soon enough with
/// it, and fifty looks a second cost some microseconds each.
const TICK: Duration = Duration::from_millis(20);

/// An event that the loop waits for.
#[derive(Debug)]
enum Event {
    /// A file in the plugin folder is new, has changed or has gone; or the folder itself has
    /// changed.
    Folder(Change),
    /// The preparation of a module has ended, with an instance or with a failure.
    Loaded(Box<Loaded>),
    /// A shadow run is ready to be fed by the scan.
    Feed(Feed),
    /// A module was refused before the daemon wrote it into the plugin folder.
    TurnedAway { name: String, hash: Option<ModuleHash>, refusal: Refusal, who: Option<Who> },
    /// A request from a person or a script.
    Call(Call),
    /// An order has its outcome. The sender of the order has got no answer yet.
    Obeyed(Box<Obeyed>),
    /// It is time to look at the news of the scan; it comes every [`TICK`].
    Tick,
    /// It is time to write retained variables, if their values have changed.
    Flush,
    /// The configuration file is to be read again.
    Reload(Cause),
    /// SIGTERM or SIGINT came.
    Stop,
}

/// The configuration, and the parts that the loop works with.
struct Daemon {
    /// The configuration in force. A reload takes over the changes that need no restart.
    config: Config,
    /// The queues to the scan and from the scan.
    link: ScanLink,
    /// Plugin files, versions, instances, and the decision which program runs.
    plugins: Plugins,
    /// Devices, forces, and the values that outlive the daemon.
    field: Field,
    /// The lines about devices and the scan in the log, and the messages to systemd.
    service: Service,
    /// The reload of the configuration that is under way, and the devices that earlier reloads
    /// removed.
    reload: Reload,
    /// The orders of operators, until each order stands in the history.
    audit: Audit,
}

impl Daemon {
    /// Runs the loop until [`Event::Stop`] comes or all senders of events are gone. Then the daemon
    /// stops in order.
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
        // The queue is dropped first, because a sender that waits for room in it would wait for
        // ever.
        drop(events);
        self.stop().await
    }

    /// Looks at all news of the scan, in a fixed order:
    ///
    /// 1. Does the scan move? The later steps depend on the answer.
    /// 2. What has the scan given back? Answers of the scan end orders.
    /// 3. Which orders waited for room in the queue to the scan? They are sent now.
    /// 4. What became of plugins, forces and orders? The history gets it.
    /// 5. What has changed? The log and systemd hear of it last, because they tell the result of
    ///    all.
    fn look(&mut self) {
        self.watch_the_scan();
        self.take_all_back();
        self.pursue_orders();
        self.settle();
        self.tell();
    }

    /// Takes in all that the scan has given back: programs and answers, log lines of guests, and
    /// measured times.
    fn take_all_back(&mut self) {
        while let Ok(thing) = self.link.handle.returns.pop() {
            self.take_back(thing);
        }
        self.say_lines();
        self.link.stats.collect();
    }

    /// Logs the lines of guests that the scan has passed on.
    fn say_lines(&mut self) {
        while let Ok(line) = self.link.lines.pop() {
            self.plugins.say(&line, &self.config, &self.link);
        }
    }

    /// Goes on with orders that wait for the scan or for a disk.
    fn pursue_orders(&mut self) {
        self.pursue_reload();
        self.plugins.order_feeds(&mut self.link);
        self.field.pursue_reset(&self.config, &mut self.link, &mut self.plugins);
    }

    /// Records what has become of plugins, forces and orders. Frees instances and versions that no
    /// part of the daemon needs any more.
    fn settle(&mut self) {
        self.plugins.settle_swaps(&mut self.link);
        self.settle_forces();
        self.pursue_audit();
        self.plugins.forget_the_gone(&mut self.link);
        self.plugins.keep_the_good(&self.config, &mut self.link);
    }

    /// Tells devices, the operator and systemd what has changed.
    fn tell(&mut self) {
        let stands = self.link.stall.is_on();
        self.field.devices.show(self.link.news(), stands);
        self.service.tell_the_operator(&mut self.link);
        self.plugins.tell_of_owners(&self.config, &mut self.link);
        self.plugins.tell_of_lacks(&self.config, &mut self.link);
        self.plugins.watch_the_folder(&self.config);
        self.service.tell_the_manager(&self.plugins, &self.field, &mut self.link);
    }

    /// Takes in one thing that the scan gives back. A program that was refused or has ended is
    /// dropped here or on another thread, never on the scan.
    fn take_back(&mut self, thing: Return) {
        match thing {
            Return::Program(program) => self.plugins.report_crash(program, &self.config),
            Return::Reconfigured(reconfiguration) => self.reconfigured(*reconfiguration),
            // The feed is dropped here, because a drop takes time that the scan does not have.
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

/// The duration in whole microseconds. A duration that is too long for the type gives the largest
/// number.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
