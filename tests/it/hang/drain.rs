//! Test of a journald that does not read its socket when the daemon starts.
//!
//! At its start the daemon checks whether journald listens at this socket. The check must not wait
//! for free space in the socket. A journald that hangs later is tested in `hang/log.rs`.

use std::os::unix::net::UnixDatagram;

use super::binary::Started;
use super::log::{beside, journal_of};
use super::plant;

/// The start found out whether anybody reads there by a datagram, and waited for its room.
#[test]
#[ignore = "needs root: it mounts"]
fn a_journal_that_is_not_read_makes_no_start_wait() {
    let plant = plant();
    let _journal = journal_of(&plant);
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b".", plant.path("journal")).is_ok() {}
    let daemon = Started::by(beside(&plant.path("journal")), plant);
    assert!(!daemon.has_said(&["journald"]), "somebody is there, though not reading");
    daemon.ends(&[]);
}
