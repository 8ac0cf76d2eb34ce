//! Test of a configuration that is edited fifty times while the daemon runs; many edits are wrong.
//!
//! The daemon must refuse each wrong edit and miss no cycle. At the end, the last correct edit must
//! be active.

use std::fs;
use std::time::{Duration, Instant};

use camshaft::process::image::Value;

use super::version;
use crate::daemon::{Daemon, Keys, LIMIT, Plant, beside_the_witness, unharmed, wait};
use crate::long;
use crate::rig::block_on;

/// Edits in one attempt, at least.
const EDITS: u32 = 50;

/// What a configuration says of all that the edits are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    period_us: u64,
    budget_us: u64,
    /// What the device begins with, which shows whether it began anew.
    input: u32,
    /// Variables `v0`, `v1` and so on; one that is there stays.
    variables: u32,
    /// The points `p0` to `p7` that there are, by bit.
    points: u8,
    /// Whether there is a second device, in front of the other.
    annex: bool,
}

impl Said {
    fn random(random: &mut fastrand::Rng, before: Self) -> Self {
        let mut said = before;
        match random.u32(..6) {
            0 => said.period_us = random.u64(8..=12) * 1000,
            1 => said.budget_us = random.u64(500..=900),
            2 => said.input = random.u32(1..1000),
            3 => said.points = random.u8(..),
            4 => said.annex = !said.annex,
            _ => said.variables += 1,
        }
        said
    }

    fn text(self, plain: &str) -> String {
        let Self { period_us, budget_us, input, variables, points, annex } = self;
        let declared: String = (0..variables)
            .map(|n| format!("[[variable]]\nname = \"v{n}\"\ntype = \"int\"\ninitial = {n}\n"))
            .collect();
        let points: String = (0..8)
            .filter(|n| points >> n & 1 == 1)
            .map(|n| {
                let address = 32 + 4 * n;
                format!("  {{ name = \"p{n}\", direction = \"out\", type = \"u32\", address = {address}, safe = {n} }},\n")
            })
            .collect();
        plain
            .replace("[[device]]", if annex { ANNEX } else { "[[device]]" })
            .replace("  { name = \"evil.cycle\"", &format!("{points}  {{ name = \"evil.cycle\""))
            .replace("period = \"1ms\"", &format!("period = \"{period_us}us\""))
            .replace("\"700us\"", &format!("\"{budget_us}us\""))
            .replace("\"sim\"\n", &format!("\"sim\"\ninitial = {{ \"evil.input\" = {input} }}\n"))
            .replace("[control]", &format!("{declared}[control]"))
    }
}

/// In front of the one device that there always is.
const ANNEX: &str = r#"[[device]]
name = "annex"
driver = 'sim'
point = [{ name = "annex.input", direction = "in", type = "u8", address = 100 }]

[[device]]"#;

/// Makes a good text wrong.
fn spoil(text: &str, random: &mut fastrand::Rng) -> Vec<u8> {
    let cases = [
        text.replace("[scan]", "[scan"),
        text.replace("[scan]", "[scan]\nperoid = \"1ms\""),
        text.replace("[scan]\nperiod", "[scan]\npriority = 0\nperiod"),
        text.replace("name = \"plant\"", "name = \"plant\"\nhost = \"here\""),
        text.replace("address = 4", "address = 2"),
        text.replace("\"evil.input\" =", "\"evil.unput\" ="),
        text.replace("outputs = [\"witness.polls\"", "outputs = [\"witness.poles\""),
        text.replace("name = \"witness\"", "name = \"witness\"\npoll_budget = \"1ms\""),
        text.replace("us\"\noutputs", "s\"\noutputs"),
        text[..text.len() / 2].to_string(),
        text.replace("socket", "sock\u{0}et"),
    ];
    let mut bytes = cases[random.usize(..cases.len())].clone().into_bytes();
    if random.u32(..10) == 0 {
        bytes.extend([0xff, 0xfe]);
    }
    assert_ne!(bytes, text.as_bytes(), "it is as good as before");
    bytes
}

fn in_force(daemon: &Daemon) -> Said {
    let status = daemon.status();
    let points = block_on(daemon.client.points()).unwrap();
    let input = points.iter().find(|point| point.name == "evil.input").unwrap();
    let Value::Int(input) = input.value else { panic!("{input:?}") };
    let variables = block_on(daemon.client.vars()).unwrap();
    let is_declared = |name: &str| name.strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok());
    // What nobody owns is safe.
    let is_there = |n: &u8| {
        points
            .iter()
            .any(|point| point.name == format!("p{n}") && point.value == Value::Int((*n).into()))
    };
    let declared = variables.iter().filter(|variable| is_declared(&variable.name)).count();
    Said {
        period_us: status.period_us,
        budget_us: daemon.plugin("witness").unwrap().budget_us,
        input: u32::try_from(input).unwrap(),
        variables: u32::try_from(declared).unwrap(),
        points: (0..8).filter(is_there).map(|n| 1 << n).sum(),
        annex: points.iter().any(|point| point.device == "annex"),
    }
}

#[test]
fn fifty_edits_miss_no_cycle_and_the_last_good_one_is_in_force() {
    let plant = Plant::new(Keys::default());
    let plain = fs::read_to_string(plant.path("camshaft.toml")).unwrap();
    let mut good =
        Said { period_us: 10_000, budget_us: 700, input: 1, variables: 0, points: 0, annex: false };
    fs::write(plant.path("camshaft.toml"), good.text(&plain)).unwrap();
    let daemon = Daemon::on(plant);
    // A program with a state of its own, which goes on through all of it.
    let hash = daemon.drop_in("state", &version(1));
    let generation = daemon.wait_running("state", &hash).generation;
    let file = daemon.path("camshaft.toml");
    let mut random = fastrand::Rng::with_seed(long::seed());
    let end = Instant::now() + long::time(Duration::ZERO);
    beside_the_witness(&daemon, "fifty edits", |_| {
        let (mut edits, mut wrong) = (0, 0);
        while edits < EDITS || Instant::now() < end {
            let edit = edits;
            edits += 1;
            let next = Said::random(&mut random, good);
            let is_wrong = random.bool();
            let text = next.text(&plain);
            let bytes = if is_wrong { spoil(&text, &mut random) } else { text.into_bytes() };
            // Some are written over the file, some put in its place; some find their own way.
            match random.bool() {
                true => fs::write(&file, &bytes).unwrap(),
                false => {
                    fs::write(daemon.path("new.toml"), &bytes).unwrap();
                    fs::rename(daemon.path("new.toml"), &file).unwrap();
                }
            }
            if edit % 5 != 0 {
                let outcome = block_on(daemon.client.reload());
                assert_eq!(outcome.is_err(), is_wrong, "edit {edit}: {outcome:?}");
            }
            let shown = || daemon.status().config_refused;
            wait("the edit is seen", LIMIT, || (shown().is_some() == is_wrong).then_some(()));
            if !is_wrong {
                good = next;
            }
            wrong += u32::from(is_wrong);
            wait(&format!("edit {edit} is in force"), LIMIT, || {
                (in_force(&daemon) == good).then_some(())
            });
        }
        println!("  {edits} edits, {wrong} of them wrong");
        assert!((10..edits - 10).contains(&wrong), "{wrong} of {edits} edits were wrong");
        unharmed(&daemon);
        let state = daemon.plugin("state").unwrap();
        assert_eq!((state.generation, state.traps), (generation, 0), "it went on");
        assert_eq!(daemon.witness().broken, 0, "it kept its state");
    });
}
