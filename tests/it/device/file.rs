//! Tests of the file driver: each point is a file whose text is a number, for example in `/sys`.
//!
//! The tests check values that change, files that are removed or contain no number, and files that
//! give no answer. They also check that a failed write is repeated.

use std::fs;
use std::time::Duration;

use camshaft::driver::Fault;
use camshaft::process::image::{Quality, Value};

use super::{Bench, reports};

/// A sensor, a switch, a fan and a lamp in a folder.
fn bench(folder: &std::path::Path) -> Bench {
    for (name, text) in [("temp", "42500\n"), ("door", "1"), ("pwm", "0"), ("led", "0")] {
        fs::write(folder.join(name), text).unwrap();
    }
    Bench::open(&toml(folder))
}

fn toml(folder: &std::path::Path) -> String {
    let at = |name: &str| format!("at = {{ path = {:?} }}", folder.join(name));
    format!(
        r#"
        [[device]]
        name = "board"
        driver = "file"
        period = "5ms"
        point = [
          {{ name = "temp", direction = "in", type = "i32", scale = 0.001, stale_after = "200ms",
             bad_after = "400ms", {} }},
          {{ name = "door", direction = "in", type = "bool", {} }},
          {{ name = "fan", direction = "out", type = "u8", safe = 255, {} }},
          {{ name = "lamp", direction = "out", type = "bool", {} }},
        ]
        "#,
        at("temp"),
        at("door"),
        at("pwm"),
        at("led")
    )
}

#[test]
fn numbers_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path());
    assert_eq!(bench.input("temp"), (Value::Real(0.0), Quality::Waiting));
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("pwm"), "0", "nothing is written before the first cycle");
    bench.until("both are read", |bench| {
        bench.input("temp") == (Value::Real(42.5), Quality::Good)
            && bench.input("door") == (Value::Bool(true), Quality::Good)
    });
    bench.until("safe outputs are confirmed", |bench| bench.driver.is_confirmed());
    assert_eq!((text("pwm"), text("led")), ("255\n".into(), "0\n".into()));
    bench.output("fan", Value::Int(7));
    bench.output("lamp", Value::Bool(true));
    bench.cycle();
    assert!(!bench.is_confirmed("fan"), "the file cannot have it yet");
    bench.until("the files have it", |bench| bench.driver.is_confirmed());
    assert_eq!(text("led"), "1\n");
    assert!(text("pwm").starts_with("7\n"));
}

#[test]
fn what_is_no_number_or_is_gone_keeps_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path());
    let temp = folder.path().join("temp");
    bench.until("it is read", |bench| bench.input("temp").1 == Quality::Good);
    fs::write(&temp, "hot").unwrap();
    bench.until("it is no number", |bench| bench.input("temp").1 == Quality::Sensor);
    assert_eq!(bench.input("temp").0, Value::Real(42.5));
    assert_eq!(bench.input("door"), (Value::Bool(true), Quality::Good));
    fs::remove_file(&temp).unwrap();
    bench.until("it is gone", |bench| bench.input("temp").1 == Quality::NoComm);
    assert_eq!((bench.input("temp").0, bench.fault), (Value::Real(42.5), None));
    fs::write(&temp, "-1000").unwrap();
    bench.until("it is back", |bench| bench.input("temp") == (Value::Real(-1.0), Quality::Good));
    fs::remove_dir_all(folder.path()).unwrap();
    bench.output("fan", Value::Int(9));
    bench.until("all is gone", |bench| bench.fault == Some(Fault::Disconnected));
    assert!(!bench.is_confirmed("fan"));
}

#[test]
fn a_chip_may_have_another_number_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let toml = toml(folder.path()).replace("/temp\"", "/hwmon*/temp\"");
    let mut bench = Bench::open(&toml);
    let chip = |n| folder.path().join(format!("hwmon{n}"));
    let write = |n, text: &str| {
        fs::create_dir_all(chip(n)).unwrap();
        fs::write(chip(n).join("temp"), text).unwrap();
    };
    write(1, "1000");
    bench.until("it is read", |bench| bench.input("temp") == (Value::Real(1.0), Quality::Good));
    fs::rename(chip(1), chip(7)).unwrap();
    write(7, "2000");
    bench.until("it is found", |bench| bench.input("temp") == (Value::Real(2.0), Quality::Good));
    write(8, "3000");
    bench.until("there are two", |bench| bench.input("temp").1 == Quality::Config);
    assert_eq!(bench.input("temp").0, Value::Real(2.0));
}

