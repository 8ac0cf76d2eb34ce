//! The entries `[[plugin]]`: which points and variables a plugin may use, and its time budget.
//!
//! An output has one owner (a plugin) at a time. The key `[plugins] grant` decides what a plugin
//! without a list of outputs gets. With `all`, such a plugin may write all outputs that no list
//! names. With `none`, such a plugin may write no output.
//!
//! Variables follow the same rule, with two differences. The lists of several plugins may name the
//! same variable. An item of a list may also be the first part of names, followed by `*`, such as
//! `tank.*`, because programs can make variables that the file does not name.
//!
//! The settings that all plugins share are in `plugins.rs`. This file decides the grants and the
//! budgets. The scan enforces them.
//!
//! An entry in a file:
//!
//! ```toml
//! [[plugin]]
//! name = "tank"                 # the file tank.wasm
//! every = 1                     # poll in each cycle
//! poll_budget = "2ms"
//! inputs = ["tank.level"]
//! outputs = ["tank.inflow"]
//! variables = ["tank.*"]
//! requires = ["tank.level"]     # if this input is bad for 500 ms, the outputs become safe
//! requires_timeout = "500ms"
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::Config;
use super::check::{budget, once, ranged, show_duration, show_number};
use super::file::{Maybe, ProgramFile};
use super::plugins::PluginRules;
use super::points::Names;
use super::problem::{ProblemReport, Said};
use crate::name::PluginName;
use crate::plugin::Settings;
use crate::process::grant::{Grant, VariableGrant, VariableNames};
use crate::process::image::{Direction, PointId};
use crate::process::variable::{MAX_NAME_BYTES, MAX_VARIABLES};
use crate::text::nearest;

/// The largest value of `every`. With a period of 10 ms, a program in every millionth cycle is
/// polled once in three hours. A program that runs so rarely does not need a scan.
const MOST_EVERY: u64 = 1_000_000;

/// Default of `every`: the program is polled in each cycle.
const EVERY: u32 = 1;

/// The share of a period that the keys `poll_budget` of all entries `[[plugin]]` may have together,
/// in percent. The remaining 20 % are for the devices, for the snapshot, and for a late wake-up of
/// the scan thread.
const MOST_BUDGETS_PERCENT: u32 = 80;

/// The largest value of `requires_timeout`, one hour. Until this time is over, a plugin controls
/// the machine although a required input is bad.
const MOST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Default of `requires_timeout`: the outputs become safe in the first cycle in which a required
/// input is bad.
const TIMEOUT: Duration = Duration::ZERO;

/// The settings of all plugins that have an entry, and the grants of the other plugins.
pub(super) struct Programs {
    /// The plugins with an entry, in the order of the file.
    pub(super) listed: Vec<(PluginName, Settings)>,
    /// Outputs that a plugin without a list of outputs may write.
    pub(super) unclaimed: Vec<PointId>,
    /// Variables that a plugin without a list of variables may write.
    pub(super) unlisted: VariableGrant,
}

/// Decides all grants and budgets, and reports the mistakes in the entries.
///
/// The lists of all plugins are read first, because a plugin without a list can only get the
/// outputs that no list names.
pub(super) fn programs(
    file: &[ProgramFile],
    names: &Names<'_>,
    plugins: &PluginRules,
    period: Duration,
    report: &ProblemReport<'_>,
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
    // An entry without a name is already a problem in the report. The entry can be omitted here,
    // because no configuration is built from a file with problems.
    let named = file.iter().zip(listed);
    let named = named.filter_map(|(program, it)| Some((program.name.as_ref()?.value.clone(), it)));
    Programs { listed: named.collect(), unclaimed, unlisted }
}

