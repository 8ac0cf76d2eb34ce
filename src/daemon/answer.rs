//! Requests of people and scripts: the daemon does what they ask, or answers why not.
//!
//! The loop answers a request at once, unless a device or the disk has to answer first: then the
//! caller's sender waits for it. `view.rs` puts together the answers that only inform. `control`
//! is the way by which people reach the daemon.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::oneshot;

use super::Daemon;
use super::folder::{self, Ended, RECOVERY, in_time};
use super::loader::Loader;
use super::reload::Cause;
use crate::control::{By, Call, Code, Failure, Reply, Request, Response, Who};
use crate::driver::{Command, Injection};
use crate::plugin::module::check;
use crate::plugin::module::folder::Home;
use crate::plugin::{ModuleHash, Refusal};
use crate::process::image::{Direction, Value};
use crate::process::variable::Variable;
use crate::scan::Order;
use crate::supervisor::Released;
use crate::text::nearest;

impl Daemon {
    /// Answers a call, at once or when a device or the disk has answered.
    pub(super) fn answer(&mut self, call: Call) {
        let Call { request, who, reply } = call;
        let reply = self.audited(&request, &who, reply);
        let answer = match request {
            Request::Status => Ok(Response::Status(self.status())),
            Request::Plugins => Ok(Response::Plugins(self.plugins())),
            Request::Points => Ok(Response::Points(self.points())),
            Request::Vars => Ok(Response::Vars(self.variables())),
            Request::History { name, limit } => self.history(name.as_deref(), limit),
            Request::Hold { name } => {
                // A swap that ended before the order is recorded before it.
                self.settle_swaps();
                let result = self.known(&name).and_then(|()| conflict(self.supervisor.hold(&name)));
                result.is_ok().then(|| self.record.held(&name, By::Operator, who.clone()));
                self.recovery.forget(&name);
                self.switched(&name, "held", who, result)
            }
            Request::Release { name } => {
                if self.is_emptying() {
                    let message = "a cold restart is under way; try again when it is over";
                    let _ = reply.send(Err(Failure::new(Code::Busy, message)));
                    return;
                }
                let result = match self.supervisor.quarantined(&name).is_empty() {
                    true => self.known(&name),
                    false => Ok(()),
                };
                let result = result.and_then(|()| conflict(self.supervisor.release(&name)));
                if let Ok(ended) = &result {
                    let forgives = *ended == Released::Forgiven;
                    self.record.released(&name, By::Operator, forgives, who.clone());
                }
                self.recovery.forget(&name);
                self.switched(&name, "released", who, result.map(drop))
            }
            Request::Restart { name } => {
                let result =
                    self.known(&name).and_then(|()| conflict(self.supervisor.restart(&name)));
                result.is_ok().then(|| self.record.afresh(&name));
                result.map(|()| self.plugin_answer(&name))
            }
            Request::RestartCold => return self.restart_cold(reply),
            Request::ResetRetain => return self.reset_retain(reply),
            Request::Recover => return self.recover(reply),
            Request::Reload => return self.reload(Cause::Operator(reply)),
            Request::Diff => return self.reload(Cause::Comparison(reply)),
            Request::Deploy { name, module } => return self.deploy(name, module, who, reply),
            Request::Rollback { name, to, even_bad } => {
                return self.roll_back(name, to, even_bad, reply);
            }
            Request::Versions { name } => self.versions(&name).map(Response::Versions),
            Request::Remove { name } => return self.remove(&name, reply),
            Request::Forces => self.forces(),
            Request::Force { point, order } => return self.force(&point, order, reply),
            Request::Unforce { point } => return self.unforce(point.as_deref(), reply),
            Request::Set { point, value } => return self.set(&point, value, reply),
            Request::SetVar { name, value } => return self.set_variable(name, value, reply),
            Request::Inject { device, injection } => {
                return self.inject(&device, injection, reply);
            }
            Request::Clear { device } => return self.command(&device, Command::Clear, reply),
        };
        // The caller may have left.
        let _ = reply.send(answer);
    }

