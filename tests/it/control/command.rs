//! Tests of the command line: the exact text of each command, and its exit code.
//!
//! The tests run the built binary against the simulated daemon of `control.rs`. So each text comes
//! from known facts, and the test can compare every character.

use std::io::Read;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;

const PLUGINS: &str = "\
PLUGIN  STATE                 VERSION        POLLS  TRAPS      P50      P99     MAX   BUDGET   \
MEMORY
tank    running               3f2a1b003f2a  123456      0  1.23 us  3.70 us  370 us  2.50 ms  128 \
KiB
blink   backoff, 400 ms left  3f2a1b003f2a       9      2        -        -       -  2.50 ms      \
0 B

blink: unreachable in poll at offset 0x2a, cycle 99
";

const STATUS: &str = "\
camshaft 0.1.0, pid 4711, up 2h 5m

config    config/camshaft.toml
socket    /run/camshaft/control.sock
plugins   plugins
cache     /var/cache/camshaft
state     /var/lib/camshaft
period    10.0 ms
cycle     750000
overruns  2, cycles missed 3
recovery  3 abnormal ends within 10m; `camshaft recover` lets plugins run
retain    3 variables, 1200 writes, 240 KiB
retain    writing has failed for 2h 5m: No space left on device
retain    retain.a: torn

SCAN          P50      P99    P99.9      MAX
lateness  56.0 us   168 us  1.68 ms  16.8 ms
work      31.0 us  93.0 us   930 us  9.30 ms

DEVICE  DRIVER  STATE         OUTPUTS
plant   sim     ok            confirmed
pump    sim     disconnected  unconfirmed: pump.run

";

const POINTS: &str = "\
POINT             DIR   VALUE  UNIT  QUALITY          AGE  TYPE  ADDRESS  SAFE  OWNER  DEVICE
tank.level        in   42.123  %     good               -  f64         0     -  -      plant
tank.temperature  in     -inf  °C    bad, no_comm  1.50 s  f64         8     -  -      plant
lamp              out    true        good               -  bool      8.1  hold  blink  plant
";

const VARS: &str = "\
VARIABLE  TYPE    VALUE  RETAIN     WRITTEN  BY
counter   int        -7                   -  -
setpoint  double     50  yes     1.50 s ago  tank
";

#[tokio::test]
async fn lists_are_tables() {
    let stage = Stage::set().await;
    stage.prints(&["plugins"], PLUGINS).await;
    stage.prints(&["status"], &format!("{STATUS}{PLUGINS}")).await;
    stage.prints(&["points"], POINTS).await;
    stage.prints(&["vars"], VARS).await;
    stage.facts().plugins.clear();
    let none = "no plugins: copy a .wasm file into the plugin folder, or enter `camshaft deploy \
                FILE`; `camshaft status` shows the folder, and whether its disk answers\n";
    stage.prints(&["plugins"], none).await;
}

const HISTORY: &str = "\
TIME (UTC)               PLUGIN     WHAT         VERSION        CYCLE  DETAILS
2026-01-31 12:00:00.250  tank       started      aaaaaaaaaaaa      17  detect 12.3 ms, compile \
3.41 ms, prepare 210 us, boundary 6.10 ms, cycles missed 1
2026-01-31 12:00:01.250  tank       swapped      bbbbbbbbbbbb     900  replaces aaaaaaaaaaaa: \
detect 12.3 ms, compile 3.41 ms (cached), prepare 210 us, boundary 6.10 ms, cycles missed 1; \
shadow run of 30 polls, p99 12.3µs, outputs differ in 2 cycles, first difference tank.valve in \
cycle 890: running version 5, new version 6
2026-01-31 12:00:02.250  tank       refused      cccccccccccc     950  imports env.\\u{1b}[2J; \
import less; bbbbbbbbbbbb continues
2026-01-31 12:00:03.250  tank       trapped      bbbbbbbbbbbb     990  unreachable in poll at \
offset 0x2a, cycle 990
2026-01-31 12:00:04.250  tank       restarted    bbbbbbbbbbbb     991  detect 0 ns, compile 0 ns, \
prepare 0 ns, boundary 0 ns, cycles missed 0
2026-01-31 12:00:05.250  tank       trapped      bbbbbbbbbbbb     990  unreachable in poll at \
offset 0x2a, cycle 990 (no. 8 in a row)
2026-01-31 12:00:06.250  tank       quarantined  bbbbbbbbbbbb    1050  5 traps in a short time
2026-01-31 12:00:07.250  tank       stopped      bbbbbbbbbbbb    1051  out of the scan; the \
outputs of the plugin become safe
2026-01-31 12:00:08.250  blink-led  held         -               1200  by the configuration
2026-01-31 12:00:09.250  tank       released     -             750000  by the operator
2026-01-31 12:00:10.250  tank       removed      -             750010  its file was deleted
";

#[tokio::test]
async fn a_history_is_a_table() {
    let stage = Stage::set().await;
    stage.prints(&["history", "-n", "1000"], HISTORY).await;
    let line = "2026-01-31 12:00:08.250  blink-led  held  -         1200  by the configuration\n";
    let head = "TIME (UTC)               PLUGIN     WHAT  VERSION  CYCLE  DETAILS\n";
    stage.prints(&["history", "blink-led"], &format!("{head}{line}")).await;
    stage.prints(&["history", "nobody"], "no history\n").await;
    let output = stage.run(&["history", "tank", "--json", "-n", "2"]).await;
    let found: Vec<Entry<Receipt>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found, receipts()[9..]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found[0]["kind"], "released");
    assert_eq!(found[0]["seq"], 50);
}

