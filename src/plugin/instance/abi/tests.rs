//! Tests of the functions of the contract and of WASI, with a memory but without a module. The main
//! test checks that a refused call changes nothing, whatever its arguments are.
//!
//! Each function is called more than a thousand times in each phase. Tests of single calls from a
//! real module are in `tests/it/abi/`.

use std::time::Duration;

use super::*;
use crate::plugin::Settings;
use crate::plugin::instance::memory::tests::{PAGE, Page};
use crate::plugin::instance::state::State;
use crate::plugin::instance::wasi::{self, Errno};
use crate::process::grant::{Grant, VariableGrant, VariableNames};
use crate::process::image::{Point, PointId, PointKind, Value};
use crate::process::lent::Lent;
use crate::process::line::LogSink;
use crate::process::seat::Seat;
use crate::process::variable::Variables;
use crate::process::world::World;

/// Size of the input image and of the output image in bytes.
const IMAGE: u32 = 16;

/// The bytes that the tests write into the memory. At address 100 are valid names. At address 120
/// is the buffer list for `fd_write`, with one buffer: the first name.
const DATA: &[(u32, &[u8])] = &[(100, b"flagspeed.level"), (120, &[100, 0, 0, 0, 4, 0, 0, 0])];

/// A function of the contract with four numbers as its arguments. The function uses as many of the
/// numbers as it has parameters.
type Call = fn(&mut Guest, &Memory<'_>, [u32; 4]) -> CallResult;

const CALLS: [(&str, Call); 24] = [
    ("log", |g, m, [a, b, c, d]| log(g, m, 2, (a, b), 7, (c, d))),
    ("log at a level", |g, m, [a, b, ..]| log(g, m, a.cast_signed(), (0, 0), 7, (100, b))),
    ("read_input", |g, m, [a, b, c, _]| read_input(g, m, a, b, c)),
    ("read_output", |g, m, [a, b, c, _]| read_output(g, m, a, b, c)),
    ("write_output", |g, m, [a, b, c, _]| write_output(g, m, a, b, c)),
    ("current_time", |g, m, [a, b, ..]| current_time(g, m, a, b)),
    ("cycle", |g, m, [a, b, ..]| cycle(g, m, a, b)),
    ("read bool", |g, m, [a, b, c, _]| variable_read(g, m, (a, b), c, VariableKind::Boolean)),
    ("read int", |g, m, [a, b, c, _]| variable_read(g, m, (a, b), c, VariableKind::Int)),
    ("read double", |g, m, [a, b, c, _]| variable_read(g, m, (a, b), c, VariableKind::Double)),
    ("write int", |g, m, [a, b, ..]| variable_write(g, m, (a, b), Variable::Int(3))),
    ("write bool", |g, m, [a, b, ..]| variable_write(g, m, (a, b), Variable::Boolean(false))),
    ("state_write", |g, m, [a, b, ..]| state_write(g, m, a, b)),
    ("state_read", |g, m, [a, b, c, _]| state_read(g, m, a, b, c)),
    ("find", |g, m, [a, b, c, _]| point::find(g, m, (a, b), c)),
    ("read point", |g, m, [id, a, b, _]| {
        point::read(g, m, id.cast_signed(), a, b, VariableKind::Double)
    }),
    ("quality", |g, m, [id, a, b, _]| point::quality(g, m, id.cast_signed(), a, b)),
    ("degraded", |g, m, [a, ..]| point::degraded(g, m, a)),
    ("write point", |g, _, [id, number, ..]| {
        point::write(g, id.cast_signed(), Value::Real(f64::from(number)))
    }),
    ("write flag", |g, _, [id, on, ..]| {
        point::write(g, id.cast_signed(), Value::Bool(on % 2 == 0))
    }),
    ("fd_write", |g, m, [a, b, c, d]| errno(wasi::fd_write(g, m, d.cast_signed(), a, b, c))),
    ("clock_time_get", |g, m, [a, b, ..]| errno(wasi::clock_time_get(g, m, a.cast_signed(), b))),
    ("random_get", |g, m, [a, b, ..]| errno(wasi::random_get(g, m, a, b))),
    ("no_sizes", |_, m, [a, b, ..]| errno(wasi::no_sizes(m, a, b))),
];

/// Converts every error number of WASI to one code of the contract, because these tests only check
/// whether a call was refused.
fn errno(result: Result<(), Errno>) -> CallResult {
    result.map_err(|_| Code::Error)
}

/// Makes the world of the tests. The inputs are `level` (f64 at byte 0) and `button` (bool at 8.0).
/// The outputs are `valve` (f64 at byte 0), `motor` (bool at 8.0) and `lamp` (bool at 9.1). Another
/// program owns `lamp`.
fn world() -> Lent<World> {
    use Direction::{In, Out};
    let at =
        |name, direction, kind, byte, bit| Point { byte, bit, ..Point::new(name, direction, kind) };
    let points = vec![
        at("level", In, PointKind::F64, 0, 0),
        at("button", In, PointKind::Bool, 8, 0),
        at("valve", Out, PointKind::F64, 0, 0),
        at("motor", Out, PointKind::Bool, 8, 0),
        at("lamp", Out, PointKind::Bool, 9, 1),
    ];
    let points = Arc::new(Points::new(points, IMAGE as usize, IMAGE as usize));
    let mut variables = Variables::default();
    let all = [
        ("flag", Variable::Boolean(true)),
        ("speed", Variable::Int(7)),
        ("level", Variable::Double(1.5)),
    ];
    all.into_iter().for_each(|(name, value)| variables.write(name, value).expect("there is room"));
    variables.commit();
    let log = LogSink::List(Vec::new());
    let mut world = World::new(points, variables, Duration::from_millis(10), log);
    world.owners[4] = Some(Seat(9));
    Lent::new(Box::new(world))
}

/// Makes the data of a guest during a call of the kind `phase`. The guest may not read the input
/// `button`, and may not write the variable `level`.
fn guest(phase: Phase) -> Guest {
    let mut world = world();
    let settings = Settings {
        inputs: Grant::Only(vec![PointId(0)]),
        variables: VariableGrant::Only(Arc::new(VariableNames::new(["flag", "speed"]))),
        ..Settings::default()
    };
    let mut guest = Guest::new(Seat(1), 7, &settings, &world.points, 1000);
    world.pass_to(&mut guest.world);
    guest.phase = phase;
    guest.state = State::new(if phase == Phase::Restore { vec![1; 300] } else { Vec::new() });
    guest
}

/// Returns all data that a call could have changed, except the memory and the counts of refusals.
fn traces(guest: &Guest) -> impl PartialEq + use<> {
    let World { outputs, owners, variables, log, .. } = &*guest.world;
    let LogSink::List(lines) = log else { panic!("the log is a list") };
    let said = lines.iter().filter(|line| matches!(line.message, Message::Said { .. })).count();
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let staged = (format!("{:?}", guest.scratch), guest.claimed());
    let random = guest.random.get_seed();
    let printed = guest.printed.as_str().to_owned();
    let state = guest.state.next(usize::MAX).to_vec();
    ((outputs.clone(), owners.clone(), variables), (said, printed), (staged, state, random))
}

/// Returns a random argument. Often the argument is near a limit, for example near the end of the
/// image, of the memory or of the 32-bit numbers.
fn word(random: &mut fastrand::Rng) -> u32 {
    match random.u8(..8) {
        0 => random.u32(..6),
        1 => random.choice([8, 9, IMAGE - 1, IMAGE, IMAGE + 1]).expect("it has elements"),
        2 => random.choice([4, 5, 100, 104, 110, 120]).expect("it has elements"),
        3 => (PAGE - 9).wrapping_add(random.u32(..12)),
        4 => u32::MAX - random.u32(..12),
        5 => 1 << random.u32(..32),
        6 => random.u32(..PAGE),
        _ => random.u32(..),
    }
}

/// Returns four arguments, which often begin with the address and the length of a valid name.
fn words(random: &mut fastrand::Rng) -> [u32; 4] {
    let mut words = std::array::from_fn(|_| word(random));
    if random.bool() {
        let name = random.choice([[100, 4], [104, 5], [110, 5]]).expect("it has elements");
        words[..2].copy_from_slice(&name);
    }
    words
}

#[test]
fn a_call_that_is_refused_changes_nothing() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut seen = [[false; 6]; CALLS.len()];
    for phase in [Phase::Init, Phase::Poll, Phase::Save, Phase::Restore] {
        for (n, (name, call)) in CALLS.iter().enumerate() {
            let (mut page, mut guest) = (Page::new(DATA), guest(phase));
            let (bytes, mut before) = (page.bytes(), traces(&guest));
            for _ in 0..1500 {
                let words = words(&mut random);
                let result = page.with(|memory| call(&mut guest, memory, words));
                seen[n][result.err().unwrap_or(Code::Success) as usize] = true;
                if result.is_ok() {
                    // A good call may have overwritten the names in the memory, so the memory is
                    // restored.
                    page.with(|memory| memory.write(0, &bytes)).expect("it is one page");
                    before = traces(&guest);
                    continue;
                }
                assert!(page.bytes() == bytes, "{name} {words:?} in {phase}: the memory");
                assert!(traces(&guest) == before, "{name} {words:?} in {phase}: the guest");
            }
        }
    }
    for ((name, _), codes) in CALLS.iter().zip(seen) {
        assert!(codes[0] && codes[1..].contains(&true), "{name}: {codes:?}");
    }
    let all = |code: Code| seen.iter().filter(|codes| codes[code as usize]).count();
    assert!(all(Code::OutOfBounds) >= 3 && all(Code::Unknown) >= 5, "{seen:?}");
    assert!(all(Code::OtherType) >= 3 && all(Code::Denied) >= 5, "{seen:?}");
}

