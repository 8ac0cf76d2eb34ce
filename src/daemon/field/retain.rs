//! Retained variables: restored at the start, written when they have changed, and written at the
//! end.
//!
//! ```text
//!   snapshot ── changed() ──▶ write() ──▶ a thread ──▶ two files, the older one first
//!                                           │ Written
//!   disk, failing ◀── has_written() ◀── collect()
//! ```
//! All values of one write come from one snapshot, so from one cycle. A thread that may wait for
//! the disk writes them, one write at a time. The scan and the daemon's loop never wait for it.
//! `src/retain.rs` makes the files; the operator's reset is in `reset.rs`.

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

/// The time limit of the last write before the exit. A slow card needs less. The limit is less than
/// half of the time that the process has to end (`stop.rs`), because a disk that hangs also costs a
/// second for the record of the end, and a second for the journal.
const LAST_WRITE: Duration = Duration::from_millis(1500);

/// The time after which a write that has not ended is an alarm. The write may still succeed,
/// because a card that is wearing out stalls for seconds.
const STALLED: Duration = Duration::from_secs(10);

/// The retained variables, and the state of their files.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Retain {
    /// Names and initial values, in the order of the configuration.
    variables: Arc<[(String, Variable)]>,
    /// The values that the files had at the start, of variables that are still retained.
    restored: Vec<(String, Variable)>,
    /// The files; `None` if no variable is marked, or while a write has them.
    store: Option<Store>,
    /// The write that is under way. Only its thread touches the files.
    writing: Option<Writing>,
    /// The result of the last [`Retain::clear`], until a reset asks for it.
    cleared: Option<Result<(), String>>,
    /// The values in the newest file, in the order of `variables`. `None` if the file does not have
    /// exactly these variables.
    disk: Option<Vec<Variable>>,
    /// What was wrong with the files at the start; `None` after a reset.
    alarm: Option<String>,
    /// Since when writes fail, and why.
    failing: Option<(Instant, String)>,
}

/// A write that is under way.
#[derive(Debug)]
struct Writing {
    /// When the write began.
    since: Instant,
    /// Whether the write is a reset's, which replaces the old values in both files.
    is_clear: bool,
    /// The channel on which the write's thread sends the result.
    end: oneshot::Receiver<Written>,
}

/// The result of a write.
#[derive(Debug)]
struct Written {
    /// The files, with the counts of this write.
    store: Store,
    /// The values that were to be written, in the order of the configuration.
    values: Vec<Variable>,
    /// Why the write has failed, if it has.
    result: std::io::Result<()>,
}

