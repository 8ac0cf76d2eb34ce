//! Tests of the sandbox of the compile worker, a child process that compiles untrusted modules.
//!
//! The worker gives up its rights before it gets a job. One test reads these limits from `/proc`.
//! The other tests let a worker try what it must not reach, and check that the kernel refuses each
//! attempt.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use camshaft::plugin::module::compile::{CompileService, WORKER_VERB};
use camshaft::plugin::{Compiler, Limits, ModuleHash};

use crate::daemon::{LIMIT, wait};
use crate::rig::{block_on, compile_service, wat};

#[test]
fn a_worker_is_confined_before_it_has_its_job() {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_camshaft"))
        .arg(WORKER_VERB)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let about = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", worker.id())).unwrap();
    // The second filter is the last step.
    let status = wait("the last step", LIMIT, || {
        let status = about("status");
        status.contains("Seccomp_filters:\t2").then_some(status)
    });
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(about("oom_score_adj"), "1000\n");
    let limits = about("limits");
    for (name, soft, hard) in [
        ("Max cpu time", "20", "21"),
        ("Max address space", "1073741824", "1073741824"),
        ("Max file size", "0", "0"),
        ("Max core file size", "0", "0"),
        ("Max open files", "8", "8"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let found: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(found, [soft, hard], "{name}");
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn a_worker_can_reach_nothing_that_it_was_not_given() {
    let mut open = block_on(compile_service(Limits::default()).confinement());
    println!("{open:?}");
    // A kernel may be without it. What it forbids, seccomp forbids as well.
    open.retain(|gap| !gap.starts_with("landlock: "));
    assert!(open.is_empty(), "{open:?}");
}

/// The kernel applies the limit of threads to everybody but root, so this runs as somebody else.
#[test]
fn a_worker_that_is_not_root_has_the_threads_that_it_needs() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: every other test that compiles shows the same");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_camshaft"), path("camshaft")).unwrap();
    let script = format!(
        "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {} \"$@\"\n",
        path("camshaft").display()
    );
    fs::write(path("worker"), script).unwrap();
    for name in ["camshaft", "worker"] {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Functions of several types: the code between host and guest is made beside that of functions.
    let module =
        wat(r#"(module (func (export "poll")) (func (param i32) (result f64) (f64.const 1))
        (func (param f32 i64) (result i32) (i32.const 1)))"#);
    for compiler in [Compiler::Cranelift, Compiler::Singlepass] {
        let compile_service = CompileService {
            program: path("worker"),
            compiler,
            ..compile_service(Limits::default())
        };
        let artifact = compile_service.artifact(ModuleHash::of(&module), module.clone().into());
        block_on(artifact).unwrap_or_else(|why| panic!("{compiler:?}: {why}"));
        assert_eq!(block_on(compile_service.check(&module)).unwrap().functions, 3);
        assert_eq!(block_on(compile_service.confinement()), [""; 0]);
    }
}
