//! Camshaft: a soft-PLC daemon. Control programs are WebAssembly plugins. A user copies a `.wasm`
//! file into the plugin folder, and the daemon runs this program. If the user replaces the file,
//! the new code takes over between two scan cycles. If a program fails, the other programs continue
//! without a disturbance.
//!
//! > The **scan** runs on one thread. In each cycle the scan reads every device, runs every
//! > program, writes every device and publishes a snapshot. The **supervisor**, in the main loop of
//! > the daemon, decides which programs may run. **The daemon sends orders to the scan through one
//! > bounded queue; the scan returns facts in one snapshot.** The scan thread never waits: other
//! > threads do all work that can wait. All code that uses the clock, the devices and the guests is
//! > behind a small interface: the traits [`clock::Clock`] and [`driver::Driver`], and the type
//! > [`plugin::instance::program::Program`].
//!
//! # Words
//! Each thing has exactly one word in the code, the configuration, the command line and the log.
//!
//! | word | meaning |
//! |---|---|
//! | point | an input or output value with a name, a type and an address in the configuration |
//! | image | the values of all points: the input image and the output image, two byte arrays |
//! | device, driver | a unit in the field, such as a remote I/O; the code for one kind of device |
//! | plugin | a `.wasm` file in the plugin folder, and all data about it; has a name |
//! | module, artifact | the bytes of such a file, named by their hash; the compiled machine code |
//! | instance | a module that was started once: its memory, tables and globals |
//! | program | an instance that has a seat (slot) in the scan, with its settings and rights |
//! | version | a module that has run under a plugin's name and is stored for a rollback |
//! | guest, host | the code of a plugin in its sandbox; the code of Camshaft |
//! | variable | a value with a name and a type; the host owns it, and programs share it |
//! | cycle, overrun | one run of the scan; a cycle that ended after its deadline |
//! | trap, fault, error | failure of a program; failure of a device; failure of a start |
//! | hold, release | the operator stops a program; the operator lets the program run again |
//! | safe | the configured value of an output while no working program owns the output |
//! | swap | the exchange of the running version for a new version, between two cycles |
//! | probation | the time in which a new version must run without a trap |
//! | rollback | the return to the previous version |
//! | quarantine | the list of modules that must not run again under a plugin's name |
//!
//! # Floors
//! The floors are the layers of the code. A module may use only modules of lower floors. Two
//! modules of one floor must not use each other. The test `tests/it/tidy.rs` checks these two
//! rules.
//!
//! | floor | modules | purpose |
//! |---|---|---|
//! | 7 | `main`, [`cli`] | the command line: one short function for each verb |
//! | 6 | [`daemon`] | creates all parts, one loop over one type of event, orderly stop |
//! | 5 | [`control`], [`recipe`], [`crash`] | control API; offline tests; reports of traps |
//! | 4 | [`config`] | reads the configuration file and checks it |
//! | 3 | [`supervisor`] | decides which programs run; a state machine without input or output |
//! | 2 | [`scan`] | the cycle: obey orders, read, run, write, publish; its timing and thread |
//! | 1 | [`driver`], [`plugin`], [`log`] | devices; plugins, from file to poll; output of the log |
//! | 1 | [`retain`] | values that are stored on the disk for the next start |
//! | 0 | [`process`] | the process image: the values that a cycle works on |
//! | -1 | [`clock`], [`latest`], [`systemd`], [`text`] | the base: code without PLC functions |
//! | -1 | [`confine`], [`file`](mod@file), [`journal`], [`patience`] | the base: files and limits |
//! | -1 | [`stamp`], [`state`] | the base: stamps of files; the state directory |
//! | -1 | [`name`], [`logged`] | the base: the rule for names; the state that was logged last |
//! | -2 | [`thread`], [`heap`] | stacks of threads; memory that the C library keeps |
//!
//! # The path of a value
//! This is the path of a value from an input to an output:
//!
//! wire → the thread of the device → a triple buffer → [`driver::Driver::read`] → the input image,
//! with quality and age → [`process::overlay`], which replaces values by forces →
//! [`plugin::instance::program::Program::poll`], which writes into a scratch → commit of the
//! scratch → the output image → [`process::overlay`] again, with the precedence safe, force,
//! program → [`driver::Driver::write`] → a triple buffer, and a wake-up of the device's thread →
//! wire → the answer of the device, which confirms the output.
//!
//! At the end of the cycle the scan publishes one [`scan::Snapshot`] for the daemon. The daemon
//! passes the values to the command line and, as [`driver::export::Export`], to SCADA systems and
//! brokers. The scan reads its clock once in each cycle, and passes the instant to drivers and
//! programs as the argument `now`. Programs get this instant as their clock.
//!
//! # The path of a plugin
//! This is the path of a plugin from the file to the scan:
//!
//! [`plugin::module::folder`] finds a file, waits until the file no longer changes, reads the file
//! once and names it by its hash → [`supervisor`] requests the module →
//! [`plugin::module::compile`] checks and compiles the module in a child process, or gets the
//! artifact from [`plugin::module::cache`] → [`plugin::instance::program`] creates an instance and
//! runs its `init`, all outside of the scan thread → if the configuration requires a shadow run,
//! [`plugin::shadow`] polls another instance of the new version beside the running version →
//! [`scan::Order::Install`] → at a cycle boundary the scan calls `save` of the running version and
//! `restore` of the new version, and the new version gets the seat.
//!
//! During probation the previous version stands by; after probation another thread drops the
//! previous version. If one of the steps above fails, the running version continues. If a program
//! traps, the scan returns the complete instance to the daemon, and [`crash`] makes a report about
//! the trap.
//!
//! # Data on the disk
//! This is the path of a retained variable to the disk: [`scan::Snapshot`] → the variables with
//! `retain = true` in the configuration, if their values have changed → a thread that may wait for
//! the disk → [`retain`], which has two files in the directory of [`state`]. At the next start, the
//! daemon reads the newest complete file before the first cycle. The same directory also contains:
//! - the [`journal`]: the history of events of plugins and of orders of operators,
//! - the record of each version, of good and bad versions,
//! - the bytes of good versions ([`plugin::module::versions`]), so that the daemon can run a good
//!   version if the file in the plugin folder is bad,
//! - the record of abnormal ends of the daemon. After too many abnormal ends, the daemon starts in
//!   recovery mode and runs no plugin.
//!
//! # Failures and their effects
//! Each row is a failure. The columns are the effects on the program that failed or is concerned,
//! on its outputs, and on the other programs.
//!
//! | failure | the program | its outputs | other programs |
//! |---|---|---|---|
//! | trap, or over its budget | restarted, after growing delays | safe in the same cycle | run on |
//! | the 5th trap in 60 s | quarantined; a good version starts | safe until that start | run on |
//! | `init` fails 5 times | a good version starts; if none is stored, retried | safe | run on |
//! | a compiler is killed, a read fails | retried, after growing delays | unchanged | run on |
//! | a swap is refused | continues in its old version | unchanged | run on |
//! | trap on probation | the old version, if it stands by, runs on | unchanged | run on |
//! | a device does not answer | polled; quality of inputs is bad | unconfirmed | run on |
//! | a required input is bad | polled; can ask whether it is degraded | safe | run on |
//! | a driver hangs or panics | polled; inputs become stale and bad | unconfirmed | run on |
//! | the disk is full or read-only | runs on | unchanged | run on |
//! | the plugin folder is lost | runs on | unchanged | run on |
//! | the scan stalls | quarantined if it was called | safe, then exit 70 | ended, then restarted |
//! | the scan panics | ended | safe, then exit 70 | ended; systemd restarts the daemon |
//! | the daemon is killed | ended | set by the watchdogs of the devices | ended |
//!
//! # Invariants
//! 1. Inside a cycle, the scan thread never waits, never logs and never allocates memory.
//!    Exceptions for the allocation are cycles in which the scan swaps or loses a program, begins a
//!    shadow run, or takes over a configuration. If a new configuration has more points, the scan
//!    also allocates once for each of the three snapshots. The scan does at most one of these
//!    actions in a cycle, and another thread drops retired instances. Log lines of guests go into a
//!    bounded queue, and another thread writes these lines. If the scan panics, the scan makes its
//!    outputs safe before it writes the message of the panic.
//! 2. A poll that does not return within its budget is stopped within the budget plus 1 ms, and the
//!    cycle continues. Budgets are CPU time. A poll that often waits, for memory pages or for the
//!    CPU, is stopped after at most 10 ms of its CPU time. The reason is that a shorter CPU time
//!    does not prove a fault of the program. Every trap of a guest is raised by a signal and
//!    handled on a stack of the host. If a call was stopped, the host never calls this instance
//!    again.
//! 3. A program writes its outputs into its own scratch. The outputs and variables of a poll become
//!    valid only if the poll returns without a trap; after a trap they are dropped. After a trap
//!    the program's outputs become safe in the same cycle. A trap on probation is different
//!    if a previous version stands by: the outputs stay as they are, and the previous version is
//!    polled from the next cycle on.
//!    Precedence of values: safe, then force, then program.
//! 4. An output point has at most one owner at a time. A program can write a point or a variable
//!    only if the configuration grants this to the program. No fault of a device sets an input to
//!    0, and a float output is never infinite or NaN.
//! 5. A hostile plugin file cannot damage the daemon. A module is parsed and compiled in a child
//!    process with limits, and this process cannot use files, the network or other processes
//!    ([`confine`]). One danger remains: a module may use a defect of the compiler to take over the
//!    compile process. Then this process can return any machine code as the artifact. The daemon
//!    runs this code like any artifact: with the rights of the daemon, on the scan thread, and
//!    without the other limits in this list.
//! 6. Every queue, list, file, message, name and retry has a limit. A comment at the limit states
//!    the reason for its value.
//! 7. The supervisor never waits for the scan. A fact from the scan is a level (a state) with a
//!    generation number, not an edge (an event). The reason is that the reader of snapshots can
//!    miss an edge.
//! 8. The hash of the content of a file decides which version runs. Events and time stamps of files
//!    are only hints to read the file again.
//! 9. `unsafe` code is denied in the package, except in four small files: `heap.rs`,
//!    `plugin/instance/stop.rs`, `plugin/instance/stop/proof.rs` and `plugin/instance/wasm.rs`.
//!    Each use has a SAFETY paragraph.
//! 10. The daemon feeds the systemd watchdog only if the cycle count of the scan has increased.
//! 11. The daemon's main loop never blocks. The loop makes no call that can wait, such as a call on
//!     a file, a terminal, a pipe, a socket or a lock. Log lines go through a bounded queue to a
//!     thread that writes them; if the queue is full, lines are dropped, counted and reported.
//!     Files are read on threads that may wait, with a time limit ([`patience`]). At the end of the
//!     process, every wait has a time limit.
//! 12. If the scan stalls, the outputs become safe. Each device has a thread that supervises the
//!     scan. If this thread has seen no cycle for the time `scan.stall`, the thread itself makes
//!     all outputs of the device safe, forced outputs included, and confirms the outputs. An output
//!     whose safe setting is `hold` retains its value. When the scan begins the next cycle, the
//!     outputs get their values again.
//! 13. A version that was good and trapped later no longer counts as good. A rollback, a fallback
//!     or a start never selects a version that is in quarantine. None of the three automatically
//!     selects a version that trapped after its probation.
//!
//! # Files of a feature
//! | feature | file |
//! |---|---|
//! | the loop of the daemon, which handles events | `daemon.rs` |
//! | probation and rollback | `scan/swap.rs`; after a rollback: `supervisor/plugin/observe.rs` |
//! | restarts and quarantine | `supervisor.rs`, `supervisor/plugin.rs` |
//! | choice of the version that runs | `supervisor/plugin/target.rs` |
//! | safe over force over program | `process/overlay.rs` |
//! | text why a module is refused | `plugin/module/check.rs` and its folder |
//! | text why a call is refused | `process/refused.rs`; count: `plugin/instance/guest/refuse.rs` |
//! | time limits of a poll | `plugin/instance/stop.rs` |
//! | a new file in the plugin folder | `plugin/module/folder.rs`, `daemon/plugins/folder.rs` |
//! | where SIGHUP, SIGTERM and SIGINT are caught | `daemon/build/signal.rs` |
//! | a reload of the configuration (SIGHUP) | `daemon/reload.rs`; which keys: `config/live.rs` |
//! | a request such as `camshaft status` | `control/client.rs`, `control/server/route.rs` |
//! | the answer to a request | `daemon/answer.rs`; the status: `daemon/view.rs` |
//! | an order of an operator, and its receipt | `daemon/answer.rs`, `daemon/audit.rs` |
//! | retained variables, torn files | `retain.rs`; reading and writing: `daemon/field/retain.rs` |
//! | a late Modbus reply | in `driver/modbus/client`, the files `outstanding` and `transport` |
//! | a new driver | `driver/mod.rs`, `driver/registry.rs` |
//! | recovery, after too many abnormal ends | `daemon/plugins/recovery.rs` |
//! | the end of the process | `daemon/stop.rs`; after a stall: `daemon/stall.rs` |
//!
//! # Not in Camshaft
//! Camshaft has no web page; the README lists this and other limits.
//!
//! Camshaft does not count the instructions of a guest, because the metering of wasmer made a tight
//! loop 2.1 times as slow. Camshaft does not use the interrupt of wasmer either. That interrupt is
//! the signal SIGUSR1: a stray `kill -USR1` ends the process, and the interrupt took up to 11 ms.
//! Instead, the compiled guest reads a stop flag in each loop and each function
//! (`plugin/module/flag.rs`). The timekeeper sets the flag (`plugin/instance/stop.rs`). The guest
//! then traps by an integer division by zero, which the kernel reports to the thread as a signal.

pub mod cli;
pub mod clock;
pub mod config;
pub mod confine;
pub mod control;
pub mod crash;
pub mod daemon;
pub mod driver;
pub mod file;
pub mod heap;
pub mod journal;
pub mod latest;
pub mod log;
pub mod logged;
pub mod name;
pub mod patience;
pub mod plugin;
pub mod process;
pub mod recipe;
pub mod retain;
pub mod scan;
pub mod stamp;
pub mod state;
pub mod supervisor;
pub mod systemd;
pub mod text;
pub mod thread;