#[tokio::test]
async fn a_history_that_is_not_written_is_an_alarm() {
    let stage = Stage::with(|facts, request| match request {
        Request::Status => Ok(Response::Status(StatusView {
            history_trouble: Some("/x: No space left on device (os error 28)".into()),
            ..status(&facts.plugins)
        })),
        other => answer(facts, other),
    })
    .await;
    let alarm = "history   not written: /x: No space left on device (os error 28)\n";
    let expected = STATUS.replace("\n\nSCAN", &format!("\n{alarm}\nSCAN"));
    stage.prints(&["status"], &format!("{expected}{PLUGINS}")).await;
}

#[tokio::test]
async fn lists_are_json_on_request() {
    async fn check<T: serde::de::DeserializeOwned>(stage: &Stage, verb: &str) -> T {
        let output = stage.run(&[verb, "--json"]).await;
        assert_eq!(output.status.code(), Some(0));
        serde_json::from_slice(&output.stdout).expect(verb)
    }
    let stage = Stage::set().await;
    let plugins = vec![tank(), blink()];
    assert_eq!(check::<Vec<PluginView>>(&stage, "plugins").await, plugins);
    assert_eq!(check::<StatusView>(&stage, "status").await, status(&plugins));
    assert_eq!(check::<Vec<PointView>>(&stage, "points").await, points());
    assert_eq!(check::<Vec<VarView>>(&stage, "vars").await, vars());
}

#[tokio::test]
async fn orders_say_what_came_of_them() {
    let stage = Stage::set().await;
    stage.prints(&["hold", "tank"], "tank: held\n").await;
    stage.prints(&["release", "tank"], "tank: not held any more, running\n").await;
    stage.prints(&["restart", "tank"], "tank: running\n").await;
    stage.prints(&["remove", "tank"], "tank: removed\n").await;
    stage.fails(&["hold", "tank"], "there is no plugin \"tank\"; there are tank, blink").await;
    let text = "plant: slow until `camshaft fault plant --clear`\n";
    stage.prints(&["fault", "plant", "slow", "delay=200ms", "n=7"], text).await;
    stage.prints(&["fault", "plant", "hang", "for=4s"], "plant: hang for 4s\n").await;
    stage.prints(&["fault", "plant", "--clear"], "plant: fault ended\n").await;
    let slow = serde_json::json!({ "kind": "slow", "delay": "200ms", "n": 7 });
    let injected = Request::Inject { device: "plant".parse().unwrap(), injection: slow };
    assert!(stage.facts().orders.contains(&injected));
}

#[tokio::test]
async fn a_name_that_is_set_is_a_point_or_a_variable() {
    let stage = Stage::with(|facts, request| match request {
        Request::Vars => {
            let lamp = VarView { name: "lamp".into(), ..vars()[0].clone() };
            Ok(Response::Vars([vars(), vec![lamp]].concat()))
        }
        Request::Set { ref point, value: Value::Int(_) } if point == "lamp" => {
            Err(Failure::new(Code::Invalid, "lamp: expected a bool: true or false"))
        }
        other => answer(facts, other),
    })
    .await;
    stage.prints(&["set", "tank.level", "-4.5"], "tank.level: set to -4.5\n").await;
    stage.prints(&["set", "setpoint", "60"], "setpoint: set to 60\n").await;
    let both = " (the point, not the variable of the same name)";
    stage.prints(&["set", "lamp", "on"], &format!("lamp: set to true{both}\n")).await;
    let why = format!("lamp: expected a bool: true or false{both}");
    stage.fails(&["set", "lamp", "1"], &why).await;
    let why = "there is no point or variable \"tank.levle\"; did you mean \"tank.level\"?";
    stage.fails(&["set", "tank.levle", "1"], why).await;
    let why = "there is no point or variable \"setpiont\"; did you mean \"setpoint\"?";
    stage.fails(&["set", "setpiont", "1"], why).await;
    let why = "there is no point or variable \"motor\"; \
               `camshaft points` and `camshaft vars` list all names";
    stage.fails(&["set", "motor", "1"], why).await;
    let expected = [
        Request::Set { point: "tank.level".parse().unwrap(), value: Value::Real(-4.5) },
        Request::SetVar { name: "setpoint".into(), value: Value::Int(60) },
        Request::Set { point: "lamp".parse().unwrap(), value: Value::Bool(true) },
    ];
    assert_eq!(stage.facts().orders, expected);
}

