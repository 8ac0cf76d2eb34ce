//! Answers to people: what the parts know, in the form of `control`.
//!
//! Nothing is changed here. Requests that change something are in `answer.rs`. How an answer looks
//! on a terminal is in `cli`. What a plugin is refused is in `view/refused.rs`.

mod refused;

use std::time::Duration;

use super::{Daemon, micros};
use crate::clock::{Clock, MonotonicClock};
use crate::control::{
    DeviceView, PluginState, PluginView, PointView, ProbationView, SafeView, StatusView, VarView,
    Want,
};
use crate::driver::Delivery;
use crate::plugin::module::cache::Cache;
use crate::plugin::{SwapPolicy, Trap};
use crate::process::image::{Direction, Kind, Point, PointId, Quality};
use crate::process::seat::Seat;
use crate::process::variable::{Maker, Variable};
use crate::scan::{ProgramFact, Snapshot};
use crate::supervisor::{self, View};

use refused::is_seated;
pub(super) use refused::{is_polled, writers};

impl Daemon {
    /// The answer to `camshaft status`: the daemon, its devices and its plugins at one instant.
    pub(super) fn status(&mut self) -> StatusView {
        // All parts of the answer come from one snapshot, so polls can be compared with cycles.
        let news = self.handle.latest.read().clone();
        let plugins = self.plugins_in(&news);
        let devices = self.devices(&news);
        let folder_trouble = self.folder_trouble();
        let cache = self.loader.compile_service.cache.as_ref();
        let cache_is_late = cache.is_some_and(Cache::is_late);
        let cache = cache.map(|cache| cache.folder().display().to_string());
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            config: self.config.path.display().to_string(),
            config_refused: self.reload.refused().map(str::to_owned),
            config_waiting: self.reload.waiting().to_vec(),
            socket: self.config.fixed.control.socket.display().to_string(),
            folder: self.config.fixed.plugins.dir.display().to_string(),
            folder_ok: folder_trouble.is_none(),
            folder_trouble,
            folder_overlooked: self.folder.overlooked(),
            folder_ignored: self.folder.ignored(),
            plugins_missing: self.missing_plugins(),
            cache,
            cache_is_late,
            history_trouble: self.record.trouble(),
            state: self.recovery.folder().map(|folder| folder.display().to_string()),
            recovery: self.recovery.reason().map(str::to_owned),
            retain: self.retain.view(),
            period_us: micros(self.config.live.scan.period),
            cycle: news.cycle,
            stalled: self.stall.view(self.config.live.scan.stall_exit, || self.devices.safety()),
            overruns: news.overruns,
            missed: news.missed,
            lateness: self.stats.lateness(),
            work: self.stats.work(),
            samples_lost: news.samples_lost,
            log_lines_lost: news.lines_lost + self.log.lost() + self.log.refused(),
            forces: news.forces.len() as u64,
            devices,
            plugins,
        }
    }

    /// The views of all devices, in the order of the configuration.
    fn devices(&self, news: &Snapshot) -> Vec<DeviceView> {
        let view = |device: &crate::config::Device| {
            let index = news.points.devices().iter().position(|name| *name == device.name);
            let fact = index.and_then(|index| news.devices.get(index));
            let makes_safe = self.devices.makes_safe(&device.name, self.stall.is_on());
            DeviceView {
                name: device.name.clone(),
                driver: device.driver.driver().into(),
                fault: fact.and_then(|fact| fact.fault).map(|fault| fault.to_string()),
                confirmed: fact.is_some_and(|fact| fact.confirmed) && !makes_safe,
                // What the scan knew before it stood is about other values.
                unconfirmed: match index.filter(|_| !makes_safe) {
                    Some(index) => unconfirmed(news, index),
                    None => Vec::new(),
                },
                parts: self.devices.parts(&device.name),
            }
        };
        self.config.live.devices.iter().map(view).collect()
    }

    /// The views of all plugins, in the order of polling.
    pub(super) fn plugins(&mut self) -> Vec<PluginView> {
        let news = self.handle.latest.read().clone();
        self.plugins_in(&news)
    }

    /// The views of all plugins in this snapshot, in the order of polling.
    fn plugins_in(&self, news: &Snapshot) -> Vec<PluginView> {
        let mut all: Vec<_> =
            self.supervisor.plugins().map(|(name, view)| self.plugin(name, &view, news)).collect();
        all.sort_by_cached_key(|view| (self.settings(&view.name).order, view.name.clone()));
        all
    }

    /// The view of one plugin.
    pub(super) fn plugin_named(&mut self, name: &str) -> Option<PluginView> {
        let news = self.handle.latest.read().clone();
        let view = self.supervisor.plugin(name)?;
        Some(self.plugin(name, &view, &news))
    }

    /// The view of one plugin: what the supervisor, the roster, the scan and the recovery know of
    /// it.
    fn plugin(&self, name: &str, view: &View<'_>, news: &Snapshot) -> PluginView {
        let entry = self.roster.get(name);
        let settings = self.settings(name);
        let seat = entry.map(|entry| entry.seat);
        let fact = seat.and_then(|seat| fact(news, seat));
        let runs = fact.filter(|fact| fact.trap.is_none());
        let restart_in_ms = match view.state {
            supervisor::State::Backoff { restart_at } => {
                Some(restart_at.saturating_sub(self.now()).as_millis() as u64)
            }
            _ => None,
        };
        let parked = self.recovery.is_parked(name).then(|| match self.recovery.is_on() {
            true => "held for recovery".to_owned(),
            false => "held for a cold restart".to_owned(),
        });
        let reason = reason(view).or(parked).or_else(|| {
            use supervisor::State::{Running, Stopping};
            let stands_still = !matches!(view.state, Running | Stopping) || view.quarantined;
            // What another version did is no reason why this one does not run.
            let is_of_it =
                view.file.is_some_and(|file| view.trapped.is_none_or(|hash| file == hash));
            view.last_trap.filter(|_| stands_still && is_of_it).map(Trap::explained)
        });
        let refused = self.refused(name, fact, news);
        PluginView {
            name: name.into(),
            file: format!("{name}.wasm"),
            want: match view.want {
                supervisor::Want::Run => Want::Run,
                supervisor::Want::Hold => Want::Hold,
            },
            state: state(view),
            reason,
            quarantined: view.quarantined,
            hash: runs.and(view.running).map(|version| format!("{:#}", version.hash)),
            file_hash: view.file.map(|hash| format!("{hash:#}")),
            generation: fact.map_or(0, |fact| fact.generation.0),
            polls: fact.map_or(0, |fact| fact.polls),
            degraded: runs.is_some_and(|fact| fact.degraded),
            probation: runs.is_some_and(|fact| fact.standby.is_some()),
            probation_left: runs.and_then(|fact| left_to_prove(fact, settings.swap, news.now)),
            traps: view.traps,
            since_cycle: fact.map_or(0, |fact| fact.since_cycle),
            restart_in_ms,
            memory_bytes: runs.map_or(0, |fact| fact.memory_bytes),
            budget_us: micros(settings.poll_budget),
            every: settings.every,
            poll: seat.map(|seat| self.stats.poll(seat)).unwrap_or_default(),
            last_trap: view.last_trap.cloned(),
            trapped_hash: view.trapped.map(|hash| format!("{hash:#}")),
            last_swap: entry.and_then(|entry| entry.last_swap),
            denied: refused.is_denied,
            refused: refused.calls,
            refused_others: refused.others,
            lost: self.lost_outputs(name, news),
            notes: self.roster.notes(runs.and(view.running).map(|it| it.hash).or(view.file)),
            report: self.crashes.newest(name).cloned(),
        }
    }

    /// The views of all points, with value, quality, owner and delivery.
    pub(super) fn points(&mut self) -> Vec<PointView> {
        let news = self.handle.latest.read();
        let (points, roster) = (&news.points, &self.roster);
        let (now, is_stalled) = (MonotonicClock.now(), self.stall.is_on());
        // While the scan stands, the values that were last read or given are no longer reliable.
        let stall = if is_stalled { Quality::NoComm } else { Quality::Good };
        let at = if is_stalled { now } else { news.now };
        let delivery = |id: PointId, point: &Point| {
            let device = &points.devices()[point.device];
            let makes_safe = self.devices.makes_safe(device, is_stalled);
            if makes_safe { Delivery::Unconfirmed } else { news.deliveries[id.index()] }
        };
        let view = |(id, point): (PointId, &Point)| {
            let is_input = point.direction == Direction::In;
            let image = if is_input { &news.inputs.bytes } else { &news.outputs };
            let owner = news.owners[id.index()].and_then(|seat| roster.name(seat));
            let quality = news.inputs.quality[id.index()].max(stall);
            let good_at = news.inputs.good_at[id.index()];
            let age = (!good_at.is_zero()).then(|| at.saturating_sub(good_at));
            PointView {
                name: point.name.clone(),
                direction: point.direction,
                kind: point.kind,
                address: match point.kind {
                    Kind::Bool => format!("{}.{}", point.byte, point.bit),
                    _ => point.byte.to_string(),
                },
                value: point.read(image),
                unit: point.unit.clone(),
                quality: quality.class(),
                reason: quality,
                opc_ua: quality.opc_ua(),
                age_ms: age.filter(|_| is_input).map(|age| age.as_millis() as u64),
                delivery: (!is_input).then(|| delivery(id, point)),
                safe: (!is_input).then(|| SafeView::from(point.safe)),
                owner: owner.map(|name| name.to_string()),
                device: points.devices()[point.device].clone(),
            }
        };
        points.iter().map(view).collect()
    }

    /// The views of all variables, in order of name.
    pub(super) fn variables(&mut self) -> Vec<VarView> {
        let kept = &self.config.fixed.retain.variables;
        let (news, roster) = (self.handle.latest.read(), &self.roster);
        let runs = |writer: &str| is_seated(writer, news, roster, &self.supervisor);
        // While the scan stands, values grow older though the snapshot does not change.
        let at = if self.stall.is_on() { MonotonicClock.now() } else { news.now };
        let view = |(name, variable): (&str, Variable)| {
            let written = news.variables.written_last(name);
            let writer = written.and_then(|written| roster.maker(written.by));
            VarView {
                name: name.into(),
                kind: variable.kind(),
                value: variable.into(),
                retain: kept.iter().any(|(kept, _)| kept == name),
                writer_runs: writer.is_some_and(|writer| runs(writer)),
                writer: writer.map(|name| name.to_string()),
                set_by_operator: written.is_some_and(|written| written.by == Maker::HOST),
                age_ms: written.map(|it| at.saturating_sub(it.at).as_millis() as u64),
            }
        };
        let mut all: Vec<_> = news.variables.iter().map(view).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

/// The outputs of a device for which it has not confirmed a value lately.
fn unconfirmed(news: &Snapshot, device: usize) -> Vec<String> {
    let ours = news.points.iter().filter(|(_, point)| point.device == device);
    let late = ours.filter(|(id, _)| news.deliveries[id.index()] == Delivery::Unconfirmed);
    late.map(|(_, point)| point.name.clone()).collect()
}

/// The scan's fact about the program on this seat.
fn fact(news: &Snapshot, seat: Seat) -> Option<&ProgramFact> {
    news.programs.iter().find(|fact| fact.seat == seat)
}

/// What a program must still do to pass its probation, under this policy; `None` if it has passed.
fn left_to_prove(fact: &ProgramFact, policy: SwapPolicy, now: Duration) -> Option<ProbationView> {
    let left = policy.probation.saturating_sub(now.saturating_sub(fact.since));
    let polls = u64::from(policy.polls).saturating_sub(fact.polls);
    (!fact.is_proven).then_some(ProbationView { ms: left.as_millis() as u64, polls })
}

/// Why the file does not run, and which version runs instead or cannot run.
fn reason(view: &View<'_>) -> Option<String> {
    let again = |is_again: bool| if is_again { "; it is tried again by itself" } else { "" };
    let runs = view.running.filter(|_| view.state == supervisor::State::Running);
    let instead = match (runs, view.other_refusal) {
        (Some(version), _) if Some(version.hash) != view.file => {
            format!("; version {} runs instead", version.hash)
        }
        (None, Some((hash, refusal, is_again))) => {
            format!("; version {hash} cannot run instead: {refusal}{}", again(is_again))
        }
        _ => String::new(),
    };
    match (view.refusal, view.quarantine) {
        (Some(refusal), _) => Some(format!("{refusal}{}{instead}", again(view.is_tried_again))),
        (None, Some(why)) => Some(format!("the file is in quarantine: {why}{instead}")),
        (None, None) => None,
    }
}

/// The supervisor's state in the words of the control interface, which has fewer of them.
fn state(view: &View<'_>) -> PluginState {
    use supervisor::State;
    match view.state {
        // It is polled, or its outputs are not yet safe, until a snapshot shows that it has left.
        State::Running | State::Stopping => PluginState::Running,
        State::Backoff { .. } => PluginState::Backoff,
        State::Quarantined => PluginState::Quarantined,
        State::Refused => PluginState::Refused,
        State::Preparing | State::Starting => PluginState::Preparing,
        State::Held | State::Stopped => PluginState::Held,
    }
}