/// Calls the functions for the state, `state_write` and `state_read`. The tests with modules do not
/// call these functions, because a module can call them only in `save` and `restore`.
#[test]
fn the_state_goes_in_and_out_within_the_memory_only() {
    let mut page = Page::new(&[(100, b"state"), (PAGE - 3, b"end")]);
    let mut saving = guest(Phase::Save);
    let mut write = |at, len| page.with(|memory| state_write(&mut saving, memory, at, len));
    assert_eq!(write(100, 5), Ok(()));
    assert_eq!(write(PAGE - 3, 4), Err(Code::Error));
    assert_eq!(write(u32::MAX, 2), Err(Code::Error));
    assert_eq!(write(PAGE, 0), Ok(()));
    assert_eq!(write(PAGE - 3, 3), Ok(()));
    let mut restoring = guest(Phase::Restore);
    restoring.state = State::new(std::mem::take(&mut saving.state).into_bytes());
    let mut read = |to, len, n| page.with(|memory| state_read(&mut restoring, memory, to, len, n));
    assert_eq!(read(PAGE - 1, 2, 0), Err(Code::Error), "there is no room for two bytes");
    assert_eq!(read(200, 2, PAGE - 3), Err(Code::Error), "there is no room for the number");
    assert_eq!(read(200, 5, 300), Ok(()));
    // The guest's buffer has 1000 bytes, but the function writes only the rest of the state, which
    // is shorter.
    assert_eq!(read(PAGE - 3, 1000, 304), Ok(()));
    assert_eq!(read(PAGE, 9, 308), Ok(()));
    let bytes = page.bytes();
    assert_eq!(
        (&bytes[200..206], &bytes[300..312]),
        (&b"state\0"[..], &[5, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0][..])
    );
    assert_eq!(&bytes[PAGE as usize - 3..], b"end");
    for phase in [Phase::Init, Phase::Poll, Phase::Restore] {
        let mut guest = guest(phase);
        assert_eq!(page.with(|memory| state_write(&mut guest, memory, !0, !0)), Err(Code::Denied));
    }
}