#[tokio::test]
async fn some_orders_are_for_the_whole_machine() {
    let stage = Stage::set().await;
    // The stage is in recovery.
    let cold = "restarted cold: variables have their initial values, no program starts \
                before `camshaft recover`\n";
    stage.prints(&["restart", "--cold"], cold).await;
    let reset = "retained variables have their initial values, also on disk\n";
    stage.prints(&["reset", "--retain"], reset).await;
    stage.prints(&["recover"], "recovery has ended: programs start\n").await;
    let orders = [Request::RestartCold, Request::ResetRetain, Request::Recover];
    assert_eq!(stage.facts().orders, orders);
    for wrong in [&["restart"][..], &["restart", "tank", "--cold"]] {
        assert_eq!(stage.run(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn an_order_that_comes_to_nothing_fails() {
    let stage = Stage::with(|facts, request| match request {
        Request::Hold { .. } => Ok(Response::Done),
        other => answer(facts, other),
    })
    .await;
    let error = "tank: waited for the plugin to be held, but the time limit has passed and the \
                 plugin is running, version 3f2a1b003f2a";
    stage.fails(&["hold", "tank"], error).await;
}

#[tokio::test]
async fn a_deploy_waits_for_its_outcome() {
    let stage = Stage::set().await;
    let good = write(stage.folder.path(), "tank.wasm", b"good");
    let bad = write(stage.folder.path(), "bad.wasm", b"bad");
    let slow = write(stage.folder.path(), "slow", b"slow");
    let version = |bytes: &[u8]| format!("{:#}", ModuleHash::of(bytes))[..12].to_string();
    let (v_good, v_bad, v_slow) = (version(b"good"), version(b"bad"), version(b"slow"));

    let text = format!(
        "tank: version {v_good} runs\n  detect 12.3 ms, compile 3.41 ms (cached), prepare 210 us, \
         boundary 6.10 ms, cycles missed 0, 4 bytes of state\n"
    );
    stage.prints(&["deploy", &good], &text).await;
    stage.prints(&["deploy", &good], &format!("tank: version {v_good} runs already\n")).await;
    let error =
        format!("tank: version {v_bad} does not run: it is \\u{{1b}}[31mtext\\nnot a module");
    stage.fails(&["deploy", &bad, "--name", "tank"], &error).await;
    let error = format!(
        "slow: waited for version {v_slow} to run, but the time limit has passed and the plugin is \
         preparing"
    );
    stage.fails(&["deploy", &slow, "--timeout", "200ms"], &error).await;
    let error = "expected 1 to 128 of the characters A-Z a-z 0-9 _ - . beginning with a letter, a \
                 digit or _, found \"-x\"";
    let hidden = write(stage.folder.path(), "-x.wasm", b"good");
    let named =
        format!("{hidden}: the file name gives no plugin name: {error}; choose a name with --name");
    stage.fails(&["deploy", &hidden], &named).await;
    for (arguments, of) in [
        (["deploy", &good, "--name=-x"].as_slice(), "--name <NAME>"),
        (["hold", "--", "-x"].as_slice(), "<NAME>"),
    ] {
        let usage = format!("error: invalid value '-x' for '{of}': {error}\n\nFor more ");
        let output = stage.run(arguments).await;
        let found = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && found.starts_with(&usage), "{found}");
    }
    let long = write(stage.folder.path(), "long.wasm", &[0; 2000]);
    let error = "the body has 2000 bytes; the limit is 1000 (plugins.module in the configuration)";
    stage.fails(&["deploy", &long], error).await;
    let absent = stage.folder.path().join("absent.wasm").display().to_string();
    let error = format!("{absent}: No such file or directory (os error 2)");
    stage.fails(&["deploy", &absent], &error).await;
    let pipe = stage.folder.path().join("pipe.wasm");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = pipe.display().to_string();
    let run = tokio::time::timeout(crate::daemon::LIMIT, stage.run(&["deploy", &pipe])).await;
    let error = format!("error: {pipe}: it is a pipe, not a regular file\n");
    check(run.expect("it waits for no writer"), 1, "", &error);
}

#[tokio::test]
async fn without_a_daemon_it_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().display();
    let hint = "Start a daemon with `camshaft run config/camshaft.toml`, or give the socket of a \
                running daemon with --socket PATH.\n";
    let run = async |arguments: &[&str]| {
        command(arguments).env("XDG_RUNTIME_DIR", folder.path()).output().await.unwrap()
    };
    let output = run(&["points", "--socket", &format!("{here}/x")]).await;
    let error = format!("error: no daemon can be reached\n  tried {here}/x: no such file\n{hint}");
    check(output, 69, "", &error);
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("dead")).unwrap());
    let output = run(&["hold", "x", "--socket", &format!("{here}/dead")]).await;
    let error =
        format!("error: no daemon can be reached\n  tried {here}/dead: no daemon listens\n{hint}");
    check(output, 69, "", &error);
    std::fs::write(folder.path().join("file"), "").unwrap();
    let output = run(&["status", "--socket", &format!("{here}/file")]).await;
    let is_none = format!("{here}/file: this path is a regular file, not a socket\n");
    check(output, 69, "", &format!("error: no daemon can be reached\n  tried {is_none}{hint}"));
    let output = run(&["status", "--watch"]).await;
    assert_eq!(output.status.code(), Some(69));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains(&format!("tried {here}/camshaft/control.sock: no such file\n")),
        "{error}"
    );
    assert!(error.contains("tried /run/camshaft/control.sock: "), "{error}");
}

