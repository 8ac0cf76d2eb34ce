//! Tests of the births of a node: their order, their numbers, and the pause between two births.
//!
//! These tests use no broker. The tests with a real broker are in `tests/it/device/mqtt.rs`.

use rumqttc::{AsyncClient, MqttOptions};

use super::*;
use crate::driver::mqtt::client::Client;
use crate::driver::mqtt::line::{Ledger, QUEUE};
use crate::driver::mqtt::publish::Rule;

/// Makes a node with a device, and with one metric of this name.
fn node(name: &str, metric: &str) -> Node {
    let config = Config {
        group: "sparkplug/tests.rs".into(),
        node: name.into(),
        device: Some("plc".into()),
        primary_host: None,
    };
    let rule = Rule::Change { deadband: 0.0, min_interval: Duration::ZERO, refresh: None };
    Node::new(config, vec![Item::new(metric, metric, rule)])
}

/// Returns the bdSeq number in the will.
fn death(node: &mut Node) -> Option<Held> {
    let will = node.will().unwrap();
    Payload::decode(&*will.message).unwrap().metrics[0].value
}

#[test]
fn no_two_connections_of_a_node_have_the_same_number() {
    let (mut old, number) = (node("a", "x"), |number| Some(Held::Long(number)));
    assert_eq!([death(&mut old), death(&mut old)], [number(0); 2], "the number was not sent yet");
    old.next_session();
    assert_eq!(death(&mut old), number(1));
    // After a reload, the new node exists while the old node is still connected.
    let mut new = node("a", "x");
    assert_eq!(death(&mut new), number(2));
    new.next_session();
    assert_eq!(death(&mut new), number(3));
    assert_eq!(death(&mut old), number(1));
    assert_eq!(death(&mut node("b", "x")), number(0));
}

/// The parts that a node needs to send messages. The client has no broker, so it never sends a
/// message.
struct Desk {
    client: Client,
    ledger: Ledger,
    _events: rumqttc::EventLoop,
}

impl Desk {
    fn new() -> Self {
        let options = MqttOptions::new("c", rumqttc::Broker::tcp("127.0.0.1", 1));
        let (client, events) = AsyncClient::builder(options).capacity(2 * QUEUE).build();
        let client = Client::V5(client);
        Self { client, ledger: Ledger::default(), _events: events }
    }

    fn line(&mut self) -> Line<'_> {
        Line { client: &self.client, ledger: &mut self.ledger }
    }
}

/// Returns an export of cycle 1 without points.
fn export() -> Export {
    Export { cycle: 1, ..Export::default() }
}

#[test]
fn a_birth_is_said_whole_or_not_at_all() {
    let (mut desk, mut node, now) = (Desk::new(), node("c", "none"), Instant::now());
    for _ in 1..QUEUE {
        let other = Outgoing { topic: "other", qos: 0, retain: false, payload: vec![] };
        assert!(desk.line().send(other));
    }
    let before = desk.ledger.published;
    // The queue has room for the NBIRTH, but no room for the DBIRTH after the NBIRTH.
    assert_eq!(node.speak(&mut desk.line(), &export(), now), Some(now + FULL));
    assert_eq!((desk.ledger.published, &node.born), (before, &None));
    desk.ledger.sent(&rumqttc::Outgoing::Publish(0));
    assert_eq!(node.speak(&mut desk.line(), &export(), now), None);
    assert_eq!((desk.ledger.published, node.seq), (before + 2, 2));
    assert_eq!(node.born, Some(vec![None]));
}

#[test]
fn a_name_that_nothing_has_waits_for_no_room() {
    let (mut desk, mut node, now) = (Desk::new(), node("d", "none"), Instant::now());
    assert_eq!(node.unsaid(), 1, "the node has not searched for the name yet");
    node.speak(&mut desk.line(), &export(), now);
    assert_eq!((node.unsaid(), node.parts().len()), (0, 1));
}

#[test]
fn births_are_a_second_apart() {
    let (mut desk, mut node, start) = (Desk::new(), node("e", "none"), Instant::now());
    let mut births = 0;
    for ms in (0..3500).step_by(10) {
        let now = start + Duration::from_millis(ms);
        // A host requests another birth all the time.
        node.born = None;
        let before = desk.ledger.published;
        let next = node.speak(&mut desk.line(), &export(), now);
        births += u64::from(desk.ledger.published > before);
        assert!(next.is_none_or(|next| next > now));
    }
    assert_eq!(births, 4);
    // The first message on the next connection is a birth, without the pause of one second.
    node.forget();
    let before = desk.ledger.published;
    node.speak(&mut desk.line(), &export(), start + Duration::from_millis(3500));
    assert_eq!(desk.ledger.published, before + 2);
}
