//! The loader: its tasks turn the bytes of a module into a program that is ready for its seat.
//!
//! ```text
//!        read           compile, or cache          prepare           if wanted
//!  Away ──────▶ Bytes ────────────────────▶ Compiled ───────▶ program ─────────▶ shadow run
//! ```
//! A child process compiles, and a thread prepares. Only the loader's tasks wait for the process
//! and the thread, so the daemon's loop is not delayed. The number of parallel compilations and
//! preparations is limited. One slow module does not delay other modules; several slow modules
//! together may. `recall.rs` lists the places where the bytes of a module may be stored.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::call::{READING, STATE, in_time};
use crate::control::Who;
use crate::daemon::Event;
use crate::plugin::instance::program::{NewProgram, Preparation, Prepared, Program};
use crate::plugin::instance::stop::Timekeeper;
use crate::plugin::module::compile::{Artifact, CompileService};
use crate::plugin::module::folder;
use crate::plugin::module::note::Note;
use crate::plugin::module::versions::Versions;
use crate::plugin::shadow::{MAX_SHADOWS, Shadow, ShadowOutcome, ShadowReport};
use crate::plugin::trace::record::PostMortem;
use crate::plugin::{Generation, ModuleHash, Refusal};
use crate::process::line::Line;
use crate::process::world::World;

/// The largest number of parallel compilations. If one compilation is very slow, another can run.
const MAX_COMPILING: usize = 2;

/// The largest number of parallel preparations. Most preparations take a millisecond, but a program
/// whose `init` does not return uses its whole budget.
const MAX_PREPARING: usize = 4;

/// The largest number of shadow runs of one version. A shadow run is repeated if the machine was
/// too busy to compare the new version with the running version.
const MAX_ATTEMPTS: usize = 3;

/// The code of a module, if it is in memory. An artifact may be much larger than the bytes, so the
/// artifact is dropped from memory as soon as the cache has stored it.
#[derive(Debug, Clone)]
pub(in crate::daemon) enum Module {
    /// The bytes, as read from the folder.
    Bytes(Arc<[u8]>),
    /// The bytes, and the artifact that was compiled from them.
    Compiled(Arc<[u8]>, Artifact),
    /// No bytes in memory, because the module was refused or has not run since the start. The
    /// loader reads the bytes from the first of these places that has the bytes.
    Away(Vec<ModuleSource>),
}

/// A place where the bytes of a module may be stored.
#[derive(Debug, Clone)]
pub(in crate::daemon) enum ModuleSource {
    /// The stored versions of the plugin with this name.
    Kept(Versions, String),
    /// The file with this path.
    File(PathBuf),
}

impl Module {
    /// Returns the bytes of the module, if they are in memory.
    pub(in crate::daemon) fn bytes(&self) -> Option<Arc<[u8]>> {
        match self {
            Self::Bytes(bytes) | Self::Compiled(bytes, _) => Some(Arc::clone(bytes)),
            Self::Away(_) => None,
        }
    }

    /// Drops the artifact if the cache has stored it.
    pub(in crate::daemon) fn lighten(&mut self) {
        if let Self::Compiled(bytes, artifact) = self
            && artifact.is_stored()
        {
            *self = Self::Bytes(Arc::clone(bytes));
        }
    }
}

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

/// The result of a preparation.
#[derive(Debug)]
pub(in crate::daemon) struct Loaded {
    pub(in crate::daemon) name: Arc<str>,
    pub(in crate::daemon) hash: ModuleHash,
    pub(in crate::daemon) generation: Generation,
    pub(in crate::daemon) result: Result<Prepared, Refusal>,
    /// The log lines that the guest wrote during the preparation.
    pub(in crate::daemon) lines: Vec<Line>,
    /// The report data of a guest that trapped in its `init`.
    pub(in crate::daemon) post_mortem: Option<Box<PostMortem>>,
    /// The report of the shadow run, if there was one.
    pub(in crate::daemon) shadow: Option<ShadowReport>,
    /// Warnings about unusual properties of the module.
    pub(in crate::daemon) notes: Vec<Note>,
    /// The module with its artifact, for the next preparation; `None` if it was not compiled.
    pub(in crate::daemon) module: Option<Module>,
    /// Whether the artifact came from the cache.
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
    /// The permits for [`MAX_COMPILING`], [`MAX_PREPARING`] and [`MAX_SHADOWS`] parallel tasks.
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

    /// Prepares a program in a separate task; the result is an [`Event::Loaded`]. If `is_tried` is
    /// true, the program first polls in the shadow of the running version.
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

    /// Reports that a module from this user was refused before its file was in the folder.
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

    /// Does the work of one preparation: compiles, prepares, and makes the shadow run.
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

    /// Lets an extra instance poll in the shadow of the running version.
    async fn attempt(
        &self,
        request: NewProgram,
        artifact: Artifact,
        world: Box<World>,
    ) -> ShadowOutcome {
        let _permit = self.trying.acquire().await;
        // The task owns `wanted`. The shadow run ends when the task has ended and dropped `wanted`.
        let wanted = Arc::new(());
        let (loader, wants) = (self.clone(), Arc::downgrade(&wanted));
        let work = move || {
            let once = || loader.attempt_once(request.clone(), &artifact, world.twin(), &wants);
            let is_over = |outcome: &ShadowOutcome| !outcome.is_unproved;
            let last = MAX_ATTEMPTS - 1;
            (0..last).map(|_| once()).find(is_over).unwrap_or_else(once)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
            let refusal = Refusal::new("its shadow run panicked", "please report this module");
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
                fetch(places, self.compile_service.limits.module_bytes, hash).await?
            }
        };
        // A module that is in the cache need not wait for a permit to compile.
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
            result: Err(Refusal::new("its preparation panicked", "please report this module")),
            lines: Vec::new(),
            post_mortem: None,
        })
    }
}