#[test]
fn a_file_that_hangs_costs_only_its_own_point() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path());
    bench.until("it is read", |bench| bench.input("temp").1 == Quality::Good);
    // Whoever opens a pipe that nobody writes to waits for ever.
    let temp = folder.path().join("temp");
    fs::remove_file(&temp).unwrap();
    nix::unistd::mkfifo(&temp, nix::sys::stat::Mode::S_IRWXU).unwrap();
    bench.until("it is stale", |bench| bench.input("temp").1 == Quality::Stale);
    bench.until("it is bad", |bench| bench.input("temp").1 == Quality::NoComm);
    fs::write(folder.path().join("door"), "0").unwrap();
    bench.until("the other one goes on", |bench| {
        bench.input("door") == (Value::Bool(false), Quality::Good)
    });
    let (started, dropped) = (std::time::Instant::now(), bench);
    drop(dropped);
    assert!(started.elapsed() < Duration::from_secs(3), "nobody waits for it");
}

/// What the status says of a point.
fn state(bench: &Bench, name: &str) -> String {
    let parts = bench.monitor.parts();
    parts.into_iter().find(|part| part.name == name).map(|part| part.state).unwrap_or_default()
}

/// A file system that gives no answer at all, not even to a question about the file.
#[test]
#[ignore = "needs root for FUSE"]
fn a_file_below_a_mount_that_hangs_is_opened_again_after_the_unmount() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("with a blank");
    fs::create_dir(&files).unwrap();
    for (name, text) in [("temp", "1000"), ("door", "1"), ("pwm", "0"), ("led", "0")] {
        fs::write(files.join(name), text).unwrap();
    }
    let server = crate::daemon::Server::start(files.clone(), "");
    let mut bench = Bench::open(&toml(&files));
    bench.until("all is read and written", |bench| {
        bench.input("temp") == (Value::Real(1.0), Quality::Good) && bench.driver.is_confirmed()
    });
    server.share().hang();
    bench.until("it hangs", |bench| state(bench, "temp").contains("does not answer"));
    bench.pass(Duration::from_secs(1));
    let umount = std::process::Command::new("umount").arg("-l").arg(&files).status();
    assert!(umount.unwrap().success());
    // The folder below the mount is there again.
    fs::write(files.join("temp"), "2000").unwrap();
    bench.until("the new file is read", |bench| {
        bench.input("temp") == (Value::Real(2.0), Quality::Good)
    });
}

/// A file whose reader or writer hangs, and then another file takes its place in one step.
#[test]
fn a_hanging_file_that_is_replaced_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path());
    bench.until("all is read and written", |bench| {
        bench.input("temp").1 == Quality::Good && bench.driver.is_confirmed()
    });
    let path = |name: &str| folder.path().join(name);
    for round in 1..3 {
        for name in ["temp", "pwm"] {
            nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            fs::rename(path("pipe"), path(name)).unwrap();
        }
        bench.until("both hang", |bench| {
            ["temp", "fan"].iter().all(|name| state(bench, name).contains("does not answer"))
        });
        assert!(!bench.is_confirmed("fan"));
        for (name, text) in [("temp", format!("{round}000\n")), ("pwm", "0".into())] {
            fs::write(path("file"), text).unwrap();
            fs::rename(path("file"), path(name)).unwrap();
        }
        bench.until("the new files are opened", |bench| {
            let temp = bench.input("temp");
            temp == (Value::Real(f64::from(round)), Quality::Good) && bench.is_confirmed("fan")
        });
        assert_eq!(fs::read_to_string(path("pwm")).unwrap(), "255\n");
    }
}

