//! Tests of hosts with several addresses, some of which swallow every packet.
//!
//! The name `two.test` exists only in these tests: a library in C, loaded before the C library of
//! the process, answers for the resolver. It is built with the C compiler that also links Rust.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use super::Bench;
use super::modbus::desk::{Asked, Desk, Frames};

/// A resolver that knows 127.0.0.2 and then 127.0.0.1 under the name `two.test`.
const RESOLVER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    struct addrinfo *first, *last, *second;
    if (!name || strcmp(name, "two.test"))
        return real(name, service, hints, found);
    if (real("127.0.0.2", service, hints, &first) || real("127.0.0.1", service, hints, &second))
        return EAI_FAIL;
    for (last = first; last->ai_next; last = last->ai_next) {}
    last->ai_next = second;
    *found = first;
    return 0;
}
"#;

fn resolver(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("resolver.c"), folder.join("resolver.so"));
    fs::write(&source, RESOLVER).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    library
}

/// Takes an address of a port, and swallows what is sent to it: the queue of the listener is full.
fn swallow(address: SocketAddr) -> Vec<Socket> {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut queue = vec![socket()];
    queue[0].bind(&address.into()).unwrap();
    queue[0].listen(0).unwrap();
    for _ in 0..4 {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        queue.push(client);
    }
    queue
}

/// What a request of the command line prints, and what it says when it fails.
fn read(resolver: &Path, port: u16) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camshaft"));
    command.args(["modbus", "read", &format!("tcp://two.test:{port}"), "holding", "7"]);
    let done = command.env("LD_PRELOAD", resolver).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&done.stdout), text(&done.stderr))
}

#[test]
fn a_silent_address_leaves_time_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let resolver = resolver(folder.path());
    let desk = Desk::open(Frames::Tcp, |asked: &Asked| asked.sound(|address| address));
    let port = desk.url().rsplit(':').next().unwrap().parse().unwrap();
    let _silent = swallow(SocketAddr::from(([127, 0, 0, 2], port)));
    let (printed, said) = read(&resolver, port);
    assert!(printed.contains("0007"), "{printed}{said}");
}

#[test]
fn each_address_is_named_with_its_failure() {
    let folder = tempfile::tempdir().unwrap();
    let resolver = resolver(folder.path());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    let _silent = swallow(SocketAddr::from(([127, 0, 0, 2], port)));
    drop(closed);
    let expected = format!(
        "error: tcp://two.test:{port}: 127.0.0.1:{port}: Connection refused (os error 111); \
         127.0.0.2:{port}: no answer within connect_timeout\n"
    );
    assert_eq!(read(&resolver, port), (String::new(), expected));
}

/// MQTT has its own limit in its library, which knows no addresses.
#[test]
fn a_broker_that_is_not_reached_is_named_too() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = SocketAddr::from(([127, 0, 0, 2], closed.port()));
    let _silent = swallow(silent);
    let check = |address: SocketAddr, expected: &str| {
        let mut bench = Bench::open(&format!(
            r#"
            [[device]]
            name = "broker"
            driver = "mqtt"
            connect = "mqtt://{address}"
            client_id = "c"
            connect_timeout = "1s"
            [[device.point]]
            name = "r"
            direction = "in"
            type = "f64"
            at = {{ topic = "a", expires = "10s" }}
            "#
        ));
        let expected = format!("{address}: {expected}");
        bench.until("it is told", |bench| {
            bench.monitor.parts().iter().any(|part| part.state.contains(&expected))
        });
    };
    check(closed, "Connection refused (os error 111)");
    check(silent, "no answer within connect_timeout");
}
