//! The compile service: makes an artifact from a module, in a child process with limits.
//!
//! A hostile module is dangerous for the process that parses or compiles it: a valid file of a few
//! megabytes can cost gigabytes and minutes. So the daemon starts its own executable file again
//! with a hidden verb, as the compile worker. The daemon sends the module to this child process,
//! and receives an artifact or a refusal. The daemon reads only the module's first bytes.
//!
//! `check.rs` has the rules for a good module. `compile/artifact.rs` and `cache.rs` store
//! artifacts. `compile/worker.rs` starts the child process; `compile/confined.rs` confines it.

use std::io::{self, Read, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmer::sys::{CompilerConfig, Cranelift, EngineBuilder, Features, Singlepass};

mod artifact;
mod confined;
mod worker;

pub use artifact::Artifact;
use worker::Worker;

use super::cache::Cache;
use super::check::{self, ModuleReport};
use super::flag::StopFlag;
use super::{malformed, routine};
use crate::confine::Death;
use crate::plugin::{Compiler, Limits, ModuleHash, Refusal};

/// The hidden verb of the command line. With this verb, the executable runs as a compile worker.
pub const WORKER_VERB: &str = "compile-worker";

/// Longest time of one compilation by the wall clock. The limit is far above the limit of the CPU
/// time, because the worker has the lowest priority and may wait for the CPU.
const MAX_WALL: Duration = Duration::from_secs(120);

/// Most bytes of the answer without its artifact. The answer contains the names of the module's
/// imports. This limit is enough for 20 000 names of 200 bytes each.
const MAX_ANSWER: u64 = 4 << 20;

/// The job for the worker. The worker reads the job, and then the module, from standard input.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Job {
    compiler: Compiler,
    limits: Limits,
    wanted: Wanted,
}

/// The kind of answer that the job requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Wanted {
    /// A report about the module. The module is not compiled.
    Report,
    /// The artifact: the module is compiled.
    Artifact,
    /// A list of the harmful actions that the worker can still do. This job has no module.
    Confinement,
}

/// The worker's answer. The worker writes the answer, and then the artifact, to standard output.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// The report about a good module, and the length of its artifact in bytes (0: no artifact).
    Done(ModuleReport, usize),
    /// The module is refused.
    Refused(Refusal),
    /// The rights that the worker still has, because the system could not remove them.
    Open(Vec<String>),
}

/// The compile service: reads an artifact from the cache, or makes it in a child process.
#[derive(Debug, Clone)]
pub struct CompileService {
    /// The path of the executable that runs as the worker: the daemon's own executable.
    pub program: PathBuf,
    /// The compiler that the worker uses.
    pub compiler: Compiler,
    /// The limits of a module.
    pub limits: Limits,
    /// The cache of artifacts. Without a cache, the module is compiled at each start of a plugin.
    pub cache: Option<Cache>,
}

impl CompileService {
    /// Returns the artifact of a module, from the cache or freshly compiled.
    ///
    /// # Errors
    /// A refusal: the module is bad, its compilation exceeded a limit, or the machine failed.
    pub async fn artifact(&self, hash: ModuleHash, module: Arc<[u8]>) -> Result<Artifact, Refusal> {
        // Another compilation of the same module may have stored the artifact in the cache before.
        if let Some(found) = self.cached(hash, module.len()).await {
            return Ok(found);
        }
        let key = super::cache::key(hash, self.compiler, &self.limits);
        let (report, bytes) = self.work(&module, Wanted::Artifact).await?;
        let artifact = Artifact::new(bytes, report.notes);
        if let Some(cache) = self.cache.clone() {
            artifact.store(cache, key);
        }
        Ok(artifact)
    }

