//! Retained variables: the code here reads the values from the disk at the start, writes changed
//! values to the disk, and writes the last values at the stop.
//!
//! ```text
//!   snapshot ── changed() ──▶ write() ──▶ a thread ──▶ two files, the older one first
//!                                           │ Written
//!   disk, failing ◀── has_written() ◀── collect()
//! ```
//! All values of a write are from the same snapshot, and so from the same cycle. A separate thread
//! makes each write, because the disk may block. Only one write runs at a time. The scan and the
//! main loop never wait for the disk. At the start, `judge` examines damaged files: it raises an
//! alarm, or the start fails if no file is valid and `retain.on_corrupt` is `refuse`. The file
//! format is in `src/retain.rs`; the reset by an operator is in `reset.rs`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Field;
use crate::config::Config;
use crate::control::RetainView;
use crate::daemon::link::ScanLink;
use crate::patience::{self, PATIENCE};
use crate::process::variable::{Variable, Variables};
use crate::retain::{self, Found, OnCorrupt, OnReadonly, Store};
use crate::state::Folder;
use crate::text::{counted, is_or_are};

/// The time limit of the last write before the exit. A slow memory card needs less. The other last
/// writes have a limit of one second each: the record of the end, the record of versions and the
/// journal. If several of these writes hang, the process ends after `LEAVE` in `stop.rs`.
const LAST_WRITE: Duration = Duration::from_millis(1500);

/// If a write needs more than this time, the daemon reports that writes fail. The write may still
/// succeed, because a worn memory card can block for seconds.
const STALLED: Duration = Duration::from_secs(10);

/// The retained variables, and the state of their files.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Retain {
    /// The names and the initial values, in the order of the configuration.
    variables: Arc<[(String, Variable)]>,
    /// The values from the files at the start, without the values of variables that are no longer
    /// retained or have another type now.
    restored: Vec<(String, Variable)>,
    /// The files; `None` if no variable is retained. A write uses a copy of the [`Store`], and the
    /// updated copy in [`Written`] replaces this field.
    store: Option<Store>,
    /// The write that is in progress. Only the thread of this write accesses the files.
    writing: Option<Writing>,
    /// The result of the last [`Retain::clear`], until a reset takes it.
    cleared: Option<Result<(), String>>,
    /// The values that are on the disk, in the order of `variables`. `None` if the disk may not
    /// have exactly these values; then the next flush writes them.
    disk: Option<Vec<Variable>>,
    /// The damage of the files at the start; `None` if there was none, and after a successful
    /// reset.
    alarm: Option<String>,
    /// The time since which writes fail or are late, and the reason; `None` if writes succeed.
    failing: Option<(Instant, String)>,
}

/// A write that is in progress.
#[derive(Debug)]
struct Writing {
    /// The time when the write began.
    since: Instant,
    /// Whether the write belongs to a reset. Such a write replaces the old values in both files.
    is_clear: bool,
    /// The channel on which the thread of the write sends the result.
    end: oneshot::Receiver<Written>,
}

/// The result of a write.
#[derive(Debug)]
struct Written {
    /// The files, with the counters updated by this write.
    store: Store,
    /// The written values, in the order of the configuration.
    values: Vec<Variable>,
    /// Success, or the error of the write.
    result: std::io::Result<()>,
}

