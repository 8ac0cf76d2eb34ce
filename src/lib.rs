//! Camshaft: a soft-PLC daemon. Control programs are WebAssembly plugins: drop a `.wasm` file into
//! a folder and it runs; replace the file and the new code takes over between two scans; break it
//! and nothing else notices.
//!
//! > A **scan** runs on one thread: read every device, run every program, write every device, say
//! > what happened. A **supervisor** on the other side decides who may run. **Orders go down one
//! > bounded queue; news comes up as one snapshot.** Nothing the scan thread does can wait, and
//! > nothing that waits is done on the scan thread. Everything that touches the world stands behind
//! > a small border: the traits [`clock::Clock`] and [`driver::Driver`], and the type
//! > [`plugin::instance::program::Program`].
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
//! A module may use only lower floors; neighbours do not know each other. A test holds it so.
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
//! with quality and age → [`process::overlay`], where forces stand over devices →
//! [`plugin::instance::program::Program::poll`], which writes into a scratch → commit → output
//! image → [`process::overlay`] again, safe over force over program → [`driver::Driver::write`] → a
//! triple buffer and a bell → wire → the device's answer, which confirms the output. At the end of
//! the cycle one [`scan::Snapshot`] goes to the daemon, and from there to the command line and, as
//! [`driver::export::Export`], to SCADA and brokers. `now` is read once a cycle and is an argument
//! from there on; programs see that instant as their clock.
//!
//! # A plugin's walk
//! [`plugin::module::folder`] sees a file, lets it settle, reads it once and names it by its hash →
//! [`supervisor`] asks for it → [`plugin::module::compile`] checks and compiles it in a child
//! process, or takes the artifact from [`plugin::module::cache`] → [`plugin::instance::program`]
//! makes an instance and runs its `init`, all off the scan → if that is wanted, [`plugin::shadow`]
//! lets another instance poll beside the running version → [`scan::Order::Install`] → at a cycle
//! boundary `save` of the running version and its own `restore`, and it takes the seat. On
//! probation the version before stands by; after it, that is dropped on another thread. Whatever
//! fails, the running version goes on. A program that traps comes back whole, and [`crash`] makes a
//! report of it.
//!
//! # What outlives the daemon
//! [`scan::Snapshot`] → the variables marked `retain = true`, if they have changed → a thread that
//! may wait for the disk → [`retain`], two files in the directory of [`state`], of which the newest
//! whole one is read at the next start, before the first cycle. The same directory has the
//! [`journal`] of what became of plugins and of who has ordered what, what each version has come
//! to, the bytes of the good ones ([`plugin::module::versions`]), of which one runs where a file is
//! no good, and the record of abnormal ends: too many lead to recovery, in which no plugin is run.
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
//! 1. The scan thread never waits, never logs and never allocates inside a cycle, except
//!    in a cycle that swaps or loses a program, begins a shadow run, or takes over a configuration;
//!    if that has more points, also once for each of the three snapshots when its turn comes.
//!    At most one of these is done in a cycle; retired instances are dropped on another thread.
//!    Guests' log lines go into a bounded queue that another thread writes out; the thread has no
//!    log of its own, and even a panic's words wait until the outputs are safe.
//! 2. A poll that does not return in its budget is stopped within the budget plus 1 ms; the cycle
//!    goes on. Budgets count CPU time. One that waits at every turn, for pages or for the CPU, is
//!    stopped after 10 ms of its own time at the latest, because less proves nothing. Every trap of
//!    a guest comes by a signal and on a stack of the host's; an instance whose call was cut off is
//!    never called again.
//! 3. A program writes into its own scratch. Outputs and variables count only after a good poll. On
//!    a trap they are dropped and the program's outputs become safe in the same cycle; on probation
//!    they stay as they are, and the version before is polled from the next cycle on. Precedence:
//!    safe, then force, then program.
//! 4. An output point has one owner at a time, and a program writes only what is granted to it,
//!    variables too. Nothing ever becomes 0 by accident, and no float output anything but a finite
//!    number.
//! 5. Hostile bytes cannot hurt the daemon: whatever parses or compiles a module runs in a child
//!    process with limits, and without files, network and other processes ([`confine`]). What this
//!    does not prevent: a module that takes the compiler over by a defect of it can hand back
//!    machine code of its own. The daemon runs that as it runs any artifact: with its own rights,
//!    on the scan thread, outside of every other limit named here.
//! 6. Every queue, list, file, message, name and retry has a written limit and a reason for its
//!    value.
//! 7. The supervisor never waits for the scan. Facts travel as levels with generations, not as
//!    edges that can be lost.
//! 8. Files are hints: what is running is decided by content hash, never by an event or a time
//!    stamp.
//! 9. `unsafe` is denied for the package and allowed in three small files,
//!    `plugin/instance/stop.rs`, `plugin/instance/stop/proof.rs` and `plugin/instance/wasm.rs`,
//!    each use with a SAFETY paragraph.
//! 10. The systemd watchdog is fed only when the cycle count has moved.
//! 11. The daemon's loop never blocks: it makes no call on a file, a terminal, a pipe, a socket or
//!     a lock that can wait. Lines of the log go through a bounded queue to a thread that writes
//!     them; what has no room is dropped, counted and said. Files are asked for on threads that may
//!     wait, with a time limit ([`patience`]), and the end of the process waits for nothing without
//!     one.
//! 12. A scan that stands leaves no output as it was: the thread of each device that has heard no
//!     cycle for `scan.stall` makes its outputs safe by itself, forced ones too, and confirms
//!     them; those that hold stay. The next cycle that begins gives them back.
//! 13. What was good once and trapped later is not good: a rollback, a fall-back or a start never
//!     picks a version that is in quarantine, nor by itself one that trapped after its probation.
//!
//! # Where a feature is
//! | feature | file |
//! |---|---|
//! | probation, and the way back | `scan/swap.rs`; what follows: `supervisor/plugin/observe.rs` |
//! | restarts, quarantine, what runs instead | `supervisor.rs`, `supervisor/plugin/target.rs` |
//! | safe over force over program | `process/overlay.rs` |
//! | why a module is refused | `plugin/module/check.rs` and its folder |
//! | time limits of a poll | `plugin/instance/stop.rs` |
//! | a new file in the plugin folder | `plugin/module/folder.rs`, `daemon/plugins/folder.rs` |
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
//! No web page: see the README. No instruction metering and no signal that stops a
//! guest: `plugin/instance/stop.rs` tells why.

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
