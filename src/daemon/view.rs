//! Answers to requests that only read. The answers have the data of the daemon's parts, in the
//! types of the Rust module `control`.
//!
//! This file changes nothing. Orders are handled in `answer.rs`. The views of plugins are in
//! `plugins/view.rs`, and the views of devices in `field/device.rs`. The output on a terminal is
//! made in `cli`.

use super::plugins::is_seated;
use super::{Daemon, micros};
use crate::control::{PointView, SafeView, StatusView, VarView};
use crate::driver::Delivery;
use crate::plugin::module::cache::Cache;
use crate::process::image::{Direction, Point, PointId, PointKind, Quality};
use crate::process::variable::{Maker, Variable};

impl Daemon {
    /// Returns the answer to `camshaft status`: the state of the daemon, its devices and its
    /// plugins.
    pub(super) fn status(&mut self) -> StatusView {
        // All parts of the answer use the same snapshot. Otherwise the numbers of polls and of
        // cycles would not match each other.
        let news = self.link.news().clone();
        let plugins = self.plugins.plugins_in(&news, &self.config, &self.link);
        let devices = self.field.views(&news, &self.config, &self.link);
        let folder_trouble = self.plugins.folder_trouble();
        // The cache is `None` if the compile service has no usable cache folder.
        let cache = self.plugins.loader.compile_service.cache.as_ref();
        let cache_is_late = cache.is_some_and(Cache::is_late);
        let cache = cache.map(|cache| cache.folder().display().to_string());
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.service.started.elapsed().as_secs(),
            config: self.config.path.display().to_string(),
            config_refused: self.reload.refused().map(str::to_owned),
            config_waiting: self.reload.waiting().to_vec(),
            socket: self.config.fixed.control.socket.display().to_string(),
            folder: self.config.fixed.plugins.dir.display().to_string(),
            folder_ok: folder_trouble.is_none(),
            folder_trouble,
            folder_overlooked: self.plugins.folder.overlooked(),
            folder_ignored: self.plugins.folder.ignored(),
            plugins_missing: self.plugins.missing_plugins(&self.config),
            cache,
            cache_is_late,
            history_trouble: self.plugins.record.trouble(),
            state: self.plugins.recovery.folder().map(|folder| folder.display().to_string()),
            recovery: self.plugins.recovery.reason().map(str::to_owned),
            retain: self.field.retain.view(),
            period_us: micros(self.config.live.scan.period),
            cycle: news.cycle,
            stalled: self
                .link
                .stall
                .view(self.config.live.scan.stall_exit, || self.field.devices.safety()),
            overruns: news.overruns,
            missed: news.missed,
            lateness: self.link.stats.lateness(),
            work: self.link.stats.work(),
            samples_lost: news.samples_lost,
            log_lines_lost: news.lines_lost + self.service.log.lost() + self.service.log.refused(),
            forces: news.forces.len() as u64,
            devices,
            plugins,
        }
    }

    /// Returns the views of all points, with value, quality, owner and delivery.
    pub(super) fn points(&mut self) -> Vec<PointView> {
        let (at, is_stalled) = (self.link.present(), self.link.stall.is_on());
        let news = self.link.news();
        let (points, roster) = (&news.points, &self.plugins.roster);
        // During a stall the values in the snapshot may be out of date.
        let stall = if is_stalled { Quality::NoComm } else { Quality::Good };
        // If the device makes its outputs safe because of a stall, the output value in the snapshot
        // is not the value in the field.
        let delivery = |id: PointId, point: &Point| {
            let device = &points.devices()[point.device];
            let makes_safe = self.field.devices.makes_safe(device, is_stalled);
            if makes_safe { Delivery::Unconfirmed } else { news.deliveries[id.index()] }
        };
        // Builds the view of one point. Inputs have an age; outputs have a delivery and a safe
        // setting.
        let view = |(id, point): (PointId, &Point)| {
            let is_input = point.direction == Direction::In;
            let image = if is_input { &news.inputs.bytes } else { &news.outputs };
            let owner = news.owners[id.index()].and_then(|seat| roster.name(seat));
            // The view has the worse of two qualities: the quality of the point, and the quality
            // that a stall causes.
            let quality = news.inputs.quality[id.index()].max(stall);
            let good_at = news.inputs.good_at[id.index()];
            // If `good_at` is 0, the point never had good quality, so it has no age.
            let age = (!good_at.is_zero()).then(|| at.saturating_sub(good_at));
            PointView {
                name: point.name.clone(),
                direction: point.direction,
                kind: point.kind,
                address: match point.kind {
                    PointKind::Bool => format!("{}.{}", point.byte, point.bit),
                    _ => point.byte.to_string(),
                },
                value: point.shortest(&point.raw(image)),
                unit: point.unit.clone(),
                description: point.description.clone(),
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

    /// Returns the views of all variables, sorted by name.
    pub(super) fn variables(&mut self) -> Vec<VarView> {
        let kept = &self.config.fixed.retain.variables;
        let at = self.link.present();
        let (news, roster) = (self.link.news(), &self.plugins.roster);
        let runs = |writer: &str| is_seated(writer, news, roster, &self.plugins.supervisor);
        // Builds the view of one variable. `written_last` returns the time of the last write, and
        // the plugin or operator that wrote the variable.
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
