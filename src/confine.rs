//! Limits that a process sets for itself before it reads data from outside, such as a plugin file.
//!
//! The limits reduce the damage that hostile data can do, for example data that uses a defect of
//! the compiler. Two kinds of processes set these limits, and both run the executable `camshaft`:
//! - The compile worker is a child process of the daemon or of an offline command. A compile worker
//!   uses only the pipes that its parent process has opened for it (`plugin/module/compile.rs`).
//! - The offline commands of the command line read files and start a compile worker
//!   (`cli/offline.rs`).
//!
//! The function [`confine`] sets the limits in several steps. Each step uses another function of
//! the kernel, such as a resource limit, landlock or seccomp. If the system does not have one of
//! these functions, `confine` does the remaining steps. The caller gets a text that names the
//! missing step. The process then works without the missing limit. After the end of the process,
//! [`Death`] shows how the process ended.
//!
//! This file limits neither the wall-clock time nor the size of a file. The parent process limits
//! the wall-clock time, and the function that reads a file limits the number of bytes.

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

/// The limit of the memory of a process, in bytes, and the kind of memory that it limits.
#[derive(Debug, Clone, Copy)]
pub enum Memory {
    /// Limits all addresses, reserved or used. This limit is the strictest one. It suits a process
    /// that reserves few addresses.
    Addresses(u64),
    /// Limits only memory that is writable and private to the process. A process that runs guests
    /// needs this kind, because each linear memory of a guest reserves 8 GiB of addresses. This
    /// limit does not include reserved addresses until they become writable.
    Writable(u64),
}

/// The files, sockets and processes that a process may still use after [`confine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The process may read files and start executables. The process may write only to files that
    /// are already open. The process may not use TCP. To processes that it has not started, it may
    /// not send signals or connect through abstract sockets.
    Read,
    /// The process may use only files that are already open. The process may not open files, create
    /// sockets, or start or change other processes.
    Nothing,
}

/// The limits of a process.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The CPU time of all threads of the process together, in whole seconds; [`confine`] rounds
    /// down, to at least one second. When this time is used up, the kernel sends SIGXCPU, and one
    /// second later SIGKILL.
    pub cpu: Duration,
    /// The memory of the process. The kernel refuses a request for more memory.
    pub memory: Memory,
    /// The files, sockets and processes that the process may still use.
    pub reach: Reach,
}

impl Bounds {
    /// Compares the limits of CPU time and memory with the limits that the process inherited
    /// (`ulimit`). Returns the stricter limit of each pair; `reach` does not change.
    pub fn or_inherited(self) -> Self {
        // If `getrlimit` fails, the inherited limit is unknown and is ignored.
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

/// Returns the number of bytes of addresses that this process may use; `None` if the system does
/// not limit this number.
pub fn address_limit() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_AS).ok()?;
    (soft != nix::sys::resource::RLIM_INFINITY).then_some(soft)
}

/// The maximum number of open files of a process with [`Reach::Nothing`]. The process needs its
/// three pipes. On a system without landlock and seccomp, the C library may also open a few files
/// for a moment.
const MAX_FILES: rlim_t = 8;

/// The version of landlock that defines the rules used here. A kernel with an older version of
/// landlock applies only those rules that its own version has.
const LANDLOCK: ABI = ABI::V7;

/// Sets the limits for this process; the process cannot remove them later. Returns one text for
/// each limit that could not be set.
///
/// The caller must call this function while the process has only one thread. The reason is that
/// landlock and seccomp apply only to the calling thread and to threads that this thread starts
/// later.
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
    step("the limit of core dumps (0 bytes)", limit(Resource::RLIMIT_CORE, 0, 0));
    // With this step, the kernel kills this process when the parent process ends. With the next
    // step, the kernel kills this process before other processes when the machine has no free
    // memory.
    step(
        "the kill of the worker when the daemon ends",
        text(prctl::set_pdeathsig(Signal::SIGKILL)),
    );
    // This step must come before "the protection from other processes". That step makes the process
    // not dumpable: its files in `/proc/self` then belong to root, so the process itself could no
    // longer write to these files.
    step(
        "the kill of the worker before other processes when the machine has no free memory",
        text(std::fs::write("/proc/self/oom_score_adj", "1000")),
    );
    step("the ban on new privileges", text(prctl::set_no_new_privs()));
    if reach == Reach::Nothing {
        step("the limit of the file size (0 bytes)", limit(Resource::RLIMIT_FSIZE, 0, 0));
        step("the limit of open files", limit(Resource::RLIMIT_NOFILE, MAX_FILES, MAX_FILES));
        // After this step, other processes of the same user cannot attach to this process and use
        // its open files.
        step(
            "the protection from other processes of the same user",
            text(prctl::set_dumpable(false)),
        );
    }
    step("landlock", fence(reach));
    if reach == Reach::Nothing {
        step("seccomp", forbid_calls());
    }
    missing
}

