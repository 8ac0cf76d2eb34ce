//! The rule about the struct `Daemon`: it has few fields, its loop makes one call for each event,
//! and its function `follow_the_scan` makes few calls.
//!
//! The rule reads only `src/daemon.rs`. Which part of the daemon may use which other part is
//! checked by the rule in `wall.rs`.

use super::source::{functions, scrubbed};

/// The file with the daemon and its loop.
const DAEMON: &str = "src/daemon.rs";
/// The configuration, the five parts of the design, and two more.
const MAX_FIELDS: usize = 8;
/// More calls in this function hide the order in which they must come.
const MAX_FOLLOW_CALLS: usize = 6;

/// What `src/daemon.rs` has too much of.
pub(super) fn parts(path: &str, text: &str) -> Vec<String> {
    if path != DAEMON {
        return Vec::new();
    }
    let text = scrubbed(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    match lines.iter().position(|line| line.starts_with("struct Daemon {")) {
        None => findings.push("1: there is no `struct Daemon`".to_string()),
        Some(at) => {
            let body = lines[at + 1..].iter().take_while(|line| !line.starts_with('}'));
            let fields = body.filter(|line| line.contains(": ")).count();
            if fields > MAX_FIELDS {
                findings.push(format!("{}: {fields} fields; {MAX_FIELDS} are allowed", at + 1));
            }
        }
    }
    let body = |name: &str| {
        let all = functions(&text);
        let found = all.into_iter().find(|function| function.name == name)?;
        Some((found.line, &lines[found.line - 1..found.line - 1 + found.lines]))
    };
    match body("follow_the_scan") {
        None => findings.push("1: there is no `follow_the_scan`".to_string()),
        Some((line, body)) => {
            let calls = body.iter().filter(|line| line.trim_end().ends_with(';')).count();
            if calls > MAX_FOLLOW_CALLS {
                findings.push(format!("{line}: {calls} calls; {MAX_FOLLOW_CALLS} are allowed"));
            }
        }
    }
    match body("live") {
        None => findings.push("1: there is no `live`".to_string()),
        Some((line, body)) => findings.extend(long_arms(line, body)),
    }
    findings
}

/// The arms of a match on events that do more than one thing.
fn long_arms(first: usize, body: &[&str]) -> Vec<String> {
    let starts = body.iter().enumerate().filter(|(_, line)| line.contains("Event::"));
    let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([body.len()]);
    let arms = starts.iter().zip(ends).filter(|(at, end)| {
        // An arm ends with its brace; what follows the last one is no part of it.
        let indent = body[**at].len() - body[**at].trim_start().len();
        let arm = body[**at + 1..*end].iter();
        let arm = arm.take_while(|line| line.len() - line.trim_start().len() > indent);
        arm.filter(|line| line.trim_end().ends_with(';')).count() > 1
    });
    arms.map(|(at, _)| format!("{}: an arm of the loop is one call", first + at)).collect()
}
