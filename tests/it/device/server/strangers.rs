//! Clients of whom the server has to defend itself: too many, silent, slow, not invited, or with
//! bytes that are no Modbus. None of them costs the others anything.
//!
//! What it answers to requests that are whole is in `value.rs`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Raw, SCADA, SOUND, fact, open, parts};
use crate::device::PATIENCE;

#[test]
fn there_is_room_for_so_many() {
    let (mut bench, port) = open(SCADA);
    let mut clients: Vec<_> = (0..3).map(|_| Raw::connect(port)).collect();
    for client in &mut clients {
        assert_eq!(client.registers(4, 32, 1), Ok(vec![2]));
    }
    for _ in 0..5 {
        assert_eq!(Raw::connect(port).answer(), None, "too many clients");
    }
    bench.until("it is counted", |bench| fact(bench, "turned_away") == 5.0);
    assert_eq!(parts(&bench)[0].state, "3 of 3 clients");
    assert_eq!(clients[2].registers(4, 32, 1), Ok(vec![2]), "the others notice nothing");
    // Whoever leaves and comes again at once finds his place.
    for _ in 0..200 {
        clients.pop();
        clients.push(Raw::connect(port));
        assert_eq!(clients[2].registers(4, 32, 1), Ok(vec![2]));
    }
    drop(clients);
    bench.until("all have left", |bench| parts(bench)[0].state == "0 of 3 clients");
}

#[test]
fn the_silent_and_the_slow_are_cut_off() {
    let (mut bench, port) = open(&SCADA.replace("\"60s\"", "\"300ms\""));
    let (mut silent, mut slow, mut deaf) =
        (Raw::connect(port), Raw::connect(port), Raw::connect(port));
    let started = Instant::now();
    // A byte now and then is no request.
    let mut header = [0xca, 0xfe, 0, 0, 0, 6, 1, 4, 0, 32, 0, 1].into_iter();
    while started.elapsed() < Duration::from_millis(200) {
        if let Some(byte) = header.next() {
            slow.0.write_all(&[byte]).unwrap();
        }
        bench.pass(Duration::from_millis(50));
    }
    assert_eq!(silent.answer(), None);
    assert_eq!(slow.answer(), None);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // Whoever asks and never reads fills the buffers, and then waits in vain.
    deaf.0.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let request = [0xca, 0xfe, 0, 0, 0, 6, 1, 4, 0, 32, 0, 1].repeat(100);
    while deaf.0.write_all(&request).is_ok() {}
    bench.until("all are cut off", |bench| fact(bench, "cut_off") == 3.0);
    assert_eq!(parts(&bench)[0].state, "0 of 3 clients");
    assert_eq!(Raw::connect(port).registers(4, 32, 1), Ok(vec![2]));
}

#[test]
fn strangers_are_turned_away() {
    let allow = "unit = 1\nallow = [\"127.0.0.2\", \"10.0.0.0/8\"]";
    let (mut bench, port) = open(&SCADA.replace("unit = 1", allow));
    assert_eq!(Raw::connect(port).answer(), None);
    bench.until("it is counted", |bench| fact(bench, "turned_away") == 1.0);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let mut friend = Raw(socket.into());
    friend.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(friend.registers(4, 32, 1), Ok(vec![2]));
}

#[test]
fn hostile_bytes_cost_only_their_connection() {
    let (mut bench, port) = open(SCADA);
    SOUND.show(&bench);
    let mut friend = Raw::connect(port);
    let mut random = fastrand::Rng::with_seed(20_261_126);
    let mut ends = 0;
    for _ in 0..400 {
        let mut hostile = Raw::connect(port);
        // Half of them look like Modbus at first.
        if random.bool() {
            let length = random.u8(..);
            let function = random.choice([1, 3, 5, 6, 15, 16, 23, 43]).unwrap();
            hostile.0.write_all(&[0xca, 0xfe, 0, 0, 0, length, 1, function]).unwrap();
        }
        let bytes: Vec<u8> = (0..random.usize(..600)).map(|_| random.u8(..)).collect();
        // It may have hung up already.
        let _ = hostile.0.write_all(&bytes);
        let _ = hostile.0.shutdown(std::net::Shutdown::Write);
        let mut answers = Vec::new();
        ends += u32::from(hostile.0.read_to_end(&mut answers).is_ok());
        assert_eq!(friend.registers(4, 4, 1), Ok(vec![425]));
    }
    assert!(ends > 0, "all were reset");
    bench.until("all have left", |bench| parts(bench)[0].state == "1 of 3 clients");
    assert!(fact(&bench, "cut_off") > 100.0, "{:?}", parts(&bench));
    assert_eq!(bench.fault, None);
    for header in [[0xca, 0xfe, 0, 1, 0, 6, 1], [0xca, 0xfe, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 0, 1]]
    {
        let mut raw = Raw::connect(port);
        raw.0.write_all(&header).unwrap();
        assert_eq!(raw.answer(), None, "{header:?}");
    }
}

#[test]
fn whoever_floods_waits_and_the_others_do_not() {
    let (_bench, port) = open(SCADA);
    let flood = std::thread::spawn(move || {
        let mut raw = Raw::connect(port);
        let started = Instant::now();
        for _ in 0..20 {
            (0..100).for_each(|_| raw.send(1, &[4, 0, 32, 0, 1]));
            (0..100).for_each(|_| assert_eq!(raw.answer(), Some(vec![4, 2, 0, 2])));
        }
        started.elapsed()
    });
    let mut friend = Raw::connect(port);
    let mut asked = 0;
    while !flood.is_finished() {
        assert_eq!(friend.registers(4, 32, 1), Ok(vec![2]));
        asked += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let lasted = flood.join().unwrap();
    assert!(lasted > Duration::from_millis(1900), "2000 requests in {lasted:?}");
    assert!(asked > 20, "{asked} requests in {lasted:?}");
}
