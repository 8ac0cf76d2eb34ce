//! The text below the help of each verb: details and examples.
//!
//! The grammar, and the one-line help of each verb and each flag, are in `args.rs`. These texts
//! contain the details that do not fit into one line. No test runs the examples.

/// Text below the help of `check`.
pub(super) const CHECK_HELP: &str = "\
A file whose name ends in .toml is a configuration; every other file is a module. The command
compares modules with the limits of --config. Without --config, the limits are those of the checked
configuration, if exactly one is checked, or else the default limits. The result names the limits.
A note is about an entry that is valid but almost certainly a mistake, such as two points at one
register. Notes do not change the exit code.

Examples:
  camshaft check config/camshaft.toml plugins/*.wasm
  camshaft check --config /etc/camshaft/camshaft.toml build/v2.wasm";

/// Text below the help of `deploy`.
pub(super) const DEPLOY_HELP: &str = "\
The daemon writes the complete file or changes nothing. After that, the daemon treats the file like
any other new file in the plugin folder. If the new version cannot run, the old version continues
and the exit code is 1.

The new version is on probation for 5 s and 100 polls by default ([plugins.swap]). If the new
version traps on probation, the previous version runs again, with the state from before the swap.
The command ends when the new version runs, and prints how long the probation lasts. With --wait,
the command ends when the probation ends. The exit code is then 1 if the version has trapped or was
replaced. Scripts should use --wait.

Examples:
  camshaft deploy build/v2.wasm --name tank
  camshaft deploy build/v2.wasm --name tank --wait && echo it is good";

/// Text below the help of `history`.
pub(super) const HISTORY_HELP: &str = "\
The list contains all events and orders, or those of one plugin, point, variable or device. The
oldest entry is first and the newest is last; times are in UTC. If the same trap or refusal occurs
many times in a row, the list contains the first five, and then the 8th, the 16th, the 32nd and so
on.

Each order (set, force, deploy, hold and so on) has an entry with the user who gave the order, and
the values before and after the order. NAME selects the orders for the plugin, point, variable or
device of this name. The user of an order with sudo is root. If a script repeats an order (set,
restart, fault), the list contains the first 20 orders for one target. After that, it contains one
entry every 10 minutes, with the number of orders in this time.

Examples:
  camshaft history
  camshaft history tank -n 100
  camshaft history tank.level            who has set or forced this point
  camshaft history --json -n 1000 | jq '.[] | select(.kind == \"refused\")'";

/// Text below the help of `rollback`.
pub(super) const ROLLBACK_HELP: &str = "\
The daemon stores the last five good versions of each plugin. A version is good when it has survived
its probation. If a version traps on probation, the daemon itself returns to the previous version.
Use this command for mistakes that you notice after the probation. As in any swap, the version that
takes over gets the state of the version that runs.

A version that trapped after its probation, or that is in quarantine, is bad. To return to a bad
version, name the version with --to and add --even-bad. `camshaft versions` lists all versions.

Examples:
  camshaft rollback tank
  camshaft rollback tank --to 3f2a1b
  camshaft rollback tank --to 3f2a1b --even-bad";

/// Text below the help of `versions`.
pub(super) const VERSIONS_HELP: &str = "\
A version is unproven until it has survived its probation, and good after that. A version is
doubtful while it does not write an output that an earlier good version wrote. A version is bad if
it has trapped or is in quarantine. The daemon stores the last five good versions of each plugin. A
bad or doubtful version never replaces a good version in this store.

A bad version becomes good again if it survives another probation, after `camshaft release` or
`camshaft rollback --even-bad`. With [plugins.restart] on_quarantine = \"last_good\", the newest
good version runs while the file is in quarantine.

Examples:
  camshaft versions tank
  camshaft versions tank --json";

/// Text below the help of `run`.
pub(super) const RUN_HELP: &str = "\
In recovery the scan and the devices run, and every output is safe. No plugin runs until an operator
enters `camshaft recover`. Recovery begins with `camshaft run --no-plugins`, or after 3 abnormal
ends of the daemon within 10 minutes. An end by a watchdog, a panic or a kill is abnormal; an
orderly stop is not. A power cut is not an abnormal end, because the whole machine goes down. Power
cuts are counted separately. The section [recovery] of the configuration sets the number of ends and
the length of the time.";

/// Text below the help of `release`.
pub(super) const RELEASE_HELP: &str = "\
If the plugin is held, the command ends the hold and changes nothing else. A file in quarantine
stays in quarantine, and the command reports this. If the plugin is not held, the command ends its
quarantine. The daemon then also forgets that versions of the plugin were bad. Each of these
versions is good again after it has survived a probation.

Examples:
  camshaft release tank";

/// Text below the help of `restart`.
pub(super) const RESTART_HELP: &str = "\
With --cold, the daemon stops every program, and every output becomes safe. All variables with an
entry [[variable]] get their initial values; for retained variables, also on disk. The daemon
forgets variables that programs have made, with their types. After that, all programs that are not
held start again.

Examples:
  camshaft restart tank
  camshaft restart --cold";

/// Text below the help of `reload`.
pub(super) const RELOAD_HELP: &str = "\
The daemon watches the file, and reloads it by itself a moment after you save it. SIGHUP has the
same effect. The daemon first checks the whole file. If the file has a mistake, nothing changes, and
the last good configuration stays in force. Period, budgets, plugins, variables, devices and their
points change between two cycles. A device whose keys have changed starts again; the other devices
continue. An output that the new file removes gets its safe value first.

Settings of the process, and changes to the list of retained variables, wait for a restart of the
daemon. All changes except log.level wait if a point would get another address or type, because
programs use the address and type. All changes also wait if the file adds a removed point with
another address or type, or a new point at the address of a different point.

Examples:
  camshaft diff
  camshaft reload";

/// Text below the help of `diff`.
pub(super) const DIFF_HELP: &str = "\
Compares the file on disk with the configuration that is in force in the daemon, and changes
nothing. To check a file before you install it, use `camshaft check`.";

/// Text below the help of `reset`.
pub(super) const RESET_HELP: &str = "\
Retained variables get their initial values: in memory between two cycles, and in both files on
disk. Programs continue to run. A program that has a copy of a value in its own memory may write
this value again. To restart the programs too, use `camshaft restart --cold`.";

/// Text below the help of `set`.
pub(super) const SET_HELP: &str = "\
If a program writes the variable in every cycle, the program overwrites the new value one cycle
later. If a point and a variable have the same name, the command sets the point.

Examples:
  camshaft set button.start true
  camshaft set tank.level 42.5
  camshaft set heater.setpoint 60";

/// Text below the help of `force`.
pub(super) const FORCE_HELP: &str = "\
Programs read the value of a forced input, and the device gets the value of a forced output. The
quality of a forced point is `forced`. When the force ends, the point again has the value of the
device or of the program. A safe value has priority over a force: an output whose program is held,
has trapped or has a bad required input is safe, even if the output is forced. A force continues
when the program is swapped, and ends when the daemon ends.

Examples:
  camshaft force pump.run true --for 10m --reason 'test of the seal'
  camshaft force tank.level 80 --forever --owner ann
  camshaft forces
  camshaft unforce --all";

/// Text below the help of `fault`.
pub(super) const FAULT_HELP: &str = "\
Examples:
  camshaft fault plant disconnect
  camshaft fault plant slow delay=200ms
  camshaft fault plant garbage seed=7
  camshaft fault plant hang for=1s     the whole scan stalls, and devices make outputs safe. If the
                                       stall lasts for scan.stall_exit (2s), the daemon ends. This
                                       is an abnormal end, after which systemd restarts the daemon
  camshaft fault plant --clear";

/// Text below the help of `test`.
pub(super) const TEST_HELP: &str = "\
Examples:
  camshaft test plugins/tank.wasm plugins/tank/tank.recipe.json
  camshaft test --config /etc/camshaft/camshaft.toml build/v2.wasm v2.recipe.json";

/// Text below the help of `completions`.
pub(super) const COMPLETIONS_HELP: &str = "\
Example:
  camshaft completions bash > ~/.local/share/bash-completion/completions/camshaft";

/// Text below the help of `replay`.
pub(super) const REPLAY_HELP: &str = "\
The exit code is 0 if the module traps again at the same place, and 1 if not. The report contains
the limits of the plugin. If one of these limits is above the default limit (with --config: above
the limit in that configuration), the replay lowers the limit and prints the name of the limit.

Example:
  camshaft replay /var/lib/camshaft/crash/tank-4711-0123456789abcdef.crash";

/// Text below the help of `modbus read`.
pub(super) const MODBUS_READ_HELP: &str = "\
The command prints registers in hexadecimal digits. It also prints the value of the registers for
each order in which their bytes can be sent; --type is the type of the value. In the name of an
order, A is the most significant byte. The column with sensible values shows the right order.

Examples:
  camshaft modbus read tcp://10.0.0.7 holding 0 4
  camshaft modbus read tcp://10.0.0.7:1502 --unit 3 input 100 2 --type f32
  camshaft modbus read rtu:///dev/ttyUSB0 --baud 9600 --parity none --stop-bits 2 coil 0 16";

/// Text below the help of `modbus write`.
pub(super) const MODBUS_WRITE_HELP: &str = "\
The command prints the values that the unit has acknowledged. To find out whether the unit has
stored these values, read them with `camshaft modbus read`.

Examples:
  camshaft modbus write tcp://10.0.0.7 holding 100 421
  camshaft modbus write tcp://10.0.0.7 holding 101 -1.25 --type f32 --order CDAB
  camshaft modbus write tcp://10.0.0.7 coil 0 on --single";

/// Text below the help of `modbus scan`.
pub(super) const MODBUS_SCAN_HELP: &str = "\
The command reads holding register 0 of each unit once. It waits 200ms for each answer, or the time
of --timeout. The command also lists a unit that answers with an exception, except if the exception
comes from a gateway that cannot reach the unit. On a serial line, an absent unit takes twice the
time. Consecutive units with the same answer are one row of the table.

Examples:
  camshaft modbus scan tcp://10.0.0.7
  camshaft modbus scan rtu:///dev/ttyUSB0 --baud 9600 --to 32";