    /// Returns the artifact of a module, and blocks the caller until the artifact is ready. The
    /// work runs on another thread, so the call is also allowed inside an asynchronous runtime.
    ///
    /// # Errors
    /// The errors of [`CompileService::artifact`], and: the system cannot start a runtime.
    pub fn artifact_now(&self, hash: ModuleHash, module: Vec<u8>) -> anyhow::Result<Artifact> {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(self.artifact(hash, module.into()))?)
        };
        std::thread::scope(|scope| {
            scope.spawn(work).join().expect("no code of the compile service panics")
        })
    }

    /// Returns a report about a module. Does not compile the module.
    ///
    /// # Errors
    /// The errors of [`CompileService::artifact`].
    pub async fn check(&self, module: &[u8]) -> Result<ModuleReport, Refusal> {
        Ok(self.work(module, Wanted::Report).await?.0)
    }

    /// Lists the harmful actions that are possible for a module that takes over the worker. The
    /// list omits two actions that are always possible: to use up the worker's limits, and to
    /// return a false artifact. The list is empty if the system supports all limits of the worker.
    /// If the worker does not answer, the list has one entry with the reason.
    pub async fn confinement(&self) -> Vec<String> {
        let job = self.job(Wanted::Confinement);
        let answer = match tokio::time::timeout(MAX_WALL, self.exchange(job, &[])).await {
            Ok(Ok((_, output, _))) => output,
            Ok(Err(error)) => return vec![format!("not tested: the worker did not run: {error}")],
            Err(_) => return vec![format!("not tested: no answer within {MAX_WALL:?}")],
        };
        match serde_json::from_slice(&answer) {
            Ok(Answer::Open(found)) => found,
            _ => vec!["not tested: the worker gave no valid answer".into()],
        }
    }

    fn job(&self, wanted: Wanted) -> Job {
        Job { compiler: self.compiler, limits: self.limits, wanted }
    }

    /// Runs a worker. If the machine and not the module causes a failure, runs another worker after
    /// a pause. Runs at most [`MAX_ATTEMPTS`] workers.
    async fn work(
        &self,
        module: &[u8],
        wanted: Wanted,
    ) -> Result<(ModuleReport, Vec<u8>), Refusal> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..MAX_ATTEMPTS {
            match self.attempt(module, wanted).await {
                Err(Failed::ByAccident(_)) => tokio::time::sleep(pause).await,
                Err(Failed::ByFault(refusal)) => return Err(refusal),
                Ok(done) => return Ok(done),
            }
            pause *= 2;
        }
        self.attempt(module, wanted).await.map_err(|failed| match failed {
            Failed::ByAccident(refusal) | Failed::ByFault(refusal) => refusal,
        })
    }

    /// Runs one worker with a time limit, and finds the cause of a failure.
    async fn attempt(
        &self,
        module: &[u8],
        wanted: Wanted,
    ) -> Result<(ModuleReport, Vec<u8>), Failed> {
        let limit = self.limits.module_bytes;
        if module.len() as u64 > limit {
            return Err(Failed::ByFault(Refusal::new(
                format!("it has {} bytes", module.len()),
                format!("the limit is {limit} (plugins.module in the configuration)"),
            )));
        }
        let exchange = self.exchange(self.job(wanted), module);
        let exchange = tokio::time::timeout(MAX_WALL, exchange).await;
        let (status, output, complaint) = match exchange {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                let reason = format!("the compile worker did not run: {error}");
                return Err(Failed::ByAccident(Refusal::new(reason, ONCE_MORE).by_accident()));
            }
            // The worker's CPU time is limited far below this time, so other processes had the CPU.
            // The module is not at fault.
            Err(_) => {
                let reason = format!("its compilation did not end within {MAX_WALL:?}");
                return Err(Failed::ByAccident(Refusal::new(reason, ONCE_MORE).by_accident()));
            }
        };
        match parse(&output) {
            Some(Ok(done)) => Ok(done),
            Some(Err(refusal)) => Err(Failed::ByFault(refusal)),
            None => Err(died(status, &complaint)),
        }
    }

    /// Runs one worker. If the returned future is dropped, the worker is killed.
    async fn exchange(
        &self,
        job: Job,
        module: &[u8],
    ) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let Worker { mut child, parent: _parent } = Worker::start(&self.program).await?;
        let mut head = serde_json::to_vec(&job).expect("JSON can represent every job");
        head.push(b'\n');
        let mut stdin = child.stdin.take().expect("the worker was started with this pipe");
        let stdout = child.stdout.take().expect("the worker was started with this pipe");
        let stderr = child.stderr.take().expect("the worker was started with this pipe");
        let send = async {
            stdin.write_all(&head).await?;
            stdin.write_all(module).await?;
            drop(stdin);
            io::Result::Ok(())
        };
        let mut output = Vec::new();
        let mut complaint = Vec::new();
        let most = artifact::most_bytes(module.len(), self.limits.functions);
        let mut answer = stdout.take(MAX_ANSWER + most);
        let mut words = stderr.take(MAX_COMPLAINT);
        // A worker that refuses the module early closes its standard input, so a write to this pipe
        // fails. This error is ignored, because the worker also sends an answer.
        let (_, read, _) =
            tokio::join!(send, answer.read_to_end(&mut output), words.read_to_end(&mut complaint));
        read?;
        Ok((child.wait().await?, output, complaint))
    }
}