#[tokio::test]
async fn watching_goes_on_until_it_is_interrupted() {
    let stage = Stage::set().await;
    let mut child = stage.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut frames = 0;
    while frames < 3 {
        let line = lines.next_line().await.unwrap().expect("it goes on");
        assert!(!line.contains('\x1b'), "no colour into a pipe: {line:?}");
        frames += usize::from(line == "camshaft 0.1.0, pid 4711, up 2h 5m");
    }
    let pid = nix::unistd::Pid::from_raw(child.id().expect("it runs") as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn nobody_reading_is_no_failure() {
    let stage = Stage::set().await;
    for arguments in [&["status"][..], &["points", "--json"], &["man"], &["status", "--watch"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = stage.command(arguments);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        check(child.wait_with_output().await.unwrap(), 0, "", "");
    }
}

#[tokio::test]
async fn modules_are_checked_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.wasm", &crate::rig::wat(crate::rig::COUNTER));
    let bad = write(folder.path(), "bad.wasm", b"(module)");
    let toml = write(folder.path(), "broken.toml", b"[scan\n");
    let absent = folder.path().join("absent.wasm").display().to_string();
    let run = async |arguments: &[&str]| command(arguments).output().await.unwrap();
    let text = format!(
        "{good}: ok with the default limits; ABI 0, 1 function, 64.0 KiB of memory, exports \
         memory, poll, imports env.wasm_write_output\n"
    );
    check(run(&["check", &good]).await, 0, &text, "");
    let text = format!(
        "{text}{bad}: bad with the default limits; it is WebAssembly text\n  translate it with \
         `wat2wasm FILE` and copy the result\n{absent}: bad; No such file or directory (os error \
         2)\n"
    );
    check(run(&["check", &good, &bad, &absent]).await, 1, &text, "");
    let output = run(&["check", "--json", &good, &bad, &toml]).await;
    assert_eq!(output.status.code(), Some(78), "a broken configuration outweighs the rest");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found[0]["ok"], true);
    assert_eq!(found[0]["kind"], "module");
    assert_eq!(found[0]["report"]["abi"], 0);
    assert_eq!(found[1]["refusal"]["reason"], "it is WebAssembly text");
    assert_eq!(found[2]["kind"], "config");
    assert_eq!(found[2]["ok"], false);
}

#[tokio::test]
async fn the_command_line_teaches_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| {
        command(arguments).current_dir(folder.path()).output().await.unwrap()
    };
    let output = run(&[]).await;
    let error = "error: there is no config/camshaft.toml in this folder; name a configuration with \
                 `camshaft run FILE`, or see `camshaft --help`\n";
    check(output, 2, "", error);
    for wrong in [&["explode"][..], &["set", "x", "full"], &["fault", "x"], &["hold"], &["reset"]] {
        assert_eq!(run(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let output = run(&["--help"]).await;
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for part in ["deploy tank.wasm", "69  no daemon can be reached", "CAMSHAFT_SOCKET"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    let script = String::from_utf8(run(&["completions", "bash"]).await.stdout).unwrap();
    assert!(script.contains("deploy"), "{script}");
    let page = String::from_utf8(run(&["man"]).await.stdout).unwrap();
    assert!(page.contains(".TH camshaft 1"), "{page}");
    assert_eq!(run(&["man", "--dir", "."]).await.status.code(), Some(0));
    let mut page = String::new();
    let file = std::fs::File::open(folder.path().join("camshaft-deploy.1"));
    file.unwrap().read_to_string(&mut page).unwrap();
    assert!(page.contains("timeout"), "{page}");
}
