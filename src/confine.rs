//! Bounds that a process sets for itself before it reads bytes from outside.
//!
//! Two kinds of processes set these bounds, and both run this same program. The compile worker is a
//! child process of the daemon; it needs only what it was given (`plugin/module/compile.rs`). The
//! offline verbs of the command line read files and start a compile worker (`cli/offline.rs`).
//! [`confine`] applies the bounds in steps, and each step limits a possible damage. If the system
//! lacks one step, the process does its work all the same, the other steps still hold, and the
//! caller learns which step is missing. [`Death`] says how a confined process ended.
//!
//! Two things are not bounded here. The parent process watches the wall-clock time, and each reader
//! of a file bounds for itself the number of bytes that it reads.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::Signal;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// The kind of memory that is bounded, with its bound in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Memory {
    /// All addresses, reserved or used. This is the strictest bound; it suits a process that
    /// reserves few addresses.
    Addresses(u64),
    /// Memory that can be written and belongs to the process alone. Each linear memory of a guest
    /// reserves 8 GiB of addresses; reserved addresses do not count here until they are made
    /// writable.
    Writable(u64),
}

/// What a process may still reach outside of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The process may read files and start programs. It may write only files that it has open, and
    /// may not use TCP.
    Read,
    /// The process may only use the files that it has open: no other file, no socket, no other
    /// process.
    Nothing,
}

/// The bounds of a process.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// CPU time of all threads of the process. When it is used up, the kernel sends SIGXCPU, and
    /// SIGKILL a second later.
    pub cpu: Duration,
    /// Memory of the process. The kernel refuses a request for more.
    pub memory: Memory,
    /// What the process may still reach.
    pub reach: Reach,
}

impl Bounds {
    /// These bounds, or those that this process inherited (`ulimit`), whichever are stricter.
    pub fn or_inherited(self) -> Self {
        // If `getrlimit` fails, no stricter limit is known.
        let inherited = |resource| getrlimit(resource).map_or(rlim_t::MAX, |(soft, _)| soft);
        let memory = match self.memory {
            Memory::Addresses(bytes) => {
                Memory::Addresses(bytes.min(inherited(Resource::RLIMIT_AS)))
            }
            Memory::Writable(bytes) => {
                Memory::Writable(bytes.min(inherited(Resource::RLIMIT_DATA)))
            }
        };
        let cpu = Duration::from_secs(inherited(Resource::RLIMIT_CPU)).min(self.cpu);
        Self { cpu, memory, ..self }
    }
}

/// The bytes of addresses that this process may use; `None` if the system does not limit them.
pub fn address_limit() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_AS).ok()?;
    (soft != nix::sys::resource::RLIM_INFINITY).then_some(soft)
}

/// Most open files of a process with [`Reach::Nothing`]: its three pipes, and a few files that the
/// C library opens for a moment if no other bound forbids that.
const MAX_FILES: rlim_t = 8;

/// The newest version of landlock whose rules are used. An older kernel applies those rules that it
/// knows.
const LANDLOCK: ABI = ABI::V7;

/// Applies the bounds to this process, for good. Returns a text for each bound that the system does
/// not have.
///
/// The caller calls this function before the process has a second thread, because landlock and
/// seccomp apply only to the calling thread and to threads that it starts later.
pub fn confine(bounds: &Bounds) -> Vec<String> {
    let Bounds { cpu, memory, reach } = *bounds;
    let mut missing = Vec::new();
    let mut step = |name: &str, result: Result<(), String>| {
        missing.extend(result.err().map(|why| format!("{name}: {why}")));
    };
    let seconds = cpu.as_secs().max(1);
    step("the limit of CPU time", limit(Resource::RLIMIT_CPU, seconds, seconds + 1));
    step(
        "the limit of memory",
        match memory {
            Memory::Addresses(bytes) => limit(Resource::RLIMIT_AS, bytes, bytes),
            Memory::Writable(bytes) => limit(Resource::RLIMIT_DATA, bytes, bytes),
        },
    );
    step("no core dump", limit(Resource::RLIMIT_CORE, 0, 0));
    // The process ends with its parent, and before its parent if memory runs out.
    step("the end with its parent", text(prctl::set_pdeathsig(Signal::SIGKILL)));
    // This step comes before "not dumpable", because the files in `/proc/self` of a process that is
    // not dumpable belong to root.
    step(
        "first choice when memory runs out",
        text(std::fs::write("/proc/self/oom_score_adj", "1000")),
    );
    step("no new privileges", text(prctl::set_no_new_privs()));
    if reach == Reach::Nothing {
        step("no file larger than 0", limit(Resource::RLIMIT_FSIZE, 0, 0));
        step("the limit of open files", limit(Resource::RLIMIT_NOFILE, MAX_FILES, MAX_FILES));
        // No other process of the same user can attach to it and use its open files.
        step("not dumpable", text(prctl::set_dumpable(false)));
    }
    step("landlock", fence(reach));
    if reach == Reach::Nothing {
        step("seccomp", forbid_calls());
    }
    missing
}

/// Forbids new threads and new processes to this process; running ones go on. The kernel does not
/// apply this limit to root. For a process of root, only [`Reach::Nothing`] rules out new
/// processes.
///
/// # Errors
/// The system refuses; the text is its reason.
pub fn forbid_threads() -> Result<(), String> {
    limit(Resource::RLIMIT_NPROC, 0, 0)
}

/// Sets a limit, unless the inherited one is stricter.
fn limit(resource: Resource, soft: rlim_t, hard: rlim_t) -> Result<(), String> {
    let (_, most) = getrlimit(resource).map_err(|error| error.to_string())?;
    text(setrlimit(resource, soft.min(most), hard.min(most)))
}

