//! Tests of the host functions that a program may call, function by function and code by code.
//!
//! A [`Script`] is a list of calls as text, for example `wasm_read_input 0 200 8`. The test makes a
//! module from the script; the module makes these calls and stores each return code. A [`Bench`]
//! runs the module as the scan does, but without a scan. Tests that need several programs in a real
//! scan are in `abi/shared.rs`.

mod init;
mod log;
mod point;
mod pointer;
mod right;
mod shared;
mod time;
mod value;
mod wasi;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use camshaft::plugin::instance::program::{NewProgram, Preparation, Prepared, Program};
use camshaft::plugin::instance::stop::{BudgetSlot, Timekeeper, now_ns};
use camshaft::plugin::module::offer::{self, Offer};
use camshaft::plugin::{Generation, Limits, Refusal, Settings, Trap};
use camshaft::process::image::{Direction, PointKind, Points, Quality, Safe};
use camshaft::process::lent::Lent;
use camshaft::process::line::{Line, LogSink, Message};
use camshaft::process::refused::Why;
use camshaft::process::seat::Seat;
use camshaft::process::variable::{Variable, Variables};
use camshaft::process::world::World;

use crate::rig::{PERIOD, compiled, point, wat};

/// Size of the guest's memory, one page.
const MEMORY: u32 = 65536;

/// Where the module keeps the answers, each in four bytes.
const CODES: u32 = 0xf000;

/// Most calls of one script: the last bytes of the memory stay free for calls that go there.
const MAX_CALLS: usize = 1000;

/// Size of the input image, and of that part of the output image that belongs to the tests.
const IMAGE: u32 = 16;

/// Size of the output image: behind the tests' part the module shows its whole memory.
const OUTPUTS: u32 = IMAGE + MEMORY;

/// What a module is to do.
#[derive(Default, Clone)]
struct Script {
    /// Bytes of its memory.
    data: Vec<(u32, Vec<u8>)>,
    /// Calls in `init`.
    init: Vec<String>,
    /// Calls in each poll.
    polls: Vec<Vec<String>>,
}

impl Script {
    /// Calls in the first poll, with this text in memory.
    fn poll<C: AsRef<str>>(data: &[(u32, &[u8])], calls: &[C]) -> Self {
        Self::default().data(data).then(calls)
    }

    fn data(mut self, data: &[(u32, &[u8])]) -> Self {
        self.data.extend(data.iter().map(|(at, bytes)| (*at, bytes.to_vec())));
        self
    }

    /// Calls in one more poll.
    fn then<C: AsRef<str>>(mut self, calls: &[C]) -> Self {
        self.polls.push(calls.iter().map(|call| call.as_ref().into()).collect());
        self
    }

    /// Calls in `init`.
    fn init(mut self, calls: &[&str]) -> Self {
        self.init = calls.iter().map(ToString::to_string).collect();
        self
    }

    fn calls(&self) -> impl Iterator<Item = &String> {
        self.init.iter().chain(self.polls.iter().flatten())
    }

    fn module(&self) -> Vec<u8> {
        let mut text = String::from("(module\n");
        offer::offers().for_each(|offer| text += &import(offer));
        text += "(memory (export \"memory\") 1) (global $n (mut i32) (i32.const 0))\n";
        for (at, bytes) in &self.data {
            let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
            writeln!(text, "(data (i32.const {at}) \"{bytes}\")").expect("a String takes all");
        }
        let mut number = 0;
        let mut body = |calls: &[String]| {
            calls.iter().fold(String::new(), |body, call| {
                number += 1;
                body + &instructions(call, CODES + 4 * (number - 1)) + "\n"
            })
        };
        text += &format!("(func (export \"init\")\n{})\n", body(&self.init));
        text +=
            "(func (export \"poll\")\n(global.set $n (i32.add (global.get $n) (i32.const 1)))\n";
        for (calls, n) in self.polls.iter().zip(1..) {
            let body = body(calls);
            text +=
                &format!("(if (i32.eq (global.get $n) (i32.const {n})) (then\n{body}return))\n");
        }
        let show = format!("(i32.const {IMAGE}) (i32.const 0) (i32.const {MEMORY})");
        text += &format!("(drop (call $wasm_write_output {show}))))");
        assert!(self.calls().count() <= MAX_CALLS, "too many calls for one script");
        wat(&text)
    }
}

fn import(Offer { module, name, parameters, returns }: Offer) -> String {
    let types: Vec<_> = parameters.chars().map(|letter| ty(letter).to_owned()).collect();
    let result = if returns { "(result i32)" } else { "" };
    let types = types.join(" ");
    format!("(import \"{module}\" \"{name}\" (func ${name} (param {types}) {result}))\n")
}