/// Forbids this process to start new threads and new processes. Running threads and processes
/// continue. The kernel does not apply this limit to root. A process of root needs
/// [`Reach::Nothing`] to forbid new processes.
///
/// # Errors
/// The system does not accept the limit. The error text is the message of the system.
pub fn forbid_threads() -> Result<(), String> {
    limit(Resource::RLIMIT_NPROC, 0, 0)
}

/// Sets a resource limit. If the inherited limit is stricter, the function keeps the inherited
/// limit.
fn limit(resource: Resource, soft: rlim_t, hard: rlim_t) -> Result<(), String> {
    let (_, most) = getrlimit(resource).map_err(|error| error.to_string())?;
    text(setrlimit(resource, soft.min(most), hard.min(most)))
}

fn text<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

/// Applies landlock to this process. The ruleset has no exceptions, so every kind of access in the
/// ruleset is forbidden.
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
        // An older kernel does not support some of these rules. In the compile worker, seccomp also
        // forbids the accesses that these rules would forbid.
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => {
            Err("this kernel does not have landlock, or a filter of system calls refuses \
                 landlock"
                .into())
        }
    }
}

/// The number of the system call `fchmodat2` of Linux 6.6. The library `libc` does not define this
/// number for every CPU, but the number is equal on all CPUs.
const FCHMODAT2: libc::c_long = 452;

/// System calls that a process with [`Reach::Nothing`] does not need. These calls open and change
/// files, create sockets and processes, act on other processes, or use parts of the kernel that
/// have had many defects.
///
/// Many of these calls would still be possible with landlock alone. Landlock covers TCP, but not
/// UDP and not sockets with a path. Landlock does not cover changes of file modes. Before Linux
/// 6.2, landlock does not cover truncation of files.
const FORBIDDEN: &[libc::c_long] = &[
    // System calls that open or change files.
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
    // System calls of sockets.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_sendmsg,
    // System calls that start executables and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // System calls that act on other processes.
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
    // System calls of kernel functions that the process does not need.
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
        // `clone` creates threads and processes. The process needs threads, but no other processes.
        // So `clone` fails only if the flag `CLONE_THREAD` is not set.
        (libc::SYS_clone, 0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0),
        // When a process aborts, it sends a signal to itself with `tgkill`. So `tgkill` is allowed
        // only if the target is this process. With `prlimit64`, the process may change its own
        // limits, but not the limits of other processes.
        (libc::SYS_tgkill, 0, SeccompCmpOp::Ne, own.into()),
        (libc::SYS_prlimit64, 0, SeccompCmpOp::Ne, 0),
    ] {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
        rules.insert(call, vec![rule.map_err(|error| error.to_string())?]);
    }
    apply(rules, libc::EPERM)?;
    // `clone3` passes its flags in memory, and a filter cannot read memory. So the filter makes
    // `clone3` fail with ENOSYS. The C library then uses `clone` instead.
    apply(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

/// Applies a filter to this process. With this filter the calls in `rules` fail with the error
/// `errno`, and all other calls are allowed.
fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<(), String> {
    let forbidden = SeccompAction::Errno(errno.unsigned_abs());
    let filter = std::env::consts::ARCH
        .try_into()
        .and_then(|arch| SeccompFilter::new(rules, SeccompAction::Allow, forbidden, arch))
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&filter).map_err(|error| error.to_string())
}

/// Tries three actions that are forbidden to a process with [`Reach::Nothing`]. Returns a text for
/// each action that was possible. An empty list means that the limits work.
pub fn escapes() -> Vec<String> {
    let tried = [
        ("the worker can open files", std::fs::File::open("/").is_ok()),
        ("the worker can make sockets", std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
        (
            "the worker can start other processes",
            std::process::Command::new("/bin/true").spawn().is_ok(),
        ),
    ];
    tried.iter().filter(|(_, works)| *works).map(|(what, _)| what.to_string()).collect()
}

/// The reason why a process with limits ended before its work was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Death {
    /// The process has used up its CPU time.
    OutOfTime,
    /// The process got no more memory, and reported this on standard error.
    OutOfMemory,
    /// SIGKILL, SIGTERM, SIGINT or SIGHUP has ended the process. The signal came, for example, from
    /// a user, or from the kernel because the machine had no free memory.
    Killed,
    /// Another reason than the three reasons above.
    Other,
}

impl Death {
    /// Finds the reason. `status` is the exit status of the process. `words` is the first line that
    /// the process wrote to standard error.
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

/// Whether this line of standard error reports that the process got no more memory. The line must
/// come from a `camshaft` process.
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