impl Retain {
    /// Reads the files. If a variable is retained, `folder` is not `None`, because without a state
    /// directory the start has already failed.
    ///
    /// # Errors
    /// A file is damaged and no file is valid, or no file can be written, and the configuration
    /// refuses a start in this case. Or the file system does not answer.
    pub(in crate::daemon) fn load(
        config: &Config,
        folder: Option<&Arc<Folder>>,
    ) -> anyhow::Result<Self> {
        let settings = &config.fixed.retain;
        let Some(folder) = folder.filter(|_| !settings.variables.is_empty()) else {
            return Ok(Self::default());
        };
        if let Some(trouble) = folder.trouble() {
            ensure!(
                settings.on_readonly == OnReadonly::Start,
                "state.dir: {} cannot be written ({trouble}), and retain.on_readonly is \
                 \"refuse\". Repair the disk; or set on_readonly = \"start\" to run with the \
                 stored values and to lose all changes of these values when the daemon ends",
                folder.path().display()
            );
        }
        let place = folder.path().to_path_buf();
        let found = patience::wait(PATIENCE, move || Ok(retain::find(&place)))
            .with_context(|| format!("retained variables in {}", folder.path().display()))?;
        let store = Store::new(Arc::clone(folder), &found);
        let mut retain = Self { variables: settings.variables.clone().into(), ..Self::default() };
        retain.judge(&found, settings.on_corrupt)?;
        if let Some((place, generation)) = found.newest {
            retain.restored = retain.fitting(generation.values);
            let is_same = |((name, _), (other, _)): (&(String, _), &(String, _))| name == other;
            let is_whole = retain.restored.len() == retain.variables.len()
                && retain.restored.iter().zip(retain.variables.iter()).all(is_same);
            // If the folder is read-only, `disk` stays `None`, so each flush tries to write the
            // values.
            if is_whole && found.damaged.is_empty() && folder.trouble().is_none() {
                retain.disk = Some(retain.restored.iter().map(|(_, value)| *value).collect());
            }
            let (count, number) = (retain.restored.len(), generation.number);
            let file = folder.path().join(retain::FILES[place]);
            tracing::info!(
                count,
                number,
                "{} {} restored from {}, write {number}",
                counted(count, "retained value"),
                is_or_are(count),
                file.display()
            );
        }
        retain.store = Some(store);
        if let Some(trouble) = folder.trouble() {
            retain.fails(trouble.to_owned());
        }
        Ok(retain)
    }

    /// Raises an alarm if a file is damaged. Fails if no file is valid and the configuration
    /// refuses a start without a valid file.
    fn judge(&mut self, found: &Found, on_corrupt: OnCorrupt) -> anyhow::Result<()> {
        if found.damaged.is_empty() {
            return Ok(());
        }
        let damage =
            |(path, damage): &(std::path::PathBuf, _)| format!("{}: {damage}", path.display());
        let damage = found.damaged.iter().map(damage).collect::<Vec<_>>().join("; ");
        let done = match &found.newest {
            Some((_, generation)) => {
                format!("values of write {} are used; damaged ones may be newer", generation.number)
            }
            None if on_corrupt == OnCorrupt::Refuse => bail!(
                "no file of retained values is valid, and retain.on_corrupt is \"refuse\": \
                 {damage}. Restore a good copy of the file; or delete the file to start with the \
                 initial values; or set on_corrupt = \"cold\""
            ),
            None => "cold start: the variables have their initial values".to_owned(),
        };
        let alarm = format!("{damage}; {done}");
        tracing::error!("retain: {alarm}");
        self.alarm = Some(alarm);
        Ok(())
    }

    /// Returns those restored values whose variable is still retained and has the same type. The
    /// returned values are in the order of the configuration. Each dropped value is logged.
    fn fitting(&self, values: Vec<(String, Variable)>) -> Vec<(String, Variable)> {
        let place = |name: &str| self.variables.iter().position(|(other, _)| other == name);
        let mut fitting = Vec::new();
        for (name, value) in values {
            let (kind, found) = (value.kind(), place(&name));
            match found.map(|at| (at, self.variables[at].1.kind())) {
                Some((at, declared)) if declared == kind => fitting.push((at, name, value)),
                Some((_, declared)) => tracing::warn!(
                    variable = name,
                    "the retained value of {name} is dropped: its type is {kind}, and the \
                     variable now has type {declared}"
                ),
                None => tracing::warn!(
                    variable = name,
                    "the retained value of {name} is dropped: no variable of this name is marked \
                     retain = true"
                ),
            }
        }
        fitting.sort_by_key(|(at, ..)| *at);
        fitting.into_iter().map(|(_, name, value)| (name, value)).collect()
    }

    /// Returns the values from the files. At the start these values replace the initial values.
    pub(in crate::daemon) fn restored(&self) -> &[(String, Variable)] {
        &self.restored
    }

    /// Returns the names and the initial values of all retained variables.
    pub(in crate::daemon) fn initial(&self) -> &[(String, Variable)] {
        &self.variables
    }