#[test]
fn numbers_are_read_as_programs_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("at = {{ path = {:?} }}", folder.path().join(name));
    let mut bench = Bench::open(&format!(
        r#"
        [[device]]
        name = "board"
        driver = "file"
        period = "5ms"
        point = [
          {{ name = "temp", direction = "in", type = "f64", unit = "°C", {} }},
          {{ name = "on", direction = "in", type = "bool", {} }},
          {{ name = "count", direction = "in", type = "u8", {} }},
        ]
        "#,
        at("temp"),
        at("on"),
        at("count"),
    ));
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join("new"), text).unwrap();
        fs::rename(folder.path().join("new"), folder.path().join(name)).unwrap();
    };
    let mut good = |name: &str, text: &str, expected: Value| {
        write(name, text);
        bench.until(text, |bench| bench.input(name) == (expected, Quality::Good));
    };
    good("temp", "45.2 C\n", Value::Real(45.2));
    good("temp", "\r\n+46.5°C\r\n", Value::Real(46.5));
    for (off, on) in [("N", "Y\n"), ("disabled\n", "enabled\n"), ("Off", "ON"), ("no", "yes")] {
        good("on", off, Value::Bool(false));
        good("on", on, Value::Bool(true));
    }
    good("count", "0x1f\n", Value::Int(31));
    good("count", "23.000000\n", Value::Int(23));
    good("count", "7\0", Value::Int(7));
    let mut bad = |name: &str, text: &str, expected: &str| {
        let last = bench.input(name).0;
        write(name, text);
        bench.until(text, |bench| {
            bench.input(name) == (last, Quality::Sensor) && state(bench, name).ends_with(expected)
        });
    };
    bad("temp", "45,2 C\n", "and not a comma before its fraction, found \"45,2 C\"");
    bad("temp", "113.4 F\n", "expected a number in the unit of the point, °C, found \"113.4 F\"");
    bad("on", "unknown\n", "or a whole number for type bool, found \"unknown\"");
    bad("count", "12abc", "found \"12abc\"");
    bad("count", "23.5", "expected a whole number that fits type u8, found \"23.5\"");
    bad("count", "12 error", "found \"12 error\"");
    bad("count", "1 2\n3", "found \"1 2\"");
    bad("count", "", "expected a number of type u8, found nothing");
}

#[test]
fn a_number_is_there_as_soon_as_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("temp"), "1000").unwrap();
    let mut bench = Bench::open(&toml(folder.path()).replace("5ms", "1h"));
    bench.until("it is read", |bench| bench.input("temp") == (Value::Real(1.0), Quality::Good));
}

/// A file of outputs is written without truncation, and may be read as an input, too.
#[test]
fn a_number_is_the_first_line_and_is_never_cut() {
    let folder = tempfile::tempdir().unwrap();
    let pwm = format!("{:?}", folder.path().join("pwm"));
    let door = format!("{:?}", folder.path().join("door"));
    fs::write(folder.path().join("pwm"), "0").unwrap();
    let toml = toml(folder.path()).replace(&door, &pwm);
    let toml =
        toml.replace("direction = \"in\", type = \"bool\"", "direction = \"in\", type = \"u8\"");
    let mut bench = Bench::open(&toml);
    let has = |bench: &mut Bench, value| bench.input("door") == (Value::Int(value), Quality::Good);
    bench.until("the safe value is read", |bench| has(bench, 255));
    bench.output("fan", Value::Int(7));
    bench.until("the shorter one is read", |bench| has(bench, 7));
    // Its first 64 bytes are another number.
    let long = format!("{}5", "0".repeat(64));
    fs::write(folder.path().join("temp"), &long[1..]).unwrap();
    let temp = |bench: &Bench| bench.input("temp");
    bench.until("64 are read", |bench| temp(bench) == (Value::Real(0.005), Quality::Good));
    fs::write(folder.path().join("temp"), long + "\n").unwrap();
    bench.until("65 are too many", |bench| temp(bench).1 == Quality::Sensor);
    assert_eq!(temp(&bench).0, Value::Real(0.005));
}