    /// Begins to put a module into the folder, or refuses at once what certainly would not run.
    fn deploy(
        &mut self,
        name: String,
        module: Bytes,
        who: Option<Who>,
        reply: oneshot::Sender<Reply>,
    ) {
        if let Err(refusal) = self.supervisor.admits_name(&name) {
            let message = format!("nothing is deployed as {name}: {refusal}");
            let _ = reply.send(Err(Failure::new(Code::Refused, message)));
            return;
        }
        if let Err(failure) = self.takes_files() {
            let _ = reply.send(Err(failure));
            return;
        }
        let folder = (self.config.fixed.plugins.dir.clone(), self.folder.watch.home());
        let loader = self.loader.clone();
        let quarantined = self.supervisor.quarantined(&name);
        let under_way = self.folder.begin_deploy(&name);
        tokio::spawn(async move {
            let answer = deploy(&loader, folder, (name, module), &quarantined, who).await;
            drop(under_way);
            let _ = reply.send(answer);
        });
    }

    /// The history of everything, or of the plugin, point, variable or device of this name: at most
    /// `limit` entries.
    ///
    /// # Errors
    /// If nothing has this name, now or in the history.
    fn history(&mut self, name: Option<&str>, limit: usize) -> Reply {
        if let Some(name) = name.filter(|name| self.record.newest(1, Some(name)).is_empty()) {
            let points = self.config.live.points.iter().map(|(_, point)| &*point.name);
            let variables = self.handle.latest.read().variables.iter().map(|(name, _)| name);
            let devices = self.config.live.devices.iter().map(|device| &*device.name);
            let plugins = self.supervisor.plugins().map(|(name, _)| name);
            let mut known = plugins.chain(points).chain(variables).chain(devices);
            if !known.any(|known| known == name) {
                return Err(Failure::new(
                    Code::Unknown,
                    format!(
                        "there is no plugin, point, variable or device {name:?}, and the history \
                         has none; `camshaft history` lists what it has"
                    ),
                ));
            }
        }
        Ok(Response::History(self.record.newest(limit, name)))
    }