    /// Whether a write is in progress.
    pub(in crate::daemon) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether the write of [`Retain::clear`] is in progress.
    pub(in crate::daemon) fn is_clearing(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| writing.is_clear)
    }

    /// Returns the reason why writes fail; `None` if they succeed.
    pub(in crate::daemon) fn failure(&self) -> Option<&str> {
        self.failing.as_ref().map(|(_, reason)| reason.as_str())
    }

    /// Returns the values in a snapshot if they differ from the values on the disk.
    fn changed(&self, variables: &Variables) -> Option<Vec<Variable>> {
        // Every retained variable exists since the start, and declared variables are never removed.
        let value = |(name, initial): &(String, _)| variables.read(name).unwrap_or(*initial);
        let values: Vec<_> = self.variables.iter().map(value).collect();
        let is_same = |disk: &Vec<Variable>| {
            disk.iter().zip(&values).all(|(disk, value)| disk.is_same(*value))
        };
        (!self.disk.as_ref().is_some_and(is_same)).then_some(values)
    }

    /// Starts to write the initial values into both files, so that no file has old values.
    pub(in crate::daemon) fn clear(&mut self) {
        let values = self.variables.iter().map(|(_, initial)| *initial).collect();
        self.cleared = None;
        self.write(values, true);
    }

    /// Removes and returns the result of [`Retain::clear`] after its end. Later writes do not
    /// change this result. Without retained variables the result is `Ok`.
    ///
    /// # Errors
    /// The reason why the files may still have old values.
    pub(in crate::daemon) fn cleared(&mut self) -> Result<(), String> {
        self.cleared.take().unwrap_or_else(|| self.failure().map_or(Ok(()), |why| Err(why.into())))
    }

    /// Starts a thread that writes the values: into both files if `is_clear`, else into the older
    /// file.
    fn write(&mut self, values: Vec<Variable>, is_clear: bool) {
        let Some(mut store) = self.store.clone() else { return };
        let times = if is_clear { retain::FILES.len() } else { 1 };
        let variables = Arc::clone(&self.variables);
        let (done, end) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let result = (0..times).try_for_each(|_| {
                let pairs: Vec<_> = variables.iter().zip(&values).map(pair_of).collect();
                store.write(pairs.into_iter())
            });
            // The send fails only after the daemon has stopped.
            let _ = done.send(Written { store, values, result });
        });
        self.writing = Some(Writing { since: Instant::now(), is_clear, end });
    }

    /// Takes over the result of the write in progress if this write has ended. If the write takes
    /// longer than [`STALLED`], the function reports that writes fail.
    pub(in crate::daemon) fn collect(&mut self) {
        let Some(writing) = &mut self.writing else { return };
        match writing.end.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => {
                if writing.since.elapsed() > STALLED {
                    self.fails(format!("the disk has not completed a write within {STALLED:?}"));
                }
            }
            Ok(written) => self.ended(Some(written)),
            Err(oneshot::error::TryRecvError::Closed) => self.ended(None),
        }
    }

    /// Ends the write in progress and stores its result. `None` means that the thread of the write
    /// has panicked.
    fn ended(&mut self, written: Option<Written>) {
        let is_clear = self.writing.take().is_some_and(|writing| writing.is_clear);
        let failure = self.has_written(written);
        if is_clear {
            self.cleared = Some(failure.clone().map_or(Ok(()), Err));
        }
        failure.into_iter().for_each(|reason| self.fails(reason));
    }

    /// Stores the result of a write. If the write has failed, returns the reason.
    fn has_written(&mut self, written: Option<Written>) -> Option<String> {
        match written {
            Some(Written { store, values, result: Ok(()) }) => {
                (self.store, self.disk) = (Some(store), Some(values));
                if self.failing.take().is_some() {
                    tracing::info!(
                        "retained values can be written again, and the disk has the newest values"
                    );
                }
                None
            }
            Some(Written { result: Err(error), store, .. }) => {
                // A clear writes two files. The first write may have succeeded, so the content is
                // not known.
                self.store = Some(store);
                self.disk = None;
                Some(error.to_string())
            }
            None => Some("the thread that writes has panicked".to_owned()),
        }
    }

    /// Stores the reason why writes fail. A new reason is also logged.
    fn fails(&mut self, reason: String) {
        if self.failure() != Some(&reason) {
            tracing::error!(
                reason,
                "retained values cannot be written: {reason}; the daemon tries again"
            );
        }
        let since = self.failing.take().map_or_else(Instant::now, |(since, _)| since);
        self.failing = Some((since, reason));
    }

    /// Ends the alarm. A reset calls this function, because the values are correct after a reset.
    pub(in crate::daemon) fn forget_alarm(&mut self) {
        self.alarm = None;
    }

    /// Waits for the end of the write in progress, if there is one.
    async fn end_writing(&mut self) {
        if let Some(writing) = &mut self.writing {
            let written = (&mut writing.end).await.ok();
            self.ended(written);
        }
    }

    /// Writes the last values if they are not on the disk yet. Waits for at most [`LAST_WRITE`].
    async fn write_last(&mut self, variables: &Variables) {
        let work = async {
            self.end_writing().await;
            if self.store.is_some()
                && let Some(values) = self.changed(variables)
            {
                self.write(values, false);
            }
            self.end_writing().await;
        };
        if timeout(LAST_WRITE, work).await.is_err() {
            tracing::error!(
                "the last retained values are not on the disk: the disk did not store them \
                 within {LAST_WRITE:?}; the next start uses the values of the previous write"
            );
        }
    }

    /// Returns the view of the retained variables; `None` if no variable is retained.
    pub(in crate::daemon) fn view(&self) -> Option<RetainView> {
        let store = self.store.as_ref()?;
        Some(RetainView {
            variables: self.variables.len() as u64,
            writes: store.writes,
            bytes: store.bytes,
            failing_s: self.failing.as_ref().map(|(since, _)| since.elapsed().as_secs()),
            reason: self.failure().map(str::to_owned),
            alarm: self.alarm.clone(),
        })
    }
}