#[test]
fn a_state_that_is_too_long_is_refused_as_a_whole() {
    let (mut page, mut guest) = (Page::new(&[]), guest(Phase::Save));
    let mut write = |len| page.with(|memory| state_write(&mut guest, memory, 0, len));
    (0..15).for_each(|_| assert_eq!(write(PAGE), Ok(())));
    assert_eq!(write(PAGE - 1), Ok(()));
    assert_eq!(write(2), Err(Code::Error));
    assert_eq!(write(1), Ok(()));
    assert_eq!(write(1), Err(Code::Error));
    assert!(guest.state.overflowed);
    assert_eq!(guest.state.into_bytes().len(), 16 * PAGE as usize);
}

#[test]
fn the_message_of_an_abort_is_read_as_far_as_it_can_be() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let check = |at: u32, len: u32, text: &[u8], expected: &str| {
        let mut page = Page::new(&[(at.saturating_sub(4), &len.to_le_bytes()), (at, text)]);
        assert_eq!(page.with(|memory| abort_message(memory, at)), expected, "{len} bytes at {at}");
    };
    check(100, 6, &utf16("abc"), "abc");
    check(4, 2, &utf16("ä"), "ä");
    check(100, 0, &utf16("abc"), "");
    check(100, 5, &utf16("abc"), "ab");
    check(100, 2, &[0, 0xd8], "\u{fffd}");
    check(100, 4000, &utf16(&"x".repeat(300)), &"x".repeat(256));
    // The message begins before the memory, or ends after it.
    check(3, 2, &utf16("a"), "");
    check(PAGE - 2, 4, &utf16("a"), "");
    check(PAGE - 2, 2, &utf16("a"), "a");
    let mut page = Page::new(&[]);
    assert_eq!(page.with(|memory| abort_message(memory, PAGE + 1)), "");
    assert_eq!(page.with(|memory| abort_message(memory, u32::MAX)), "");
}