    /// Checks that there is a plugin of this name.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn known(&self, name: &str) -> Result<(), Failure> {
        match self.supervisor.plugin(name) {
            Some(_) => Ok(()),
            None => Err(Failure::new(
                Code::Unknown,
                format!("there is no plugin {name:?}; `camshaft plugins` lists them"),
            )),
        }
    }

    /// The answer to an order to hold or to release a plugin, which it also logs; or the failure in
    /// `result`.
    fn switched(
        &mut self,
        name: &str,
        what: &str,
        who: Option<Who>,
        result: Result<(), Failure>,
    ) -> Reply {
        result?;
        let who = who.map_or_else(|| "the operator".into(), |who| who.to_string());
        tracing::info!(plugin = name, who, "{name} is {what} by {who}");
        Ok(self.plugin_answer(name))
    }

    /// The plugin as it is right after an order.
    fn plugin_answer(&mut self, name: &str) -> Response {
        self.plugin_named(name).map_or(Response::Done, Response::Plugin)
    }

    /// Orders a simulated input to have a value, or answers why that is impossible.
    fn set(&mut self, name: &str, value: Value, reply: oneshot::Sender<Reply>) {
        let points = &self.config.live.points;
        let failure = match points.find(name) {
            None => unknown("point", name, points.iter().map(|(_, point)| &*point.name)),
            Some(id) if points[id].direction == Direction::Out => Failure::new(
                Code::Refused,
                format!("{name} is an output; only inputs of simulated devices can be set"),
            ),
            Some(id) => match points[id].encode(value) {
                Err(unfit) => Failure::new(Code::Invalid, format!("{name}: {unfit}")),
                Ok(_) => {
                    let device = points[id].device;
                    return self.order_device(device, Command::Set(id, value), reply);
                }
            },
        };
        let _ = reply.send(Err(failure));
    }

    /// Orders a variable to have a value, or answers why that is impossible.
    fn set_variable(&mut self, name: String, value: Value, reply: oneshot::Sender<Reply>) {
        let variables = &self.handle.latest.read().variables;
        let failure = match variables.read(&name).map(Variable::kind) {
            None => unknown("variable", &name, variables.iter().map(|(name, _)| name)),
            // Programs may write such a number; a person who types one has made a mistake.
            Some(_) if !value.is_finite() => Failure::new(
                Code::Invalid,
                format!("{name}: expected a finite number, found {value}"),
            ),
            Some(kind) => match Variable::from_value(kind, value) {
                None => Failure::new(
                    Code::Invalid,
                    format!("{name}: the variable is of type {kind}, which {value} is not"),
                ),
                Some(value) => {
                    let values = vec![(name, value)];
                    self.order(reply, |ticket| Order::SetVariables { ticket, values });
                    return;
                }
            },
        };
        let _ = reply.send(Err(failure));
    }

    /// Orders a simulated device to fail in the way that `injection` describes.
    fn inject(
        &mut self,
        device: &str,
        injection: serde_json::Value,
        reply: oneshot::Sender<Reply>,
    ) {
        match Injection::from_json(injection) {
            Ok(injection) => self.command(device, Command::Inject(injection), reply),
            Err(error) => {
                let _ = reply.send(Err(Failure::new(Code::Invalid, error)));
            }
        }
    }

    /// Gives a command to the device of this name, or answers that there is none.
    fn command(&mut self, name: &str, command: Command, reply: oneshot::Sender<Reply>) {
        match self.config.live.devices.iter().position(|device| device.name == name) {
            Some(device) => self.order_device(device, command, reply),
            None => {
                let names: Vec<_> =
                    self.config.live.devices.iter().map(|device| device.name.as_str()).collect();
                let there = match &*names {
                    [] => "the configuration has none".into(),
                    [one] => format!("there is {one}"),
                    all => format!("there are {}", all.join(", ")),
                };
                let message = format!("there is no device {name:?}; {there}");
                let _ = reply.send(Err(Failure::new(Code::Unknown, message)));
            }
        }
    }

    /// Sends a command to the device with this index, by way of the scan.
    fn order_device(&mut self, device: usize, command: Command, reply: oneshot::Sender<Reply>) {
        self.order(reply, |ticket| Order::Command { ticket, device, command });
    }

    /// Checks that the scan moves. A scan that stands would obey an order later, when its sender
    /// has already read that it was not obeyed.
    ///
    /// # Errors
    /// If the scan stands; the failure says where.
    pub(super) fn takes_orders(&self) -> Result<(), Failure> {
        let Some(doing) = self.stall.doing() else { return Ok(()) };
        let message = format!("the scan stands and takes no orders, {doing}");
        Err(Failure::new(Code::Busy, message))
    }

    /// Sends an order to the scan, and keeps `reply` until the scan answers. Returns the ticket of
    /// the order; `None` if it was refused, which `reply` has got then.
    pub(super) fn order(
        &mut self,
        reply: oneshot::Sender<Reply>,
        order: impl FnOnce(u64) -> Order,
    ) -> Option<u64> {
        if let Err(stands) = self.takes_orders() {
            let _ = reply.send(Err(stands));
            return None;
        }
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        if self.handle.orders.push(order(ticket)).is_err() {
            let _ = reply.send(Err(Failure::new(Code::Busy, "the scan has too many orders")));
            return None;
        }
        self.askers.insert(ticket, reply);
        Some(ticket)
    }

    /// Passes the scan's answer to an order on to the caller.
    pub(super) fn answered(&mut self, ticket: u64, result: Result<(), &'static str>) {
        self.force_answered(ticket, result.is_ok());
        if let Some(reply) = self.askers.remove(&ticket) {
            let answer = result.map(|()| Response::Done);
            let _ = reply.send(answer.map_err(|why| Failure::new(Code::Refused, why)));
        }
    }
}