fn text<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

/// Applies landlock without any exception: each kind of access that the ruleset handles is
/// forbidden.
fn fence(reach: Reach) -> Result<(), String> {
    let files = match reach {
        Reach::Read => AccessFs::from_write(LANDLOCK),
        Reach::Nothing => AccessFs::from_all(LANDLOCK),
    };
    let enforced = (|| {
        Ruleset::default()
            .handle_access(files)?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()
    })();
    match enforced.map_err(|error: landlock::RulesetError| error.to_string())?.ruleset {
        // An older kernel lacks some of these rules. For the compile worker, seccomp forbids those
        // accesses too.
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => {
            Err("this kernel does not have it, or a filter of system calls refuses it".into())
        }
    }
}

/// The system call `fchmodat2` of Linux 6.6, which the library does not name for every CPU. It has
/// the same number on all CPUs.
const FCHMODAT2: libc::c_long = 452;

/// System calls that a process with [`Reach::Nothing`] does not need. These calls open and change
/// files, make sockets and processes, act on other processes, or have had many defects in the
/// kernel. Landlock alone would leave many of these actions open. It covers TCP, but neither UDP
/// nor sockets with a path. It does not cover changes of file modes and, before Linux 6.2,
/// truncation of files.
const FORBIDDEN: &[libc::c_long] = &[
    // Files.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_truncate,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    // Sockets.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_sendmsg,
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // Other processes.
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_ioprio_set,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// Applies seccomp: each call in [`FORBIDDEN`] fails with EPERM.
fn forbid_calls() -> Result<(), String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        FORBIDDEN.iter().map(|&call| (call, Vec::new())).collect();
    let own = std::process::id();
    for (call, argument, operator, value) in [
        // The process needs threads, but no other processes.
        (libc::SYS_clone, 0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0),
        // A process that aborts sends itself a signal, so `tgkill` to itself is allowed. With
        // `prlimit64` a process may change its own limits, but not those of other processes.
        (libc::SYS_tgkill, 0, SeccompCmpOp::Ne, own.into()),
        (libc::SYS_prlimit64, 0, SeccompCmpOp::Ne, 0),
    ] {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
        rules.insert(call, vec![rule.map_err(|error| error.to_string())?]);
    }
    apply(rules, libc::EPERM)?;
    // The flags of `clone3` are in memory, where no filter sees them. If `clone3` fails with
    // ENOSYS, the C library uses `clone` instead.
    apply(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

/// Applies a filter under which the calls in `rules` fail with `errno`; all others are allowed.
fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<(), String> {
    let forbidden = SeccompAction::Errno(errno.unsigned_abs());
    let filter = std::env::consts::ARCH
        .try_into()
        .and_then(|arch| SeccompFilter::new(rules, SeccompAction::Allow, forbidden, arch))
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&filter).map_err(|error| error.to_string())
}

/// Tests what a process with [`Reach::Nothing`] can still do. The list has a text for each test
/// that succeeded.
pub fn escapes() -> Vec<String> {
    let tried = [
        ("it can open files", std::fs::File::open("/").is_ok()),
        ("it can make sockets", std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("it can start programs", std::process::Command::new("/bin/true").spawn().is_ok()),
    ];
    tried.iter().filter(|(_, works)| *works).map(|(what, _)| what.to_string()).collect()
}

/// The reason why a confined process ended without doing its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Death {
    /// The process used up its CPU time.
    OutOfTime,
    /// The process asked for more memory than it may have.
    OutOfMemory,
    /// A signal from outside ended the process: from a user, or from the kernel because the machine
    /// had no memory left.
    Killed,
    /// Any other reason.
    Other,
}

impl Death {
    /// The reason, from the exit status and from the first line that the process wrote to standard
    /// error.
    pub fn of(status: ExitStatus, words: &str) -> Self {
        match status.signal().map(Signal::try_from) {
            Some(Ok(Signal::SIGXCPU)) => Self::OutOfTime,
            _ if is_out_of_memory(words) => Self::OutOfMemory,
            Some(Ok(Signal::SIGKILL | Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP)) => {
                Self::Killed
            }
            _ => Self::Other,
        }
    }
}

/// Whether this line, written by a process of this program, says that memory ran out.
pub fn is_out_of_memory(line: &str) -> bool {
    line.starts_with("memory allocation of")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_told_by_its_signal_and_its_last_words() {
        fn check(signal: i32, words: &str, expected: Death) {
            assert_eq!(
                Death::of(ExitStatus::from_raw(signal), words),
                expected,
                "{signal} {words}"
            );
        }
        let words = "memory allocation of 8 bytes failed";
        check(Signal::SIGXCPU as i32, "", Death::OutOfTime);
        check(Signal::SIGABRT as i32, words, Death::OutOfMemory);
        check(Signal::SIGABRT as i32, "thread 'main' has overflowed its stack", Death::Other);
        check(Signal::SIGKILL as i32, "", Death::Killed);
        check(Signal::SIGSEGV as i32, "", Death::Other);
        check(1 << 8, "", Death::Other);
    }

    #[test]
    fn a_process_that_is_not_confined_can_do_all_that_is_tried() {
        assert_eq!(escapes().len(), 3, "{:?}", escapes());
    }

    #[test]
    fn bounds_are_as_they_were_where_nothing_stricter_was_inherited() {
        let bounds = Bounds {
            cpu: Duration::from_secs(1),
            memory: Memory::Writable(1 << 20),
            reach: Reach::Read,
        };
        let kept = bounds.or_inherited();
        assert_eq!(kept.cpu, bounds.cpu);
        assert!(matches!(kept.memory, Memory::Writable(bytes) if bytes == 1 << 20));
    }
}