/// Most bytes that are read from a worker's standard error. The refusal shows one line of them.
const MAX_COMPLAINT: u64 = 4096;

/// Most attempts at a compilation, if the machine causes the failure of each attempt.
const MAX_ATTEMPTS: u32 = 6;

/// The first pause; each further pause is twice as long. All pauses together take 3.1 s.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The remedy in a refusal whose cause is the machine and not the module.
const ONCE_MORE: &str = "the cause is the machine, not the module; the next attempt may succeed";

/// The reason why an attempt gave no report and no artifact.
#[derive(Debug)]
enum Failed {
    /// The module has caused the failure, so another attempt would fail too.
    ByFault(Refusal),
    /// The machine has caused the failure, and another attempt may succeed.
    ByAccident(Refusal),
}

/// Divides the worker's output into answer and artifact. Returns `None` if the output is invalid,
/// or incomplete because the worker was killed while it wrote.
fn parse(output: &[u8]) -> Option<Result<(ModuleReport, Vec<u8>), Refusal>> {
    let end = output.iter().position(|&byte| byte == b'\n')?;
    match serde_json::from_slice(&output[..end]).ok()? {
        Answer::Done(report, len) => {
            let artifact = &output[end + 1..];
            (artifact.len() == len).then(|| Ok((report, artifact.to_vec())))
        }
        Answer::Refused(refusal) => Some(Err(refusal)),
        // The worker gives this answer only to a job without a module, so it is never valid here.
        Answer::Open(_) => None,
    }
}

/// Makes the refusal for a module whose compilation took too much CPU time or memory.
fn too_dear(what: &str, limit: &str) -> Refusal {
    Refusal::new(
        format!("its compilation {what}"),
        format!(
            "the {limit} of the compile worker is limited; make the module smaller, split its \
             largest functions, or try compiler = \"singlepass\""
        ),
    )
}

/// Classifies the failure of a worker that has ended without a complete answer.
fn died(status: ExitStatus, complaint: &[u8]) -> Failed {
    let complaint = String::from_utf8_lossy(complaint);
    let words = complaint.lines().find(|line| !line.is_empty()).unwrap_or_default();
    match Death::of(status, words) {
        Death::OutOfTime => Failed::ByFault(too_dear("used up the allowed CPU time", "time")),
        Death::OutOfMemory => Failed::ByFault(match confined::inherited_memory() {
            None => too_dear("ran out of memory", "memory"),
            Some(bytes) => Refusal::new(
                format!(
                    "its compilation ran out of memory: this process and the compile worker may \
                     use {} MiB of addresses (RLIMIT_AS)",
                    bytes >> 20
                ),
                "remove `LimitAS=` from the systemd unit, or `ulimit -v` from the shell",
            ),
        }),
        // A process from outside has killed the worker, so the module may be good.
        Death::Killed => {
            let reason = format!("its compilation was killed {MAX_ATTEMPTS} times");
            Failed::ByAccident(Refusal::new(reason, ONCE_MORE).by_accident())
        }
        Death::Other => Failed::ByFault(Refusal::new(
            format!("its compilation failed ({status}): {words}"),
            "make the module smaller or build it with another toolchain",
        )),
    }
}

