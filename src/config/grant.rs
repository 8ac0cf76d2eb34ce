//! Who may do what, and for how long: the entries `[[plugin]]`.
//!
//! An output has one owner. Plugins without a list of outputs share the outputs that no list names,
//! or get none; the key `[plugins] grant` decides. Variables follow the same rule, with two
//! differences. Several plugins may be granted the same variable. A list may hold beginnings of
//! names, because programs make variables. The settings that all plugins share are in
//! `plugins.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::Config;
use super::check::{budget, once, ranged, show_duration, show_number};
use super::file::{Maybe, ProgramFile};
use super::plugins::PluginRules;
use super::points::Names;
use super::problem::{Report, Said};
use crate::name::PluginName;
use crate::plugin::Settings;
use crate::process::grant::{Grant, VariableGrant, VariableNames};
use crate::process::image::{Direction, PointId};
use crate::process::variable::{MAX_NAME_BYTES, MAX_VARIABLES};
use crate::text::nearest;

/// The most for `every`. A program that is polled less often than every millionth cycle is not part
/// of a scan.
const MOST_EVERY: u64 = 1_000_000;

/// Default of `every`: a program is polled in each cycle.
const EVERY: u32 = 1;

/// The share of a period that all explicit budgets may take together, in percent. The rest is for
/// devices, publishing, and the lateness of the wake-up.
const MOST_BUDGETS_PERCENT: u32 = 80;

/// The most for `requires_timeout`: a plugin must not control a machine for longer than an hour
/// without knowing its required inputs.
const MOST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Default of `requires_timeout`: the outputs become safe in the first cycle with a bad input.
const TIMEOUT: Duration = Duration::ZERO;

/// The settings of all plugins that have an entry, and what the other plugins get.
pub(super) struct Programs {
    pub(super) listed: Vec<(PluginName, Settings)>,
    /// Outputs for a plugin that has no list of its own.
    pub(super) unclaimed: Vec<PointId>,
    /// Variables for a plugin that has no list of its own.
    pub(super) unlisted: VariableGrant,
}

/// Decides all grants and budgets.
pub(super) fn programs(
    file: &[ProgramFile],
    names: &Names<'_>,
    plugins: &PluginRules,
    period: Duration,
    report: &Report<'_>,
) -> Programs {
    let mut lines = HashMap::new();
    let mut granter = Granter { names, owners: HashMap::new(), report };
    let mut listed = Vec::new();
    for (order, program) in (0u32..).zip(file) {
        let name = program.name.as_ref().map_or("a plugin without a name", |name| &*name.value);
        if let Some(name) = &program.name {
            once(name, &mut lines, "plugin", report);
        }
        let inputs = granter.points(&program.inputs, Direction::In, name);
        let outputs = granter.points(&program.outputs, Direction::Out, name);
        let variables = program.variables.as_ref().map(|list| variables(list, report));
        let settings = Settings {
            order,
            // The cast is safe: the range ends far below u32::MAX.
            every: ranged(&program.every, 1..=MOST_EVERY, EVERY.into(), show_number, report) as u32,
            poll_budget: budget(&program.poll_budget, period, plugins.poll_budget, report),
            inputs: inputs.map_or(Grant::All, Grant::Only),
            outputs: outputs.map_or(Grant::All, Grant::Only),
            variables: variables.map(Arc::new).map(VariableGrant::Only).unwrap_or_default(),
            hold: program.hold.as_ref().is_some_and(|said| said.value),
            swap: plugins.swap,
            requires: granter.points(&program.requires, Direction::In, name).unwrap_or_default(),
            requires_timeout: requires_timeout(program, report),
        };
        listed.push(settings);
    }
    sum_budgets(file, period, report);
    let unclaimed = if plugins.grant_all { granter.unclaimed() } else { Vec::new() };
    let unlisted = unlisted(file, plugins.grant_all);
    for (settings, program) in listed.iter_mut().zip(file) {
        if settings.outputs == Grant::All {
            settings.outputs = Grant::Only(unclaimed.clone());
        }
        if program.variables.is_none() {
            settings.variables = unlisted.clone();
        }
    }
    // An entry without a name is a problem in the report, so none is lost.
    let named = file.iter().zip(listed);
    let named = named.filter_map(|(program, it)| Some((program.name.as_ref()?.value.clone(), it)));
    Programs { listed: named.collect(), unclaimed, unlisted }
}

impl Config {
    /// The settings of the plugin `name`, with or without an entry.
    ///
    /// A plugin without an entry is polled in every cycle, after the plugins that have one. It
    /// reads all inputs, and writes the outputs and variables that `[plugins] grant` leaves it.
    pub fn settings(&self, name: &str) -> Settings {
        let listed = self.live.programs.iter().find(|(listed, _)| *listed == name);
        listed.map_or_else(
            || Settings {
                order: self.live.programs.len() as u32,
                every: EVERY,
                poll_budget: self.live.plugins.poll_budget,
                inputs: Grant::All,
                outputs: Grant::Only(self.live.unclaimed.clone()),
                variables: self.live.unlisted.clone(),
                hold: false,
                swap: self.live.plugins.swap,
                requires: Vec::new(),
                requires_timeout: TIMEOUT,
            },
            |(_, settings)| settings.clone(),
        )
    }

    /// Whether the plugin `name` may write this output.
    pub fn may_write(&self, name: &str, output: PointId) -> bool {
        self.settings(name).outputs.allows(output)
    }
}

