//! Camshaft: a soft-PLC daemon. Control programs are WebAssembly plugins. Put a `.wasm` file into a
//! folder, and the daemon runs it. Replace the file, and the new code takes over between two scan
//! cycles. If a program fails, the other programs are not disturbed.
//!
//! > A **scan** runs on one thread. In each cycle it reads every device, runs every program, writes
//! > every device and publishes a snapshot. A **supervisor** on the daemon's side decides which
//! > programs may run. **Orders go to the scan through one bounded queue; facts come back as one
//! > snapshot.** The scan thread never waits: work that can wait is done on other threads. All code
//! > that reaches outside of the process is behind a small interface: the traits [`clock::Clock`]
//! > and [`driver::Driver`], and the type [`plugin::instance::program::Program`].
//!
//! # Words
//! One thing has one word, in the code, the configuration, the command line and the log.
//!
//! | word | means |
//! |---|---|
//! | point | one input or output value, named in the configuration, with a type and an address |
//! | image | all points at one instant: the input image and the output image, two byte spaces |
//! | device, driver | a thing in the field; the code for one kind of device |
//! | plugin | a file in the watched folder, and all that is known under its name |
//! | module, artifact | the bytes of one such file, named by their hash; their machine code |
//! | instance | one life of a module: memory, tables, globals |
//! | program | an instance with a seat in the scan, its settings and rights |
//! | version | a module that has run under a plugin's name, kept for a rollback |
//! | guest, host | code in the sandbox; the code around it |
//! | variable | a named, typed value that the host owns and programs share |
//! | cycle, overrun | one pass of the scan; a cycle that ended after its deadline |
//! | trap, fault, error | how a program fails; how a device fails; how a start fails |
//! | hold, release | the operator stops a program; the operator lets it run again |
//! | safe | the configured value of an output while no good program owns it |
//! | swap | new code takes over between two cycles |
//! | probation | the time that new code must survive |
//! | rollback | the old version returns |
//! | quarantine | the modules that do not run again under a name |
//!
//! # Floors
//! A module may use only modules of lower floors; modules of one floor do not use each other. A
//! test checks these two rules.
//!
//! | floor | modules | what they are for |
//! |---|---|---|
//! | 7 | `main`, [`cli`] | the command line: one short function for each verb |
//! | 6 | [`daemon`] | builds everything, one loop over one kind of event, orderly stop |
//! | 5 | [`control`], [`recipe`], [`crash`] | reaching a daemon; tests offline; reports of traps |
//! | 4 | [`config`] | what the file says, and then what is true |
//! | 3 | [`supervisor`] | who may run: pure, drawn |
//! | 2 | [`scan`] | obey, read, run, write, publish; when, and on which thread |
//! | 1 | [`driver`], [`plugin`], [`log`] | devices; modules up to a poll; where the log goes |
//! | 1 | [`retain`] | values that outlive the daemon |
//! | 0 | [`process`] | the process image: what a cycle works on |
//! | -1 | [`clock`], [`latest`], [`systemd`], [`text`] | the base: it knows nothing of a PLC |
//! | -1 | [`confine`], [`file`](mod@file), [`journal`], [`patience`] | the base: files and limits |
//! | -1 | [`stamp`], [`state`] | the base: the calendar and the state directory |
//! | -1 | [`name`], [`logged`] | the base: names that people give; what was logged last |
//!
//! # A value's walk
//! wire → a thread of the device's own → a triple buffer → [`driver::Driver::read`] → input image
//! with quality and age → [`process::overlay`], which puts forces over devices →
//! [`plugin::instance::program::Program::poll`], which writes into a scratch → commit → output
//! image → [`process::overlay`] again, safe over force over program → [`driver::Driver::write`] → a
//! triple buffer and a wake-up of the device's thread → wire → the device's answer, which confirms
//! the output. At the end of the cycle the scan gives one [`scan::Snapshot`] to the daemon. From
//! the daemon the values go to the command line and, as [`driver::export::Export`], to SCADA and
//! brokers. The scan reads its clock once a cycle and passes the instant on as the argument `now`;
//! programs see that instant as their clock.
//!
//! # A plugin's walk
//! [`plugin::module::folder`] sees a file, waits until the file no longer changes, reads it once
//! and names it by its hash → [`supervisor`] asks for the module → [`plugin::module::compile`]
//! checks and compiles it in a child process, or takes the artifact from [`plugin::module::cache`]
//! → [`plugin::instance::program`] makes an instance and runs its `init`, all outside of the scan
//! thread → if the configuration wants a shadow run, [`plugin::shadow`] lets another instance poll
//! beside the running version → [`scan::Order::Install`] → at a cycle boundary the scan calls
//! `save` of the running version and `restore` of the new version, and the new version takes the
//! seat.
//!
//! During probation the version before stands by; after probation another thread drops it. If any
//! of these steps fails, the running version goes on. If a program traps, the scan gives it back
//! whole, and [`crash`] makes a report of it.
//!
//! # What outlives the daemon
//! [`scan::Snapshot`] → the variables marked `retain = true`, if they have changed → a thread that
//! may wait for the disk → [`retain`], two files in the directory of [`state`]. The next start
//! reads the newest whole file before the first cycle. The same directory also has:
//! - the [`journal`] of events of plugins and of orders of operators,
//! - the record of each version, good or bad,
//! - the bytes of good versions ([`plugin::module::versions`]); the daemon runs one of them if the
//!   file in the plugin folder is bad,
//! - the record of abnormal ends; after too many of them the daemon starts in recovery, in which it
//!   runs no plugin.
//!
//! # What fails, and what becomes of it
//! | what happens | its program | its outputs | the others |
//! |---|---|---|---|
//! | trap, or over its budget | restarted, later and later | safe in the same cycle | untouched |
//! | the 5th trap in 60 s | quarantined; a good version starts | safe until then | untouched |
//! | `init` fails 5 times | a good version starts; none kept: tried on | safe | untouched |
//! | a compiler is killed, a read fails | tried again, later and later | as they were | untouched |
//! | a swap is refused | goes on in its old version | as they were | untouched |
//! | trap on probation | the old version from the next cycle on | as they were | untouched |
//! | a device is silent | polled; quality says it | unconfirmed | untouched |
//! | a required input is bad | polled, and told that it is degraded | safe | untouched |
//! | a driver hangs or panics | polled; inputs age and are bad | unconfirmed | untouched |
//! | the disk is full or read-only | runs | as they were | untouched |
//! | the plugin folder is lost | runs | as they were | untouched |
//! | the scan stands | quarantined if it was called | safe, then exit 70 | ended; restarted |
//! | the scan panics | ended | safe, then exit 70 | ended; systemd restarts all |
//! | the daemon is killed | ended | as the devices' own watchdogs have it | ended |
//!
//! # Invariants
//! 1. The scan thread never waits, never logs and never allocates inside a cycle. Exceptions are
//!    cycles in which the scan swaps or loses a program, begins a shadow run, or takes over a
//!    configuration. If a new configuration has more points, the scan also allocates once for each
//!    of the three snapshots. At most one of these things is done in a cycle; another thread drops
//!    retired instances. Log lines of guests go into a bounded queue, and another thread writes
//!    them. If the scan panics, it makes its outputs safe before the panic's message is written.
//! 2. A poll that does not return within its budget is stopped within the budget plus 1 ms, and the
//!    cycle goes on. Budgets count CPU time. A poll that waits often, for pages or for the CPU, is
//!    stopped after 10 ms of its own time at the latest, because a shorter time proves nothing.
//!    Every trap of a guest comes by a signal and on a stack of the host's. An instance whose call
//!    was stopped is never called again.
//! 3. A program writes into its own scratch. Outputs and variables of a poll count only if the poll
//!    ends well; after a trap they are dropped. After a trap the program's outputs become safe in
//!    the same cycle. After a trap on probation the outputs stay as they are, and the version
//!    before is polled from the next cycle on. Precedence: safe, then force, then program.
//! 4. An output point has one owner at a time. A program writes only the points and variables that
//!    are granted to it. No value becomes 0 by accident, and a float output is always finite.
//! 5. Hostile bytes cannot hurt the daemon: a module is parsed and compiled in a child process with
//!    limits, and without files, network and other processes ([`confine`]). One danger is left: a
//!    module that takes over the compiler, by a defect of the compiler, can hand back machine code
//!    of its own. The daemon runs that code as it runs any artifact: with the daemon's rights, on
//!    the scan thread, outside of every other limit named here.
//! 6. Every queue, list, file, message, name and retry has a written limit and a reason for its
//!    value.
//! 7. The supervisor never waits for the scan. Facts are levels with generations, because an edge
//!    can be lost.
//! 8. Files are hints: the content hash decides which version runs, never an event or a time stamp.
//! 9. `unsafe` is denied for the package and allowed in three small files,
//!    `plugin/instance/stop.rs`, `plugin/instance/stop/proof.rs` and `plugin/instance/wasm.rs`,
//!    each use with a SAFETY paragraph.
//! 10. The systemd watchdog is fed only when the cycle count has moved.
//! 11. The daemon's loop never blocks: it makes no call on a file, a terminal, a pipe, a socket or
//!     a lock that can wait. Lines of the log go through a bounded queue to a thread that writes
//!     them; lines that find no room are dropped, counted and reported. Files are read on threads
//!     that may wait, with a time limit ([`patience`]). At the end of the process, every wait has a
//!     limit.
//! 12. If the scan stands, no output stays as it was. The thread of each device that has heard no
//!     cycle for `scan.stall` makes the device's outputs safe by itself, forced outputs too, and
//!     confirms them. Outputs that are configured to hold keep their values. The next cycle that
//!     begins gives the outputs their values again.
//! 13. A version that was good once and trapped later is not good: a rollback, a fall-back or a
//!     start never picks a version that is in quarantine. None of them picks by itself a version
//!     that trapped after its probation.
//!
//! # Where a feature is
//! | feature | file |
//! |---|---|
//! | probation, and the way back | `scan/swap.rs`; what follows: `supervisor/plugin/observe.rs` |
//! | restarts, quarantine, what runs instead | `supervisor.rs`, `supervisor/plugin/target.rs` |
//! | safe over force over program | `process/overlay.rs` |
//! | why a module is refused | `plugin/module/check.rs` and its folder |
//! | why a call of a program is refused | `plugin/instance/guest/refuse.rs`, `process/refused.rs` |
//! | time limits of a poll | `plugin/instance/stop.rs` |
//! | a new file in the plugin folder | `plugin/module/folder.rs`, `daemon/plugins/folder.rs` |
//! | where SIGHUP, SIGTERM and SIGINT are caught | `daemon/build/signal.rs` |
//! | a reload: SIGHUP, the file, an operator | `daemon/reload.rs`; which keys: `config/live.rs` |
//! | the answer to `camshaft status` | asked in `control/client.rs`, made in `daemon/view.rs` |
//! | an order of an operator, and its receipt | `daemon/answer.rs`, `daemon/audit.rs` |
//! | files of retained variables, torn ones too | `retain.rs`; when: `daemon/field/retain.rs` |
//! | a Modbus reply that comes too late | `driver/modbus/client/outstanding.rs` |
//! | a new driver | `driver/mod.rs`, `driver/registry.rs` |
//! | a start after too many bad ends | `daemon/plugins/recovery.rs` |
//! | the end of the process | `daemon/stop.rs`; after a stall: `daemon/stall.rs` |
//!
//! # What is not here
//! Camshaft has no web page: see the README. It counts no instructions of a guest and stops no
//! guest by a signal; `plugin/instance/stop.rs` tells why.

pub mod cli;
pub mod clock;
pub mod config;
pub mod confine;
pub mod control;
pub mod crash;
pub mod daemon;
pub mod driver;
pub mod file;
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
