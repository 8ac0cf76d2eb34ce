//! The daemon: its main loop, the events that the loop handles, and the parts that do the work.
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
//! Each part has its own file. More code of a part is in the folder of the same name. A part may
//! use only the parts to its right in the drawing, up to `Config`. Work that needs more parts is a
//! method of `Daemon`. These methods are in `answer.rs` and `view.rs` (answers to requests),
//! `audit.rs`, `reload.rs`, `stall.rs` (the reaction to a stall), `build.rs` (the start) and
//! `stop.rs`.
//!
//! The loop only dispatches: it passes each event to one part, and the part makes the decisions.
//! The loop makes no call that can block, because a blocked loop could not detect a stalled scan.
//! To read the code, begin with `link.rs`. Then read the parts in the drawing, from right to left.

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
use crate::plugin::trace::spare;
use crate::plugin::{ModuleHash, Refusal};
use crate::scan::Return;

use audit::{Audit, Obeyed};
pub use build::run;
use field::Field;
use link::ScanLink;
use plugins::{Loaded, Plugins};
use reload::{Cause, Reload};
use service::Service;

/// The time between two checks of what the scan has sent: answers, returned programs and the newest
/// snapshot. A program whose restart is due waits at most this time, which is short enough. Fifty
/// checks per second cost little, because one check takes only some microseconds.
const TICK: Duration = Duration::from_millis(20);

/// An event that the main loop handles.
#[derive(Debug)]
enum Event {
    /// A file in the plugin folder is new, has changed or was removed; or the folder itself has
    /// changed.
    Folder(Change),
    /// The preparation of a `.wasm` module has ended: with an instance or with a failure.
    Loaded(Box<Loaded>),
    /// A shadow run is ready: a new version can be polled beside the running version. The scan can
    /// now send it the inputs of each poll.
    Feed(Feed),
    /// The daemon refused a deployed module before it wrote the module into the plugin folder.
    TurnedAway { name: String, hash: Option<ModuleHash>, refusal: Refusal, who: Option<Who> },
    /// A request arrived on the control socket.
    Call(Call),
    /// The outcome of an order is known. The daemon has not sent the answer yet.
    Obeyed(Box<Obeyed>),
    /// It is time to check what the scan has sent. This event is sent every [`TICK`].
    Tick,
    /// The time to write the retained variables has come. The daemon writes the variables only if
    /// they have changed.
    Flush,
    /// The daemon must read the configuration file again.
    Reload(Cause),
    /// The process received SIGTERM or SIGINT.
    Stop,
}

/// The daemon: the configuration, and the parts that the loop calls.
struct Daemon {
    /// The configuration in force. After a reload it also has the changes that need no restart.
    config: Config,
    /// The queues to the scan and from the scan.
    link: ScanLink,
    /// The plugins: their files, versions and instances, and the decision which program runs.
    plugins: Plugins,
    /// The devices, the forces, and the retained variables, whose values outlive the daemon.
    field: Field,
    /// The log lines about devices and the scan, and the messages to systemd.
    service: Service,
    /// The reload that is in progress, and the devices that earlier reloads have removed.
    reload: Reload,
    /// The orders of operators that are not yet recorded in the history.
    audit: Audit,
}

impl Daemon {
    /// Runs the main loop until it gets [`Event::Stop`], or until all senders of events are
    /// dropped. After that, the daemon stops in an orderly way.
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
                Event::Tick => self.follow_the_scan(),
                Event::Flush => self.field.write_changed(&mut self.link),
                Event::Reload(cause) => self.reload(cause),
                Event::Stop => break,
            }
            self.plugins.pursue(&self.config, &mut self.link);
            self.leave_the_scan().await;
        }
        // A task may be waiting for room in the full queue. The drop of the queue ends this wait,
        // so the task cannot block the stop.
        drop(events);
        self.stop().await
    }

    /// Does the work of one tick with all that the scan has reported since the last tick. The steps
    /// have a fixed order:
    ///
    /// 1. Detect a stall of the scan. The later steps depend on the result.
    /// 2. Take back what the scan has returned: programs, and answers that end orders.
    /// 3. Send orders that waited for room in the queue to the scan.
    /// 4. Record what happened to plugins, forces and orders in the history.
    /// 5. Report changes to the log and to systemd. This step is last, because it reports the
    ///    results of all steps before.
    fn follow_the_scan(&mut self) {
        self.watch_the_scan();
        self.take_all_back();
        self.pursue_orders();
        self.settle();
        self.report();
    }

    /// Empties the queues from the scan: returned programs and answers, log lines of programs, and
    /// measured durations. Replaces the memory that the scan has used for larger checkpoints.
    fn take_all_back(&mut self) {
        while let Ok(thing) = self.link.handle.returns.pop() {
            self.take_back(thing);
        }
        self.log_lines();
        self.link.stats.collect();
        spare::fill();
    }

    /// Writes the log lines of programs to the log. The scan has put the lines into a queue.
    fn log_lines(&mut self) {
        while let Ok(line) = self.link.lines.pop() {
            self.plugins.log_line(&line, &self.config, &self.link);
        }
    }

    /// Continues orders that wait for the scan or for a disk.
    fn pursue_orders(&mut self) {
        self.pursue_reload();
        self.plugins.order_feeds(&mut self.link);
        self.field.devices.pursue_writes(&mut self.link);
        self.field.pursue_reset(&self.config, &mut self.link, &mut self.plugins);
    }

    /// Records in the history what happened to plugins, forces and orders. Frees the seats and
    /// modules of plugins that no longer exist, and stores versions that have passed their
    /// probation.
    fn settle(&mut self) {
        self.plugins.settle_swaps(&mut self.link);
        self.settle_forces();
        self.pursue_audit();
        self.plugins.forget_the_gone(&mut self.link);
        self.plugins.store_good_versions(&self.config, &mut self.link);
    }

    /// Sends new values to the devices that show values. Reports changes to the log and to systemd.
    fn report(&mut self) {
        let is_stalled = self.link.stall.is_on();
        self.field.devices.show(self.link.news(), is_stalled);
        self.service.log_changes(&mut self.link);
        self.plugins.log_owners(&self.config, &mut self.link);
        self.plugins.log_lacks(&self.config, &mut self.link);
        self.plugins.watch_the_folder(&self.config);
        self.service.notify_systemd(&self.plugins, &self.field, &mut self.link);
    }

    /// Passes one thing that the scan has returned to the part of the daemon that needs it. A
    /// refused or ended program is dropped here or on another thread, because a drop on the scan's
    /// thread would take too long.
    fn take_back(&mut self, thing: Return) {
        match thing {
            Return::Program(program) => self.plugins.report_crash(program, &self.config),
            Return::Reconfigured(reconfiguration) => self.reconfigured(*reconfiguration),
            // The feed is dropped here, because a drop on the scan's thread would take too long.
            Return::Feed(_) => {}
            Return::Refused(prepared, refusal) => {
                let program = &prepared.program;
                let refusal = refusal.unwrap_or_else(|| {
                    Refusal::new("the scan has not installed the program", "the daemon is stopping")
                        .by_accident()
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

/// Returns the duration in whole microseconds, or the largest `u64` if the duration is longer.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
