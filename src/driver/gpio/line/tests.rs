//! Tests of one line: the plan from its configuration, and its values from levels and edges.
//!
//! The tests pass levels and edges as numbers, so they need no GPIO hardware.

use std::sync::Arc;

use gpiocdev::line::EdgeKind;

use super::*;
use crate::driver::gpio::{Board, Config, Drive};
use crate::process::image::Points;

/// Plans one point with this key `at`.
fn plan(direction: Direction, kind: PointKind, at: LineAddress) -> Result<Line, OpenError> {
    Line::plan(PointId(0), &Point::new("p", direction, kind), &at)
}

fn at_17() -> LineAddress {
    LineAddress { line: Some("GPIO17".into()), ..LineAddress::default() }
}

fn input(mode: Mode, edge: Edge) -> Line {
    let kind = if mode == Mode::Counter { PointKind::U32 } else { PointKind::Bool };
    plan(Direction::In, kind, LineAddress { mode: Some(mode), edge: Some(edge), ..at_17() })
        .unwrap()
}

fn event(line_seqno: u32) -> EdgeEvent {
    EdgeEvent { timestamp_ns: 0, kind: EdgeKind::Rising, offset: 17, seqno: 0, line_seqno }
}

#[test]
fn a_pulse_is_shown_until_a_whole_cycle_has_seen_it() {
    fn check(edge: Edge, rest: bool) {
        let mut line = input(Mode::Latched, edge);
        let seen = |line: &mut Line, beats| line.sense(rest, beats)[0] != u8::from(rest);
        assert!(!seen(&mut line, 7), "no edge has occurred yet");
        // The whole pulse occurs between two reads of the level.
        line.edge(&event(1));
        assert!(seen(&mut line, 7));
        // The scan wrote while the pulse was published. The read of that cycle was before the
        // publication.
        line.published(8);
        assert!(seen(&mut line, 8));
        assert!(seen(&mut line, 9), "the cycle of this beat may have read earlier");
        assert!(!seen(&mut line, 10), "the cycle of this beat has read the pulse");
        line.published(10);
        // A second pulse arrives while the first pulse is shown. The count of two beats starts
        // again.
        for n in [2, 3] {
            line.edge(&event(n));
            assert!(seen(&mut line, 8 + u64::from(n)));
            line.published(8 + u64::from(n));
        }
        assert!(seen(&mut line, 12));
        assert!(!seen(&mut line, 13));
    }
    check(Edge::Rising, false);
    check(Edge::Falling, true);
}

#[test]
fn a_scan_that_stands_still_misses_no_pulse() {
    let mut line = input(Mode::Latched, Edge::Rising);
    line.edge(&event(1));
    for _ in 0..1000 {
        assert_eq!(line.sense(false, 5)[0], 1);
        line.published(5);
    }
}

/// The kernel reported the edge, but the following read of the levels failed.
#[test]
fn a_pulse_that_was_not_sensed_counts_as_not_shown() {
    let mut line = input(Mode::Latched, Edge::Rising);
    line.edge(&event(1));
    line.published(5);
    assert_eq!(line.sense(false, 100)[0], 1);
    // Another edge is reported after the read of the levels and before the publication.
    line.edge(&event(2));
    line.published(100);
    assert_eq!(line.sense(false, 200)[0], 1);
    line.published(200);
    assert_eq!(line.sense(false, 202)[0], 0);
}

#[test]
fn edges_that_the_buffer_dropped_are_counted() {
    let mut line = input(Mode::Counter, Edge::Both);
    line.take();
    let count = |line: &mut Line| u32::from_le_bytes(line.sense(false, 0)[..4].try_into().unwrap());
    line.edge(&event(1));
    line.edge(&event(2));
    assert_eq!(count(&mut line), 2);
    line.edge(&event(1000));
    assert_eq!(count(&mut line), 1000);
    assert_eq!(line.dropped, 997);
    // The line is requested again after the chip was removed. The kernel counts from 1 again, but
    // the counter continues.
    line.take();
    line.edge(&event(3));
    assert_eq!(count(&mut line), 1003);
}

#[test]
fn a_counter_wraps_at_32_bits_and_tells_how_often() {
    let mut line = input(Mode::Counter, Edge::Rising);
    line.edge(&event(u32::MAX));
    line.edge(&event(0));
    line.edge(&event(1));
    assert_eq!(line.sense(false, 0), [1, 0, 0, 0, 0, 0, 0, 0]);
    let wraps = line.part().facts.into_iter().find(|(name, _)| name == "wraps");
    assert_eq!(wraps.unwrap().1, 1.0);
}