impl Retain {
    /// Reads the files. If a variable is marked, the configuration has a state directory.
    ///
    /// # Errors
    /// If no file is whole or none can be written, and the configuration says to refuse the start
    /// then.
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
                "state.dir: {} takes no writes ({trouble}), and retain.on_readonly is \"refuse\". \
                 Mend the disk; or set on_readonly = \"start\" to run with the values that are \
                 there and to lose what changes",
                folder.path().display()
            );
        }
        let place = folder.path().to_path_buf();
        let found = patience::wait(PATIENCE, move || Ok(retain::look(&place)))
            .with_context(|| format!("retained variables in {}", folder.path().display()))?;
        let store = Store::new(Arc::clone(folder), &found);
        let mut retain = Self { variables: settings.variables.clone().into(), ..Self::default() };
        retain.judge(&found, settings.on_corrupt)?;
        if let Some((place, generation)) = found.newest {
            retain.restored = retain.fitting(generation.values);
            let is_same = |((name, _), (other, _)): (&(String, _), &(String, _))| name == other;
            let is_whole = retain.restored.len() == retain.variables.len()
                && retain.restored.iter().zip(retain.variables.iter()).all(is_same);
            // Values in a folder that takes no writes count as not written, so each flush tries
            // again.
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

    /// Raises the alarm about damaged files. Fails if the configuration refuses to start with them.
    fn judge(&mut self, found: &Found, on_corrupt: OnCorrupt) -> anyhow::Result<()> {
        if found.damaged.is_empty() {
            return Ok(());
        }
        let damage =
            |(path, damage): &(std::path::PathBuf, _)| format!("{}: {damage}", path.display());
        let damage = found.damaged.iter().map(damage).collect::<Vec<_>>().join("; ");
        let done = match &found.newest {
            Some((_, generation)) => {
                format!("the values of write {} are used, they may be older", generation.number)
            }
            None if on_corrupt == OnCorrupt::Refuse => bail!(
                "no retained values are whole, and retain.on_corrupt is \"refuse\": {damage}. Put \
                 a good copy there; or delete the file to start with the initial values; or set \
                 on_corrupt = \"cold\""
            ),
            None => "cold start: the variables have their initial values".to_owned(),
        };
        let alarm = format!("{damage}; {done}");
        tracing::error!("retain: {alarm}");
        self.alarm = Some(alarm);
        Ok(())
    }

    /// The restored values that fit: the variable is still marked and has the value's type. They
    /// are in the order of the configuration. Each other value is logged.
    fn fitting(&self, values: Vec<(String, Variable)>) -> Vec<(String, Variable)> {
        let place = |name: &str| self.variables.iter().position(|(other, _)| other == name);
        let mut fitting = Vec::new();
        for (name, value) in values {
            let (kind, found) = (value.kind(), place(&name));
            match found.map(|at| (at, self.variables[at].1.kind())) {
                Some((at, declared)) if declared == kind => fitting.push((at, name, value)),
                Some((_, declared)) => tracing::warn!(
                    variable = name,
                    "the retained value of {name} is dropped: it is of type {kind}, and the \
                     variable is {declared} now"
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

    /// The values from the files, which replace initial values at the start.
    pub(in crate::daemon) fn restored(&self) -> &[(String, Variable)] {
        &self.restored
    }

    /// The names and initial values of all retained variables.
    pub(in crate::daemon) fn initial(&self) -> &[(String, Variable)] {
        &self.variables
    }

    /// Whether a write is under way.
    pub(in crate::daemon) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether the write of [`Retain::clear`] is under way.
    pub(in crate::daemon) fn is_clearing(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| writing.is_clear)
    }

    /// Why writes fail; `None` if they succeed.
    pub(in crate::daemon) fn failure(&self) -> Option<&str> {
        self.failing.as_ref().map(|(_, reason)| reason.as_str())
    }

    /// The values in a snapshot, if they differ from the values on the disk.
    fn changed(&self, variables: &Variables) -> Option<Vec<Variable>> {
        // Each retained variable was made at the start, and no declared variable is ever removed.
        let value = |(name, initial): &(String, _)| variables.read(name).unwrap_or(*initial);
        let values: Vec<_> = self.variables.iter().map(value).collect();
        let is_same = |disk: &Vec<Variable>| {
            disk.iter().zip(&values).all(|(disk, value)| disk.is_same(*value))
        };
        (!self.disk.as_ref().is_some_and(is_same)).then_some(values)
    }

    /// Starts a thread that writes the initial values into both files, so that neither file has old
    /// values.
    pub(in crate::daemon) fn clear(&mut self) {
        let values = self.variables.iter().map(|(_, initial)| *initial).collect();
        self.cleared = None;
        self.write(values, true);
    }

    /// The result of [`Retain::clear`] after it has ended; later writes do not change it. If no
    /// variable is retained, there was nothing to write, and the result is `Ok`.
    ///
    /// # Errors
    /// Why the files may still have old values.
    pub(in crate::daemon) fn cleared(&mut self) -> Result<(), String> {
        self.cleared.take().unwrap_or_else(|| self.failure().map_or(Ok(()), |why| Err(why.into())))
    }

    /// Starts a thread that writes the values into the older file; with `is_clear`, into both
    /// files.
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
            // The receiver is gone only when the daemon has stopped.
            let _ = done.send(Written { store, values, result });
        });
        self.writing = Some(Writing { since: Instant::now(), is_clear, end });
    }

    /// Takes in the result of a write that has ended.
    pub(in crate::daemon) fn collect(&mut self) {
        let Some(writing) = &mut self.writing else { return };
        match writing.end.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => {
                if writing.since.elapsed() > STALLED {
                    self.fails(format!("the disk has not taken a write for {STALLED:?}"));
                }
            }
            Ok(written) => self.ended(Some(written)),
            Err(oneshot::error::TryRecvError::Closed) => self.ended(None),
        }
    }

    /// Takes in the result of the write that was under way. `None` means that its thread has
    /// panicked.
    fn ended(&mut self, written: Option<Written>) {
        let is_clear = self.writing.take().is_some_and(|writing| writing.is_clear);
        let failure = self.has_written(written);
        if is_clear {
            self.cleared = Some(failure.clone().map_or(Ok(()), Err));
        }
        failure.into_iter().for_each(|reason| self.fails(reason));
    }

    /// Takes in the result of a write. Returns the reason if the write has failed.
    fn has_written(&mut self, written: Option<Written>) -> Option<String> {
        match written {
            Some(Written { store, values, result: Ok(()) }) => {
                (self.store, self.disk) = (Some(store), Some(values));
                if self.failing.take().is_some() {
                    tracing::info!("retained values can be written again, and are on disk");
                }
                None
            }
            Some(Written { result: Err(error), store, .. }) => {
                // A clear writes two files, and its first write may have succeeded.
                self.store = Some(store);
                self.disk = None;
                Some(error.to_string())
            }
            None => Some("the thread that writes has panicked".to_owned()),
        }
    }

    /// Notes why nothing can be written, and logs a new reason.
    fn fails(&mut self, reason: String) {
        if self.failure() != Some(&reason) {
            tracing::error!(
                reason,
                "retained values cannot be written: {reason}; it is tried again"
            );
        }
        let since = self.failing.take().map_or_else(Instant::now, |(since, _)| since);
        self.failing = Some((since, reason));
    }

    /// Ends the alarm. A reset calls this, because the values are right then.
    pub(in crate::daemon) fn forget_alarm(&mut self) {
        self.alarm = None;
    }

    /// Waits for the write that is under way, if there is one.
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
                "the last retained values are not on disk: the disk did not take them within \
                 {LAST_WRITE:?}; the next start uses the values of the write before"
            );
        }
    }

    /// The state of retained variables as the status shows it; `None` if no variable is marked.
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

