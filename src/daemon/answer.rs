//! The daemon's answers to requests. The daemon carries out an order, or answers with the reason
//! why it does not.
//!
//! If possible, the daemon answers at once. Some orders first need an answer from the scan, a
//! device or a disk. In that case the daemon stores the reply channel of the request until the
//! device, the disk or the scan has answered. `view.rs` makes the answers to requests that only
//! read. `audit.rs` records the orders. How requests reach the daemon is described in `control`.

use super::Daemon;
use super::reload::Cause;
use crate::control::{Call, Code, Failure, Reply, Request, Response};
use crate::driver::Command;

impl Daemon {
    /// Answers a request: at once, or after the scan, a device or a disk has answered.
    ///
    /// The answer to an order first goes to the audit, which records the order. A branch with
    /// `return` passes the reply channel to a part of the daemon, and this part answers at once or
    /// later. After any other branch, the function sends the answer at its end.
    pub(super) fn answer(&mut self, call: Call) {
        let Call { request, who, reply } = call;
        let reply = self.audited(&request, &who, reply);
        let answer = match request {
            Request::Status => Ok(Response::Status(self.status())),
            Request::Plugins => {
                Ok(Response::Plugins(self.plugins.plugins(&self.config, &mut self.link)))
            }
            Request::Points => Ok(Response::Points(self.points())),
            Request::Vars => Ok(Response::Vars(self.variables())),
            Request::History { name, limit } => self.history(name.as_deref(), limit),
            Request::Hold { name } => {
                let held = self.plugins.hold(&name, who, &mut self.link);
                held.map(|()| self.plugin_answer(&name))
            }
            Request::Release { name } => {
                let released = self.plugins.release(&name, who, self.field.is_emptying());
                released.map(|()| self.plugin_answer(&name))
            }
            Request::Restart { name } => {
                let restarted = self.plugins.restart(&name);
                restarted.map(|()| self.plugin_answer(&name))
            }
            Request::RestartCold => {
                return self.field.restart_cold(reply, &self.link, &mut self.plugins);
            }
            Request::ResetRetain => return self.field.reset_retain(reply, &self.link),
            Request::Recover => return self.plugins.recover(self.field.is_emptying(), reply),
            Request::Reload => return self.reload(Cause::Operator(reply)),
            Request::Diff => return self.reload(Cause::Comparison(reply)),
            Request::Deploy { name, module } => {
                return self.plugins.deploy(name, module, who, reply, &self.config);
            }
            Request::Rollback { name, to, even_bad } => {
                return self.plugins.roll_back(name, to, even_bad, reply, &self.config);
            }
            Request::Versions { name } => self.plugins.versions(&name).map(Response::Versions),
            Request::Remove { name } => return self.plugins.remove(&name, reply, &self.config),
            Request::Forces => self.field.forces(&mut self.link),
            Request::Force { point, order } => {
                return self.field.force(&point, order, reply, &self.config, &mut self.link);
            }
            Request::Unforce { point } => {
                return self.field.unforce(point.as_deref(), reply, &self.config, &mut self.link);
            }
            Request::Set { point, value } => {
                return self.link.set(&point, value, reply, &self.config);
            }
            Request::SetVar { name, value } => return self.link.set_variable(name, value, reply),
            Request::Inject { device, injection } => {
                return self.link.inject(&device, injection, reply, &self.config);
            }
            Request::Clear { device } => {
                return self.link.command(&device, Command::Clear, reply, &self.config);
            }
        };
        // The send fails if the client has closed its connection. The error needs no action.
        let _ = reply.send(answer);
    }

    /// Returns the newest entries of the history, at most `limit`. With a `name`, only the entries
    /// about the plugin, point, variable or device of this name are returned.
    ///
    /// # Errors
    /// The name is unknown: no plugin, point, variable or device has this name now, and no entry of
    /// the history is about this name.
    fn history(&mut self, name: Option<&str>, limit: usize) -> Reply {
        // A name that is in the history may belong to a plugin or point that no longer exists. Only
        // a name without any entry is checked against the present names.
        if let Some(name) = name.filter(|name| self.plugins.record.newest(1, Some(name)).is_empty())
        {
            let points = self.config.live.points.iter().map(|(_, point)| &*point.name);
            let variables = self.link.news().variables.iter().map(|(name, _)| name);
            let devices = self.config.live.devices.iter().map(|device| &*device.name);
            let plugins = self.plugins.supervisor.plugins().map(|(name, _)| name);
            let mut known = plugins.chain(points).chain(variables).chain(devices);
            if !known.any(|known| known == name) {
                return Err(Failure::new(
                    Code::Unknown,
                    format!(
                        "there is no plugin, point, variable or device {name:?}, and the history \
                         has no entry about it; `camshaft history` lists all entries"
                    ),
                ));
            }
        }
        Ok(Response::History(self.plugins.record.newest(limit, name)))
    }

    /// Returns the answer to an order about a plugin: the view of the plugin directly after the
    /// order, or `Done` if the plugin no longer exists.
    fn plugin_answer(&mut self, name: &str) -> Response {
        self.plugins
            .plugin_named(name, &self.config, &mut self.link)
            .map_or(Response::Done, Response::Plugin)
    }

    /// Passes the scan's answer to the sender of the order with this `ticket`.
    pub(super) fn answered(&mut self, ticket: u64, result: Result<(), &'static str>) {
        // Every answer of the scan passes here. If the order was about forces, `field/force.rs`
        // updates its records.
        self.field.force_answered(ticket, result.is_ok(), &mut self.link);
        if let Some(reply) = self.link.askers.remove(&ticket) {
            let answer = result.map(|()| Response::Done);
            let _ = reply.send(answer.map_err(|why| Failure::new(Code::Refused, why)));
        }
    }
}