/// Runs a compile worker: reads one job from standard input, writes one answer to standard output.
pub fn worker() -> ExitCode {
    let missing = confined::confine();
    let mut input = Vec::new();
    if io::stdin().lock().read_to_end(&mut input).is_err() {
        return ExitCode::FAILURE;
    }
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
        return ExitCode::FAILURE;
    };
    let Ok(job) = serde_json::from_slice::<Job>(&input[..end]) else {
        return ExitCode::FAILURE;
    };
    let (answer, artifact) = match work(job, &input[end + 1..]) {
        _ if job.wanted == Wanted::Confinement => {
            (Answer::Open(confined::still_open(missing)), Vec::new())
        }
        Ok((report, artifact)) => (Answer::Done(report, artifact.len()), artifact),
        Err(refusal) => (Answer::Refused(refusal), Vec::new()),
    };
    let mut head = serde_json::to_vec(&answer).expect("JSON can represent every answer");
    head.push(b'\n');
    let mut out = io::stdout().lock();
    match out.write_all(&head).and_then(|()| out.write_all(&artifact)).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Checks the module in the worker and, if the job requests an artifact, compiles the module.
fn work(job: Job, module: &[u8]) -> Result<(ModuleReport, Vec<u8>), Refusal> {
    let report = check::check(module, &job.limits, job.compiler)?;
    if job.wanted == Wanted::Report {
        return Ok((report, Vec::new()));
    }
    let artifact = compile(job.compiler, module)?;
    artifact::check(module.len(), report.functions, artifact.len())?;
    Ok((report, artifact))
}

/// Compiles a valid module, together with the host's added code.
fn compile(compiler: Compiler, module: &[u8]) -> Result<Vec<u8>, Refusal> {
    confined::keep_to_this_thread();
    let one = NonZero::<usize>::MIN;
    let extended = routine::extend(module).map_err(|error| malformed(&error))?;
    let stop_flag = Arc::new(StopFlag::new(&extended));
    let builder = match compiler {
        Compiler::Cranelift => {
            let mut config = Cranelift::new();
            config.num_threads(one);
            config.push_middleware(stop_flag);
            config.push_middleware(Arc::new(confined::LastThread));
            EngineBuilder::new(config)
        }
        Compiler::Singlepass => {
            let mut config = Singlepass::new();
            config.num_threads(one);
            config.push_middleware(stop_flag);
            config.push_middleware(Arc::new(confined::LastThread));
            EngineBuilder::new(config)
        }
    };
    let failed = |error: &dyn std::fmt::Display| {
        Refusal::new(
            format!("it does not compile: {error}"),
            "build it with another toolchain or optimisation level",
        )
    };
    let engine: wasmer::Engine = builder.set_features(Some(features())).engine().into();
    let module = wasmer::Module::new(&engine, extended.module).map_err(|error| failed(&error))?;
    Ok(module.serialize().map_err(|error| failed(&error))?.to_vec())
}

/// The WebAssembly proposals that the compiler may compile. `check.rs` allows the same proposals.
fn features() -> Features {
    let mut features = Features::none();
    features
        .bulk_memory(true)
        .reference_types(true)
        .simd(true)
        .multi_value(true)
        .extended_const(true);
    features
}