#[test]
fn a_latched_line_asks_for_one_sort_of_edge() {
    let asked = |mode, edge| input(mode, edge).config().edge_detection;
    assert_eq!(asked(Mode::Latched, Edge::Rising), Some(EdgeDetection::RisingEdge));
    assert_eq!(asked(Mode::Latched, Edge::Falling), Some(EdgeDetection::FallingEdge));
    assert_eq!(asked(Mode::Counter, Edge::Both), Some(EdgeDetection::BothEdges));
    let level = plan(Direction::In, PointKind::Bool, at_17()).unwrap();
    assert_eq!(level.config().edge_detection, Some(EdgeDetection::BothEdges));
}

#[test]
fn only_a_level_gives_up_edges_and_wants_them_again() {
    let at = LineAddress { debounce: Some(Duration::from_millis(1)), ..at_17() };
    let mut level = plan(Direction::In, PointKind::Bool, at).unwrap();
    assert!(level.give_up_edges());
    assert!(!level.give_up_edges(), "edge detection is off already");
    assert_eq!(level.config().edge_detection, None);
    assert_eq!(level.needs_edges(), Some("debounce"));
    level.want_edges();
    assert_eq!(level.config().edge_detection, Some(EdgeDetection::BothEdges));
    for mode in [Mode::Latched, Mode::Counter] {
        let mut line = input(mode, Edge::Rising);
        assert!(!line.give_up_edges());
        assert_eq!(line.config().edge_detection, Some(EdgeDetection::RisingEdge));
        assert_eq!(line.needs_edges(), Some("mode"));
    }
    let mut relay = plan(Direction::Out, PointKind::Bool, at_17()).unwrap();
    assert!(!relay.give_up_edges());
    assert_eq!(relay.needs_edges(), None);
}

#[test]
fn mistakes_name_the_key() {
    fn check(direction: Direction, kind: PointKind, at: LineAddress, expected: &str) {
        let error = plan(direction, kind, at).unwrap_err();
        assert_eq!(error.to_string(), format!("point[p].at{expected}"));
    }
    use Direction::{In, Out};
    let numbered = |chip: Option<&str>, offset| LineAddress {
        chip: chip.map(str::to_owned),
        offset,
        ..LineAddress::default()
    };
    let places = [
        (LineAddress::default(), ".line: nothing; `line`, or both `chip` and `offset`"),
        (numbered(Some("soc"), None), ".line: nothing; `line`, or both `chip` and `offset`"),
        (numbered(None, Some(3)), ".chip: nothing; the chip to which `offset` belongs"),
        (numbered(Some(""), Some(3)), ".chip: \"\"; a name of 1 to 31 bytes"),
        (
            LineAddress { offset: Some(3), ..at_17() },
            ".offset: both `line` and `offset`; either `line` or `offset`",
        ),
    ];
    for (at, expected) in places {
        check(In, PointKind::Bool, at, expected);
    }
    let mode = |mode, edge| LineAddress { mode: Some(mode), edge, ..at_17() };
    let debounce =
        |micros| LineAddress { debounce: Some(Duration::from_micros(micros)), ..at_17() };
    let drive = LineAddress { drive: Some(Drive::OpenDrain), ..at_17() };
    check(In, PointKind::U8, at_17(), ": type u8 of the point; type bool for this line");
    let counter = ": type bool of the point; type u32 for this line";
    check(In, PointKind::Bool, mode(Mode::Counter, None), counter);
    check(Out, PointKind::U32, at_17(), ": type u32 of the point; type bool for this line");
    check(In, PointKind::Bool, drive, ".drive: an input; an output for this key");
    let counter = mode(Mode::Counter, None);
    check(Out, PointKind::Bool, counter, ".mode: an output; an input for this key");
    check(Out, PointKind::Bool, debounce(5), ".debounce: an output; an input for this key");
    check(In, PointKind::Bool, debounce(0), ".debounce: 0ns; from 1us to 1s");
    check(In, PointKind::Bool, debounce(1_000_001), ".debounce: 1.000001s; from 1us to 1s");
    let edge = ".edge: mode level; mode latched or counter for this key";
    check(In, PointKind::Bool, mode(Mode::Level, Some(Edge::Rising)), edge);
    let edge = ".edge: both; rising for pulses to true, or falling for pulses to false";
    check(In, PointKind::Bool, mode(Mode::Latched, Some(Edge::Both)), edge);
}

#[test]
fn two_points_have_two_lines() {
    let point = |name| Point::new(name, Direction::In, PointKind::Bool);
    let mut second = point("b");
    second.byte = 1;
    let points = Arc::new(Points::new(vec![point("a"), second], 2, 0));
    let at = [("a".to_owned(), at_17()), ("b".to_owned(), at_17())].into();
    let config = Config { period: Duration::from_millis(1), at };
    let error = Board::plan(&config, &points, 0).unwrap_err().to_string();
    assert_eq!(error, "point[b].at: the line that point a uses; a line that no other point uses");
}