/// The names in a list of variables, after a check of how they are written. Whether there is such a
/// variable is not checked: a program may make it later.
fn variables(list: &Said<Vec<Spanned<String>>>, report: &Report<'_>) -> VariableNames {
    if list.value.len() > MAX_VARIABLES {
        let found = format!("{} names", list.value.len());
        report.wrong_at(list, found, format!("at most {MAX_VARIABLES}, as many as can be"));
    }
    for name in &list.value {
        let (line, name) = (report.line(name.span().start), name.get_ref());
        let text = name.strip_suffix('*').unwrap_or(name);
        let is_name = !name.is_empty()
            && text.len() <= MAX_NAME_BYTES
            && !text.chars().any(|c| c == '*' || c.is_control());
        if !is_name {
            let right = format!(
                "a name of 1 to {MAX_NAME_BYTES} bytes, or the beginning of names with a * after it"
            );
            report.wrong(line, &list.key, format!("{name:?}"), right);
        }
    }
    VariableNames::new(list.value.iter().map(|name| &**name.get_ref()))
}

/// The variables of a plugin without a list: all that no list names, or none.
fn unlisted(file: &[ProgramFile], grant_all: bool) -> VariableGrant {
    let lists = file.iter().filter_map(|program| program.variables.as_ref());
    let named = lists.flat_map(|list| list.value.iter().map(|name| &**name.get_ref()));
    match grant_all {
        true => VariableGrant::AllBut(Arc::new(VariableNames::new(named))),
        false => VariableGrant::Only(Arc::default()),
    }
}

/// The time limit for required inputs; without `requires` it is a mistake.
fn requires_timeout(program: &ProgramFile, report: &Report<'_>) -> Duration {
    if let (Some(said), None) = (&program.requires_timeout, &program.requires) {
        let found = "a timeout and nothing that is required";
        report.wrong_at(said, found, "`requires` with the names of inputs beside it");
    }
    let range = Duration::ZERO..=MOST_TIMEOUT;
    ranged(&program.requires_timeout, range, TIMEOUT, show_duration, report)
}

/// Grants points by name, and sees that each output has one owner.
struct Granter<'f, 'r, 't> {
    names: &'f Names<'f>,
    /// Each granted output, with the owner's name and the line of the grant.
    owners: HashMap<PointId, (String, usize)>,
    report: &'r Report<'t>,
}

impl Granter<'_, '_, '_> {
    /// The points of a list; `None` if the file has no list. Wrong names are reported and left out.
    fn points(
        &mut self,
        list: &Maybe<Vec<Spanned<String>>>,
        direction: Direction,
        plugin: &str,
    ) -> Option<Vec<PointId>> {
        let list = list.as_ref()?;
        Some(
            list.value
                .iter()
                .filter_map(|name| self.point(list, name, direction, plugin))
                .collect(),
        )
    }

    /// The point of one name in a list; `None` once a problem was reported.
    fn point<T>(
        &mut self,
        list: &Said<T>,
        name: &Spanned<String>,
        wanted: Direction,
        plugin: &str,
    ) -> Option<PointId> {
        let line = self.report.line(name.span().start);
        let name = name.get_ref();
        let what = if wanted == Direction::In { "an input" } else { "an output" };
        let Some(named) = self.names.get(name.as_str()) else {
            let right = match nearest(name, self.known(wanted)) {
                Some(near) => format!("{what}, such as {near:?}"),
                None => format!("the name of {what} from [[device.point]]"),
            };
            self.report.wrong(line, &list.key, format!("{name:?}, which is no point"), right);
            return None;
        };
        // A point without a good direction was reported already.
        if named.direction.is_some_and(|direction| direction != wanted) {
            let other = if wanted == Direction::In { "an output" } else { "an input" };
            self.report.wrong(line, &list.key, format!("{name:?}, which is {other}"), what);
            return None;
        }
        if wanted == Direction::Out {
            if let Some((owner, first)) = self.owners.get(&named.id) {
                let found = format!("{name:?}, already granted to {owner} on line {first}");
                self.report.wrong(line, &list.key, found, "one owner for each output");
                return None;
            }
            self.owners.insert(named.id, (plugin.to_owned(), line));
        }
        Some(named.id)
    }

    /// The names of all points of one direction, sorted, so that messages are the same every time.
    fn known(&self, wanted: Direction) -> Vec<&str> {
        let known = self.names.iter().filter(|(_, named)| named.direction == Some(wanted));
        let mut known: Vec<_> = known.map(|(name, _)| *name).collect();
        known.sort_unstable();
        known
    }

    /// All outputs that no plugin's list names, in the order of their ids.
    fn unclaimed(&self) -> Vec<PointId> {
        let outputs = self.names.values().filter(|named| named.direction == Some(Direction::Out));
        let free = outputs.map(|named| named.id).filter(|id| !self.owners.contains_key(id));
        let mut free: Vec<_> = free.collect();
        free.sort_unstable();
        free
    }
}

/// Checks that all explicit budgets fit into one period. In the worst case every program is polled
/// in the same cycle, whatever its `every` is.
fn sum_budgets(file: &[ProgramFile], period: Duration, report: &Report<'_>) {
    let most = period * MOST_BUDGETS_PERCENT / 100;
    let mut sum = Duration::ZERO;
    let mut last = None;
    for said in file.iter().filter_map(|program| program.poll_budget.as_ref()) {
        if said.value > period {
            // This budget was reported by itself; the sum would only repeat it.
            return;
        }
        sum += said.value;
        last = Some(said);
    }
    if let (Some(said), true) = (last, sum > most) {
        let found = format!("poll budgets that add up to {}", show_duration(sum));
        let right = format!(
            "at most {} together, {MOST_BUDGETS_PERCENT} % of the period",
            show_duration(most)
        );
        report.wrong_at(said, found, right);
    }
}