fn ty(letter: char) -> &'static str {
    match letter {
        'i' => "i32",
        'I' => "i64",
        'd' => "f64",
        other => panic!("{other} is in no offer"),
    }
}

/// A call like `wasm_cycle 8 16` that keeps its answer at `code`; what starts with `(` stays as it
/// is.
fn instructions(call: &str, code: u32) -> String {
    if call.starts_with('(') {
        return call.into();
    }
    let mut words = call.split_whitespace();
    let name = words.next().expect("a call has a name");
    let offer = offer::offers().find(|offer| offer.name == name);
    let offer = offer.unwrap_or_else(|| panic!("{name} is not offered"));
    let words: Vec<_> = words.collect();
    assert_eq!(words.len(), offer.parameters.len(), "{call}: the number of arguments");
    let arguments = words.iter().zip(offer.parameters.chars());
    let arguments: String =
        arguments.map(|(word, letter)| format!(" ({}.const {word})", ty(letter))).collect();
    match offer.returns {
        true => format!("(i32.store (i32.const {code}) (call ${name}{arguments}))"),
        false => format!("(call ${name}{arguments})"),
    }
}

/// How a script went.
struct Played {
    /// The answer to each call, those of `init` first; 77 where a call was not reached.
    codes: Vec<i32>,
    /// The guest's memory afterwards, without the answers.
    memory: Vec<u8>,
    /// How each poll ended.
    results: Vec<Result<(), Trap>>,
    /// Everything that was logged.
    lines: Vec<Line>,
}

impl Played {
    /// The bytes at an address of the guest's memory.
    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        self.memory[at..at + N].try_into().expect("the slice has this length")
    }

    /// What the guest said, as `Info: text`.
    fn said(&self) -> Vec<String> {
        self.lines.iter().map(said).collect()
    }
}

fn said(line: &Line) -> String {
    match &line.message {
        Message::Said { level, text, .. } => format!("{level:?}: {}", text.as_str()),
        Message::Refused(call) => format!("{:?}({:?})", call.why, call.name),
        other => format!("{other:?}"),
    }
}

/// Whether these tests look at what is said of a call that was refused for this reason.
fn is_about_rights(why: Why) -> bool {
    let is_point = matches!(why, Why::NoPoint | Why::NotFinite | Why::NotGranted | Why::Owned(_));
    is_point || matches!(why, Why::VariableNotGranted | Why::VariableQuota)
}

/// What a call answers before it was made.
const NOT_REACHED: i32 = 77;

/// Points of the tests. Inputs: `level` (f64 at 0), `button` (8.0), `small` (i16 at 10, half a unit
/// a step, from 10), `big` (u32 at 12). Outputs: `valve` (f64 at 0), `motor` (8.0), `lamp` (8.1),
/// `small.out` (i8 at 9), `scaled` (i16 at 10, like `small`), `flow` (f32 at 12); none is safe.
fn points() -> Arc<Points> {
    use Direction::{In, Out};
    let at = |name, direction, kind, byte, bit| point(name, direction, kind, byte, bit, Safe::Hold);
    let mut all = vec![
        at("level", In, PointKind::F64, 0, 0),
        at("button", In, PointKind::Bool, 8, 0),
        at("small", In, PointKind::I16, 10, 0),
        at("big", In, PointKind::U32, 12, 0),
        at("valve", Out, PointKind::F64, 0, 0),
        at("motor", Out, PointKind::Bool, 8, 0),
        at("lamp", Out, PointKind::Bool, 8, 1),
        at("small.out", Out, PointKind::I8, 9, 0),
        at("scaled", Out, PointKind::I16, 10, 0),
        at("flow", Out, PointKind::F32, 12, 0),
    ];
    for scaled in [2, 8] {
        (all[scaled].scale, all[scaled].offset) = (0.5, 10.0);
    }
    Arc::new(Points::new(all, IMAGE as usize, OUTPUTS as usize))
}

/// Runs scripts like a scan, one after the other in the same world.
struct Bench {
    world: Lent<World>,
    keeper: Arc<Timekeeper>,
    slot: BudgetSlot,
    limits: Limits,
    /// The name of the next plugin.
    name: &'static str,
    seat: u16,
}

impl Bench {
    /// Inputs are 1, 2, 3 and so on, all good. Variables are `flag` (true), `speed` (7) and `level`
    /// (1.5). The clock stands a period before 5.000000006 s.
    fn new() -> Self {
        let mut variables = Variables::default();
        let all = [
            ("flag", Variable::Boolean(true)),
            ("speed", Variable::Int(7)),
            ("level", Variable::Double(1.5)),
        ];
        for (name, value) in all {
            variables.write(name, value).expect("there is room");
        }
        variables.commit();
        let mut world = World::new(points(), variables, PERIOD, LogSink::List(Vec::new()));
        world.now = Duration::new(5, 6) - PERIOD;
        world.inputs.bytes = (1..=IMAGE as u8).collect();
        world.inputs.quality.fill(Quality::Good);
        let keeper = Arc::new(Timekeeper::start(|| {}).expect("a thread starts"));
        let slot = keeper.slot();
        Self {
            world: Lent::new(Box::new(world)),
            keeper,
            slot,
            limits: Limits::default(),
            name: "script",
            seat: 0,
        }
    }

    fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Prepares a module for the next seat in a copy of the world.
    fn prepare(&mut self, module: &[u8], settings: Settings) -> Preparation {
        let compiled = compiled(module, self.limits);
        let (hash, artifact) = compiled.unwrap_or_else(|refusal| panic!("{refusal}"));
        let (name, seat) = (self.name.into(), Seat(self.seat));
        self.seat += 1;
        let limits = self.limits;
        let world = self.world();
        let log = LogSink::List(Vec::new());
        let mut copy = World::new(Arc::clone(&world.points), world.variables.clone(), PERIOD, log);
        copy.now = world.now;
        copy.inputs.clone_from(&world.inputs);
        let generation = Generation(1);
        let request = NewProgram { name, seat, hash, generation, settings };
        Program::prepare(request, &artifact, Box::new(copy), &limits, &self.keeper)
    }

    /// Takes over what the preparation wrote.
    fn seat(&mut self, mut prepared: Prepared) -> Program {
        let world = self.world();
        let takeover = prepared.bring_variables(&mut world.variables);
        assert_eq!(takeover.variables_dropped, 0, "its `init` could write them");
        world.variables.commit();
        let budget = prepared.program.settings.poll_budget;
        self.slot.shortest(budget);
        self.keeper.wake();
        prepared.program
    }

    /// One poll in the next cycle, a period later.
    fn poll(&mut self, program: &mut Program) -> Result<(), Trap> {
        self.world.cycle += 1;
        self.world.now += PERIOD;
        self.slot.mark();
        let result = program.poll(&mut self.world, &self.slot, now_ns());
        let World { driven, outputs, .. } = self.world();
        driven.copy_from_slice(outputs);
        result.map_err(|trap| (*trap).clone())
    }

    /// Runs a script that prepares well to its end.
    fn play(&mut self, script: &Script) -> Played {
        self.play_with(script, Settings::default()).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// The same, with these settings.
    fn play_with(&mut self, script: &Script, settings: Settings) -> Result<Played, Refusal> {
        let script = &mut script.clone();
        let calls = script.calls().count();
        let unreached: Vec<u8> = NOT_REACHED.to_le_bytes().repeat(calls);
        script.data.push((CODES, unreached));
        let Preparation { result, mut lines, .. } = self.prepare(&script.module(), settings);
        let mut program = self.seat(result?);
        let results = script.polls.iter().map(|_| self.poll(&mut program)).collect();
        let LogSink::List(list) = &mut self.world().log else { panic!("the log is a list") };
        lines.append(list);
        // Calls have their codes; what is said of the others is looked at in `refused.rs`.
        lines.retain(|line| match &line.message {
            Message::Refused(call) => is_about_rights(call.why),
            _ => true,
        });
        // The last poll shows the memory; what the script did to the outputs stays in front of it.
        self.poll(&mut program).expect("showing the memory works");
        let mut memory = self.world().outputs[IMAGE as usize..].to_vec();
        let codes = &mut memory[CODES as usize..][..4 * calls];
        let code = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let answers = codes.chunks(4).map(code).collect();
        codes.fill(0);
        Ok(Played { codes: answers, memory, results, lines })
    }
}

/// Plays calls in one poll of a fresh bench, each with the code that it must answer.
fn check(data: &[(u32, &[u8])], table: &[(&str, i32)]) -> (Bench, Played) {
    let mut bench = Bench::new();
    let played = check_on(&mut bench, data, table);
    (bench, played)
}

/// The same on a bench that exists already.
fn check_on(bench: &mut Bench, data: &[(u32, &[u8])], table: &[(&str, i32)]) -> Played {
    let calls: Vec<_> = table.iter().map(|(call, _)| *call).collect();
    let played = bench.play(&Script::poll(data, &calls));
    compare(&played, table);
    played
}

/// Whether every poll went well and every call answered with its code.
fn compare<C: AsRef<str>>(played: &Played, table: &[(C, i32)]) {
    for result in &played.results {
        assert_eq!(*result, Ok(()), "no call may trap");
    }
    for ((call, expected), code) in table.iter().zip(&played.codes) {
        assert_eq!(code, expected, "{}", call.as_ref());
    }
    assert_eq!(table.len(), played.codes.len());
}
