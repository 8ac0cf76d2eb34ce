//! The loader: its tasks turn the bytes of a module into a program that is ready for its seat.
//!
//! ```text
//!        read           compile, or cache          prepare           if wanted
//!  Away ──────▶ Bytes ────────────────────▶ Compiled ───────▶ program ─────────▶ shadow run
//! ```
//! A child process compiles, and a thread prepares. Only the loader's tasks wait for the process
//! and the thread, so the daemon's loop is not delayed. The number of parallel compilations and
//! preparations is limited. One slow module does not delay other modules; several slow modules
//! together may. `bytes.rs` reads the bytes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::bytes::{self, Module};
use crate::control::Who;
use crate::daemon::Event;
use crate::plugin::instance::program::{NewProgram, Preparation, Prepared, Program};
use crate::plugin::instance::stop::Timekeeper;
use crate::plugin::module::compile::{Artifact, CompileService};
use crate::plugin::module::note::Note;
use crate::plugin::shadow::{MAX_SHADOWS, Shadow, ShadowOutcome, ShadowReport};
use crate::plugin::trace::record::PostMortem;
use crate::plugin::{Generation, ModuleHash, Refusal};
use crate::process::line::Line;
use crate::process::world::World;

/// The largest number of parallel compilations. If one compilation is very slow, another can run.
const MAX_COMPILING: usize = 2;

/// The largest number of parallel preparations. Most preparations take a millisecond, but a program
/// whose `init` does not return uses its whole time budget.
const MAX_PREPARING: usize = 4;

/// The largest number of shadow runs in one preparation of a version. A shadow run is repeated if
/// the machine was too busy to compare the new version with the running version.
const MAX_ATTEMPTS: usize = 3;

/// The running preparation of a plugin; at most one for each plugin. When this value is dropped,
/// the task of the preparation and its compile worker end.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Loading(Option<(Generation, AbortHandle)>);

impl Loading {
    /// Ends the running preparation, if it is the preparation of this instance.
    pub(in crate::daemon) fn abandon(&mut self, generation: Generation) {
        if self.0.as_ref().is_some_and(|(current, _)| *current == generation) {
            self.replace(Self::default());
        }
    }

    /// Ends the running preparation and stores `other` as the running preparation.
    pub(in crate::daemon) fn replace(&mut self, other: Self) {
        *self = other;
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.0 {
            task.abort();
        }
    }
}

/// The outcome of a preparation. The loader sends it to the daemon's loop.
#[derive(Debug)]
pub(in crate::daemon) struct Loaded {
    pub(in crate::daemon) name: Arc<str>,
    pub(in crate::daemon) hash: ModuleHash,
    pub(in crate::daemon) generation: Generation,
    pub(in crate::daemon) result: Result<Prepared, Refusal>,
    /// The log lines that the program wrote during the preparation.
    pub(in crate::daemon) lines: Vec<Line>,
    /// The data for the crash report, if the program trapped in its start section, in
    /// `_initialize`, in `init` or in its shadow run.
    pub(in crate::daemon) post_mortem: Option<Box<PostMortem>>,
    /// The report of the shadow run, if there was one.
    pub(in crate::daemon) shadow: Option<ShadowReport>,
    /// Warnings about unusual properties of the module.
    pub(in crate::daemon) notes: Vec<Note>,
    /// The module with its artifact, for the next preparation; `None` if the loader got no
    /// artifact.
    pub(in crate::daemon) module: Option<Module>,
    /// Whether the artifact came from the compile cache.
    pub(in crate::daemon) cached: bool,
    pub(in crate::daemon) compile: Duration,
    pub(in crate::daemon) prepare: Duration,
}

/// Starts the preparations and limits the number that run in parallel.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Loader {
    pub(in crate::daemon) compile_service: Arc<CompileService>,
    pub(in crate::daemon) keeper: Arc<Timekeeper>,
    events: mpsc::Sender<Event>,
    /// The [`MAX_COMPILING`] permits for compilations. `preparing` has the [`MAX_PREPARING`]
    /// permits for preparations, and `trying` has the [`MAX_SHADOWS`] permits for shadow runs.
    compiling: Arc<Semaphore>,
    preparing: Arc<Semaphore>,
    trying: Arc<Semaphore>,
}