/// The name and the value of a variable, for the file.
fn pair_of<'v>(((name, _), value): (&'v (String, Variable), &Variable)) -> (&'v str, Variable) {
    (name, *value)
}

impl Field {
    /// Begins to write the retained variables of the newest snapshot, if they have changed and no
    /// write is under way.
    pub(in crate::daemon) fn keep(&mut self, link: &mut ScanLink) {
        self.retain.collect();
        if self.retain.store.is_some()
            && !self.retain.is_writing()
            && let Some(values) = self.retain.changed(&link.news().variables)
        {
            self.retain.write(values, false);
        }
    }

    /// Writes the retained variables of the last snapshot, and waits for the write.
    pub(in crate::daemon) async fn keep_last(&mut self, link: &mut ScanLink) {
        self.retain.write_last(&link.news().variables).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Retained variables in a new state directory, and this directory.
    fn retain() -> (Retain, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let found = retain::look(dir.path());
        let variables = vec![("count".to_owned(), Variable::Int(0))];
        let store = Some(Store::new(folder, &found));
        (Retain { variables: variables.into(), store, ..Retain::default() }, dir)
    }

    /// Waits until the write that is under way has ended.
    async fn end(retain: &mut Retain) {
        while retain.is_writing() {
            tokio::task::yield_now().await;
            retain.collect();
        }
    }

    /// A flush wrote the values of running programs between the end of a reset's write and the look
    /// at that write. The flush's result counted for the reset. So the answer called a good reset
    /// failed, and it called a reset done that had written only one file.
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