/// Reads a module from the first of these places that has its bytes.
async fn fetch(
    places: Vec<ModuleSource>,
    most: u64,
    hash: ModuleHash,
) -> Result<Arc<[u8]>, Refusal> {
    let nowhere = Refusal::new("its bytes are not stored any more", "deploy its file again");
    let mut refusal = nowhere.of_lost_bytes();
    for place in places {
        let found = match place {
            ModuleSource::Kept(versions, name) => read_kept(versions, name, hash).await,
            ModuleSource::File(path) => reread(path, most, hash).await,
        };
        match found {
            Ok(bytes) => return Ok(bytes),
            // The bytes are lost only if every place has lost them. A place that does not answer
            // now may still have the bytes.
            Err(why) => refusal = Refusal { is_lost: refusal.is_lost && why.is_lost, ..why },
        }
    }
    Err(refusal)
}

/// Reads the file of a module again. If the file has other bytes now, it is another module, which
/// the watch of the folder reports separately.
async fn reread(path: PathBuf, most: u64, hash: ModuleHash) -> Result<Arc<[u8]>, Refusal> {
    let name = path.display().to_string();
    match in_time(&READING, move || folder::reread(&path, most)).await {
        Ok(bytes) if ModuleHash::of(&bytes) == hash => Ok(bytes.into()),
        Ok(_) => {
            let reason = format!("{name} has other bytes now");
            Err(Refusal::new(reason, "the new bytes are loaded next").of_lost_bytes())
        }
        Err(error) => {
            Err(unread(Refusal::new(format!("{name}: {error}"), "copy the file again"), &error))
        }
    }
}

/// Reads a stored version within a time limit, because the disk may not answer.
async fn read_kept(
    versions: Versions,
    name: String,
    hash: ModuleHash,
) -> Result<Arc<[u8]>, Refusal> {
    match in_time(&STATE, move || versions.read(&name, hash)).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => {
            let reason = format!("the kept version {hash} cannot be read: {error}");
            let refusal = Refusal::new(reason, "deploy its file again");
            // An earlier daemon that ran as another user may have stored the version. This daemon
            // can never read such a version.
            Err(match error.kind() {
                io::ErrorKind::PermissionDenied => refusal.of_lost_bytes(),
                _ => unread(refusal, &error),
            })
        }
    }
}

/// Records in the refusal whether the bytes are lost, or only cannot be read at present.
fn unread(refusal: Refusal, error: &io::Error) -> Refusal {
    use io::ErrorKind::{FileTooLarge, InvalidData, NotFound};
    match error.kind() {
        NotFound | InvalidData | FileTooLarge => refusal.of_lost_bytes(),
        _ => refusal.by_accident(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_lost_and_what_is_late_is_not() {
        let is_lost = |error: io::Error| unread(Refusal::new("", ""), &error).is_lost;
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData];
        assert!(kinds.iter().all(|kind| is_lost((*kind).into())));
        let dir = tempfile::tempdir().unwrap();
        let (versions, hash) = (Versions::new(dir.path().into()), ModuleHash::of(b"it"));
        versions.store("tank", b"it", |_, _| Some(0)).unwrap();
        let kept = std::fs::read_dir(dir.path().join("tank")).unwrap().next().unwrap().unwrap();
        let file = std::fs::File::options().write(true).open(kept.path()).unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(is_lost(versions.read("tank", hash).unwrap_err()), "the stored file is too long");
        assert!(!is_lost(crate::patience::late("no answer")));
        assert!(!is_lost(io::Error::from_raw_os_error(nix::libc::EMFILE)));
    }

    /// A defect of the past: the file had new bytes, and the loader did not search the stored
    /// versions for the old bytes. The test also checks that the loader reads the file if the
    /// stored version is damaged.
    #[tokio::test]
    async fn a_module_is_read_from_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (versions, hash) = (Versions::new(dir.path().join("versions")), ModuleHash::of(b"it"));
        let file = dir.path().join("tank.wasm");
        let places =
            [ModuleSource::Kept(versions.clone(), "tank".into()), ModuleSource::File(file.clone())];
        let found = async |places: &[ModuleSource]| {
            let found = fetch(places.to_vec(), 100, hash).await;
            found.map(|bytes| bytes.to_vec()).map_err(|refusal| {
                assert!(refusal.is_accidental && refusal.is_lost, "{refusal}");
                refusal.reason
            })
        };
        std::fs::write(&file, "other").unwrap();
        let why = found(&places).await.unwrap_err();
        assert!(why.ends_with("has other bytes now"), "{why}");
        versions.store("tank", b"it", |_, _| Some(0)).unwrap();
        assert_eq!(found(&places).await.unwrap(), b"it");
        for kept in std::fs::read_dir(dir.path().join("versions/tank")).unwrap() {
            std::fs::write(kept.unwrap().path(), "damaged").unwrap();
        }
        let why = found(&places[..1]).await.unwrap_err();
        assert!(why.ends_with("is damaged"), "{why}");
        std::fs::write(&file, "it").unwrap();
        assert_eq!(found(&places).await.unwrap(), b"it");
        assert_eq!(found(&[]).await.unwrap_err(), "its bytes are not stored any more");
        // The folder of stored versions cannot be read now, but it may have the module.
        std::fs::remove_dir_all(dir.path().join("versions")).unwrap();
        std::fs::write(dir.path().join("versions"), "in the way").unwrap();
        std::fs::remove_file(&file).unwrap();
        let refusal = fetch(places.to_vec(), 100, hash).await.unwrap_err();
        assert!(refusal.is_accidental && !refusal.is_lost, "{refusal}");
    }
}