/// Returns the name of a retained variable together with its newest value, as `Store::write` needs
/// them.
fn pair_of<'v>(((name, _), value): (&'v (String, Variable), &Variable)) -> (&'v str, Variable) {
    (name, *value)
}

impl Field {
    /// Starts to write the retained variables of the newest snapshot. The function does nothing if
    /// the values have not changed, or if a write is in progress.
    pub(in crate::daemon) fn write_changed(&mut self, link: &mut ScanLink) {
        self.retain.collect();
        if self.retain.store.is_some()
            && !self.retain.is_writing()
            && let Some(values) = self.retain.changed(&link.news().variables)
        {
            self.retain.write(values, false);
        }
    }

    /// Writes the retained variables of the last snapshot, and waits for the end of the write.
    pub(in crate::daemon) async fn write_last(&mut self, link: &mut ScanLink) {
        self.retain.write_last(&link.news().variables).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns retained variables in a new state directory, and this directory.
    fn retain() -> (Retain, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let found = retain::find(dir.path());
        let variables = vec![("count".to_owned(), Variable::Int(0))];
        let store = Some(Store::new(folder, &found));
        (Retain { variables: variables.into(), store, ..Retain::default() }, dir)
    }

    /// Waits until the write in progress has ended.
    async fn end(retain: &mut Retain) {
        while retain.is_writing() {
            tokio::task::yield_now().await;
            retain.collect();
        }
    }

    /// This test covers an old fault. The write of a reset had ended. Before the reset checked the
    /// result, a flush wrote the values of running programs. The reset then used the result of the
    /// flush in place of its own result. So a successful reset was reported as failed, and a reset
    /// that had written only one file was reported as done.
    #[tokio::test]
    async fn what_is_written_behind_a_reset_does_not_answer_for_it() {
        let (mut retain, dir) = retain();
        let in_the_way = dir.path().join(format!("{}.tmp", retain::FILES[0]));
        let block = || std::fs::create_dir(&in_the_way).unwrap();
        let unblock = || std::fs::remove_dir(&in_the_way).unwrap();
        retain.clear();
        assert!(retain.is_clearing());
        end(&mut retain).await;
        block();
        for _ in retain::FILES {
            retain.write(vec![Variable::Int(1)], false);
            end(&mut retain).await;
        }
        assert!(retain.failure().is_some());
        assert!(!retain.is_clearing());
        assert_eq!(retain.cleared(), Ok(()));

        retain.clear();
        end(&mut retain).await;
        unblock();
        retain.write(vec![Variable::Int(1)], false);
        end(&mut retain).await;
        assert_eq!(retain.failure(), None);
        retain.cleared().unwrap_err();
    }
}