impl Loader {
    pub(in crate::daemon) fn new(
        compile_service: CompileService,
        keeper: Arc<Timekeeper>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            compile_service: Arc::new(compile_service),
            keeper,
            events,
            compiling: Arc::new(Semaphore::new(MAX_COMPILING)),
            preparing: Arc::new(Semaphore::new(MAX_PREPARING)),
            trying: Arc::new(Semaphore::new(MAX_SHADOWS)),
        }
    }

    /// Prepares a program in a separate task, which sends the outcome as an [`Event::Loaded`]. If
    /// `is_tried` is true and the preparation succeeds, another instance of the module then polls
    /// in the shadow of the running version.
    pub(in crate::daemon) fn load(
        &self,
        request: NewProgram,
        module: Module,
        world: Box<World>,
        is_tried: bool,
    ) -> Loading {
        let loader = self.clone();
        let generation = request.generation;
        let task = tokio::spawn(async move {
            let loaded = loader.work(request, module, world, is_tried).await;
            // The send fails only while the daemon stops, when the receiver is dropped.
            let _ = loader.events.send(Event::Loaded(Box::new(loaded))).await;
        });
        Loading(Some((generation, task.abort_handle())))
    }

    /// Sends [`Event::TurnedAway`] to the daemon's loop: a deploy was refused, and no file was
    /// written. `who` is the user who sent the module.
    pub(in crate::daemon) async fn turned_away(
        &self,
        name: String,
        hash: Option<ModuleHash>,
        refusal: Refusal,
        who: Option<Who>,
    ) {
        // The send fails only while the daemon stops, when the receiver is dropped.
        let _ = self.events.send(Event::TurnedAway { name, hash, refusal, who }).await;
    }

    /// Does the work of one preparation: compiles, prepares, and makes the shadow run if `is_tried`
    /// is true and the preparation has succeeded.
    async fn work(
        &self,
        request: NewProgram,
        module: Module,
        world: Box<World>,
        is_tried: bool,
    ) -> Loaded {
        let started = Instant::now();
        let (name, hash) = (Arc::clone(&request.name), request.hash);
        let generation = request.generation;
        let artifact = self.artifact(hash, module).await;
        let compile = started.elapsed();
        let started = Instant::now();
        let mut trial = None;
        let mut kept = None;
        let (artifact, preparation) = match artifact {
            Ok((artifact, module)) => {
                kept = Some(module);
                let again = is_tried.then(|| (request.clone(), world.twin()));
                let preparation = self.prepare(request, artifact.clone(), world).await;
                trial = again.filter(|_| preparation.result.is_ok());
                (Some(artifact), preparation)
            }
            Err(refusal) => {
                (None, Preparation { result: Err(refusal), lines: Vec::new(), post_mortem: None })
            }
        };
        let Preparation { mut result, lines, mut post_mortem } = preparation;
        let prepare = started.elapsed();
        let mut shadow = None;
        let cached = artifact.as_ref().is_some_and(|artifact| artifact.cached);
        let notes = artifact.as_ref().map(|artifact| artifact.notes.clone()).unwrap_or_default();
        if let (Some((request, world)), Some(artifact)) = (trial, artifact) {
            let outcome = self.attempt(request, artifact, world).await;
            shadow = Some(outcome.report);
            post_mortem = outcome.post_mortem;
            result = outcome.result.and(result);
        }
        Loaded {
            name,
            hash,
            generation,
            result,
            lines,
            post_mortem,
            shadow,
            notes,
            module: kept,
            cached,
            compile,
            prepare,
        }
    }

    /// Makes the shadow run of a new version, in [`MAX_ATTEMPTS`] attempts at most. In each
    /// attempt, an extra instance polls in the shadow of the running version.
    async fn attempt(
        &self,
        request: NewProgram,
        artifact: Artifact,
        world: Box<World>,
    ) -> ShadowOutcome {
        let _permit = self.trying.acquire().await;
        // The task owns `wanted`. If the task is aborted, it drops `wanted`, and the shadow run
        // ends early.
        let wanted = Arc::new(());
        let (loader, wants) = (self.clone(), Arc::downgrade(&wanted));
        let work = move || {
            let once = || loader.attempt_once(request.clone(), &artifact, world.twin(), &wants);
            let is_over = |outcome: &ShadowOutcome| !outcome.is_unproved;
            let last = MAX_ATTEMPTS - 1;
            (0..last).map(|_| once()).find(is_over).unwrap_or_else(once)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
            let refusal = Refusal::new(
                "the shadow run of this version panicked, a defect of the daemon",
                "please report this module",
            );
            ShadowOutcome::refused(refusal, None)
        })
    }

    /// Makes one shadow run, with a new instance for this run.
    fn attempt_once(
        &self,
        request: NewProgram,
        artifact: &Artifact,
        world: Box<World>,
        wanted: &Weak<()>,
    ) -> ShadowOutcome {
        let (limits, twin) = (&self.compile_service.limits, world.twin());
        let made = Program::prepare(request, artifact, twin, limits, &self.keeper);
        let shadow = match made.result {
            Ok(prepared) => Shadow::new(prepared, world),
            Err(refusal) => return ShadowOutcome::refused(refusal, made.post_mortem),
        };
        let (feed, frames) = shadow.feed();
        // The send fails only while the daemon stops, when the receiver is dropped.
        let _ = self.events.blocking_send(Event::Feed(feed));
        shadow.run(frames, &self.keeper, wanted)
    }

    /// Returns the artifact of a module, and the module as the daemon stores it in memory.
    async fn artifact(
        &self,
        hash: ModuleHash,
        module: Module,
    ) -> Result<(Artifact, Module), Refusal> {
        let bytes = match module {
            Module::Compiled(bytes, artifact) => {
                return Ok((artifact.clone(), Module::Compiled(bytes, artifact)));
            }
            Module::Bytes(bytes) => bytes,
            Module::Away(places) => {
                bytes::fetch(places, self.compile_service.limits.module_bytes, hash).await?
            }
        };
        // A module whose artifact is in the compile cache need not wait for a permit to compile.
        let artifact = match self.compile_service.cached(hash, bytes.len()).await {
            Some(artifact) => artifact,
            None => {
                let _permit = self.compiling.acquire().await;
                self.compile_service.artifact(hash, Arc::clone(&bytes)).await?
            }
        };
        Ok((artifact.clone(), Module::Compiled(bytes, artifact)))
    }

    async fn prepare(
        &self,
        request: NewProgram,
        artifact: Artifact,
        world: Box<World>,
    ) -> Preparation {
        let _permit = self.preparing.acquire().await;
        let loader = self.clone();
        let work = move || {
            let limits = &loader.compile_service.limits;
            Program::prepare(request, &artifact, world, limits, &loader.keeper)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Preparation {
            result: Err(Refusal::new(
                "the preparation of this version panicked, a defect of the daemon",
                "please report this module",
            )),
            lines: Vec::new(),
            post_mortem: None,
        })
    }
}