/// How often the thread of a device has begun to wait.
fn waits(device: &str) -> u64 {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten().map(|thread| thread.path());
    let is_its = |folder: &std::path::PathBuf| {
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        name.trim_end() == format!("dev {device}")
    };
    let folder = threads.into_iter().find(is_its).unwrap();
    let status = fs::read_to_string(folder.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// A write costs something when it begins and when it ends, not in between or ever again.
#[test]
fn a_write_that_fails_or_hangs_keeps_nobody_busy() {
    const TIME: Duration = Duration::from_secs(1);
    let check = |device: &str, prepare: fn(&std::path::Path)| {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("\"{device}\"");
        let toml = toml(folder.path()).replace("\"board\"", &name).replace("5ms", "1h");
        fs::write(folder.path().join("led"), "0").unwrap();
        prepare(&folder.path().join("pwm"));
        let mut bench = Bench::open(&toml);
        bench.until("the other one is there", |bench| bench.is_confirmed("lamp"));
        let before = waits(device);
        bench.pass(TIME);
        assert!(!bench.is_confirmed("fan"));
        let waits = waits(device) - before;
        println!("{device}: the thread waits {waits} times in {TIME:?}");
        assert!(waits < 100, "{device}: {waits} times in {TIME:?}");
    };
    check("fails", |_| {});
    check("hangs", |pwm| nix::unistd::mkfifo(pwm, nix::sys::stat::Mode::S_IRWXU).unwrap());
}

#[test]
fn another_value_is_written_at_once_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(&toml(folder.path()).replace("5ms", "1h"));
    let pwm = folder.path().join("pwm");
    let fails = |bench: &Bench| bench.monitor.parts().iter().any(|p| p.name == "fan" && !p.ok);
    bench.until("it cannot be written", |bench| fails(bench));
    let started = std::time::Instant::now();
    for n in 0..5 {
        fs::write(&pwm, "0").unwrap();
        bench.output("fan", Value::Int(2 * n));
        bench.until("it is written", |bench| bench.is_confirmed("fan"));
        fs::remove_file(&pwm).unwrap();
        bench.output("fan", Value::Int(2 * n + 1));
        bench.cycle();
        bench.until("it fails again", |bench| fails(bench) && !bench.is_confirmed("fan"));
    }
    // An attempt that nothing has called for comes every second.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    fs::write(&pwm, "0").unwrap();
    bench.until("it comes without being called", |bench| bench.is_confirmed("fan"));
}

#[test]
fn an_output_is_written_again_when_its_file_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path());
    let pwm = folder.path().join("pwm");
    let has_it = || fs::read_to_string(&pwm).is_ok_and(|text| text == "255\n");
    bench.until("it is there", |bench| bench.driver.is_confirmed());
    // In one step, as a device that is bound again is faster than anybody looks.
    fs::write(folder.path().join("new"), "0").unwrap();
    fs::rename(folder.path().join("new"), &pwm).unwrap();
    bench.until("the new one has it", |bench| has_it() && bench.driver.is_confirmed());
    fs::remove_file(&pwm).unwrap();
    bench.until("it is gone", |bench| !bench.is_confirmed("fan"));
    assert!(bench.is_confirmed("lamp"));
    fs::write(&pwm, "0").unwrap();
    bench.until("it is back", |bench| has_it() && bench.driver.is_confirmed());
    // A file system may give the same number to the next file.
    fs::remove_file(&pwm).unwrap();
    fs::write(&pwm, "0").unwrap();
    bench.until("it is the next one", |bench| has_it() && bench.driver.is_confirmed());
}

#[test]
fn mistakes_name_the_point() {
    let folder = tempfile::tempdir().unwrap();
    let good = toml(folder.path());
    let check = |text: &str, expected: &str| {
        let problems = camshaft::config::parse(text, std::path::Path::new("f.toml")).unwrap_err();
        assert!(reports(&problems.to_string(), expected), "{problems}\nnot: {expected}");
    };
    let path = format!("{:?}", folder.path().join("temp"));
    check(&good.replace(&path, "\"temp\""), "f.toml:8: device[board].point[temp].at.path: found");
    check(&good.replace(&path, "\"/a*/b*\""), "expected a path with at most one `*`, found /a*/b*");
    check(&good.replace(&path, "7"), "device[board].point[temp].at.path: found");
    check(&good.replace(&format!("{{ path = {path} }}"), "{ pth = 1 }"), "did you mean `path`?");
    check(&good.replace("5ms", "0s"), "device[board].period: expected from 1ms, found 0ns");
    let bare = good.replace(&format!("at = {{ path = {path} }}"), "");
    check(&bare, "device[board].point[temp].at: expected { path, found nothing");
}