impl Config {
    /// Returns the settings of the plugin `name`. The plugin need not have an entry `[[plugin]]`.
    ///
    /// A plugin without an entry is polled in every cycle, after the plugins that have an entry.
    /// The plugin may read all inputs. The key `[plugins] grant` decides which outputs and
    /// variables the plugin may write.
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

/// Returns the names in a list of variables. Reports a list with more than [`MAX_VARIABLES`] names,
/// and names that are not well-formed. A variable in the list need not exist yet, because a program
/// may make it later.
fn variables(list: &Said<Vec<Spanned<String>>>, report: &ProblemReport<'_>) -> VariableNames {
    if list.value.len() > MAX_VARIABLES {
        let found = format!("{} names", list.value.len());
        report.wrong_at(list, found, format!("at most {MAX_VARIABLES} names"));
    }
    for name in &list.value {
        let (line, name) = (report.line(name.span().start), name.get_ref());
        let text = name.strip_suffix('*').unwrap_or(name);
        let is_name = !name.is_empty()
            && text.len() <= MAX_NAME_BYTES
            && !text.chars().any(|c| c == '*' || c.is_control());
        if !is_name {
            let right = format!(
                "a name of 1 to {MAX_NAME_BYTES} bytes, or the beginning of a name and then *, \
                 such as \"tank.*\""
            );
            report.wrong(line, &list.key, format!("{name:?}"), right);
        }
    }
    VariableNames::new(list.value.iter().map(|name| &**name.get_ref()))
}

/// Returns the variables that a plugin without a list may write: all variables that no list names,
/// or no variables if `grant_all` is false.
fn unlisted(file: &[ProgramFile], grant_all: bool) -> VariableGrant {
    let lists = file.iter().filter_map(|program| program.variables.as_ref());
    let named = lists.flat_map(|list| list.value.iter().map(|name| &**name.get_ref()));
    match grant_all {
        true => VariableGrant::AllBut(Arc::new(VariableNames::new(named))),
        false => VariableGrant::Only(Arc::default()),
    }
}

/// Returns the time for which a required input may be bad before the outputs of the plugin become
/// safe. Reports the key `requires_timeout` without the key `requires`, because it has no effect
/// then.
fn requires_timeout(program: &ProgramFile, report: &ProblemReport<'_>) -> Duration {
    if let (Some(said), None) = (&program.requires_timeout, &program.requires) {
        let found = "a timeout without `requires`";
        report.wrong_at(said, found, "also the key `requires` with names of inputs");
    }
    let range = Duration::ZERO..=MOST_TIMEOUT;
    ranged(&program.requires_timeout, range, TIMEOUT, show_duration, report)
}

/// Turns names of points into ids, and checks that each output has only one owner.
struct Granter<'f, 'r, 't> {
    names: &'f Names<'f>,
    /// The owner of each granted output: the plugin's name and the line of the grant.
    owners: HashMap<PointId, (String, usize)>,
    report: &'r ProblemReport<'t>,
}

impl Granter<'_, '_, '_> {
    /// Returns the points of one list of an entry `[[plugin]]`; `None` if the entry does not have
    /// the list. A name that is not valid in this list, or that names an output with an owner, is
    /// reported and omitted.
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

    /// Returns the point of one name in a list; `None` after it has reported a problem.
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
        // A point without a valid direction was already reported in `points.rs`.
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

    /// Returns the names of all points of one direction. The names are sorted, so that the
    /// suggestion in a message does not change from run to run.
    fn known(&self, wanted: Direction) -> Vec<&str> {
        let known = self.names.iter().filter(|(_, named)| named.direction == Some(wanted));
        let mut known: Vec<_> = known.map(|(name, _)| *name).collect();
        known.sort_unstable();
        known
    }

    /// Returns all outputs that no plugin's list names, in the order of their ids.
    fn unclaimed(&self) -> Vec<PointId> {
        let outputs = self.names.values().filter(|named| named.direction == Some(Direction::Out));
        let free = outputs.map(|named| named.id).filter(|id| !self.owners.contains_key(id));
        let mut free: Vec<_> = free.collect();
        free.sort_unstable();
        free
    }
}

/// Checks that the sum of all configured poll budgets is at most 80 % of the period
/// ([`MOST_BUDGETS_PERCENT`]). The key `every` does not change the sum, because in the worst case
/// all programs are polled in the same cycle.
fn sum_budgets(file: &[ProgramFile], period: Duration, report: &ProblemReport<'_>) {
    let most = period * MOST_BUDGETS_PERCENT / 100;
    let mut sum = Duration::ZERO;
    let mut last = None;
    for said in file.iter().filter_map(|program| program.poll_budget.as_ref()) {
        if said.value > period {
            // The function `budget` has already reported this budget. A report of the sum would
            // repeat the mistake.
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