/// The failure that no `what` has this name, with the nearest of the `known` names.
pub(super) fn unknown<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k str>) -> Failure {
    let remedy = match nearest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if what == "point" => "`camshaft points` lists them".into(),
        None => "`camshaft vars` lists them".into(),
    };
    Failure::new(Code::Unknown, format!("there is no {what} {name:?}; {remedy}"))
}

/// The supervisor's refusal as the failure of a request.
fn conflict<T>(result: Result<T, Refusal>) -> Result<T, Failure> {
    result.map_err(|refusal| Failure::new(Code::Refused, refusal.to_string()))
}

/// Does `work`, which records that recovery is over, on a thread that may wait for the state
/// directory. The caller gets its answer within 5 s, or a failure that there is none. That failure
/// begins with `so_far`: what is true without the record, and where the record lies. The work is
/// begun in any case, and may still be done later.
pub(super) fn answer_later(
    reply: oneshot::Sender<Reply>,
    so_far: String,
    work: impl FnOnce() -> Reply + Send + 'static,
) {
    tokio::spawn(async move {
        let late = |error| Err(Failure::new(Code::Internal, format!("{so_far}: {error}")));
        let _ = reply.send(in_time(&RECOVERY, || Ok(work())).await.unwrap_or_else(late));
    });
}

/// Checks a module and puts it into the folder. What is no module, or is in quarantine, is refused:
/// a slip must not replace a good file.
async fn deploy(
    loader: &Loader,
    (folder, home): (PathBuf, Arc<Home>),
    (name, module): (String, Bytes),
    quarantined: &[(ModuleHash, String)],
    who: Option<Who>,
) -> Reply {
    let hash = ModuleHash::of(&module);
    let checked = match quarantined.iter().find(|(of, _)| *of == hash) {
        Some((_, why)) => Err(Refusal::new(
            format!("these bytes are in quarantine: {why}"),
            format!("deploy other bytes; `camshaft release {name}` gives these another chance"),
        )),
        None => loader.compile_service.check(&module).await,
    };
    if let Err(refusal) = checked {
        let failure = Failure::new(Code::Refused, format!("{name} stays as it is: {refusal}"));
        // The file may be a secret that was deployed by a slip: the history gets no hash of it.
        let hash = check::stranger(&module).is_none().then_some(hash);
        loader.turned_away(name, hash, refusal, who).await;
        return Err(failure);
    }
    let shown = folder.display().to_string();
    let why = match folder::put((folder, home), name.clone(), module).await {
        Ended::Done => return Ok(Response::Deployed { name, hash: format!("{hash:#}") }),
        Ended::NotDone(error) => format!("{name}.wasm cannot be written to {shown}: {error}"),
        Ended::Unknown(error) => {
            folder::unknown(&format!("{name}.wasm"), &format!("written to {shown}"), &error)
        }
    };
    Err(Failure::new(Code::Internal, why))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::super::folder::STATE;
    use super::*;

    /// Eight calls hung in the state directory. Then no write of the end of recovery was ever
    /// begun, none was tried again, and the operator could not order it a second time.
    #[tokio::test]
    async fn calls_that_hang_do_not_keep_out_the_end_of_recovery() {
        const MOST: usize = 8;
        let (begin, begun) = channel();
        let holds: Vec<_> = (0..MOST)
            .map(|_| {
                let ((hold, held), begin) = (channel::<()>(), begin.clone());
                tokio::spawn(in_time(&STATE, move || {
                    begin.send(()).map_err(std::io::Error::other)?;
                    held.recv().map_err(std::io::Error::other)
                }));
                hold
            })
            .collect();
        let all_hang = move || (0..MOST).for_each(|_| begun.recv().unwrap());
        tokio::task::spawn_blocking(all_hang).await.unwrap();
        let (reply, answer) = oneshot::channel();
        answer_later(reply, "nothing is recorded".into(), || Ok(Response::Done));
        let answer = answer.await.unwrap();
        assert!(matches!(answer, Ok(Response::Done)), "{answer:?}");
        drop(holds);
    }
}
