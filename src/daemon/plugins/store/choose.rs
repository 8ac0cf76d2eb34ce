//! The choice of the stored version for a rollback, and the message if no version fits.
//!
//! All functions here are pure. A version that is known to be bad is chosen only if the operator
//! names its hash and adds `--even-bad`. `back.rs` makes the rollback; `version.rs` decides whether
//! a version is bad.
//!
//! | order | version |
//! |---|---|
//! | `rollback NAME` | the newest good one that is not in the file; else the newest doubtful one |
//! | `rollback NAME --to HASH` | the one whose hash begins with HASH; refused if it is bad |
//! | `rollback NAME --to HASH --even-bad` | the one whose hash begins with HASH, good or bad |

use std::fmt;

use crate::control::{Soundness, VersionView};
use crate::daemon::plugins::version::short;

/// A stored version that a rollback could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate(pub(super) VersionView);

impl Candidate {
    /// Returns the beginning of the version's hash, in the length that the log shows and an
    /// operator can type.
    fn short(&self) -> &str {
        short(&self.0.hash)
    }

    /// Whether the version is known to be bad.
    fn is_bad(&self) -> bool {
        self.0.soundness == Soundness::Bad
    }
}

impl fmt::Display for Candidate {
    /// Writes the beginning of the version's hash. In parentheses follows whether the version runs,
    /// is in the plugin file, is bad or is doubtful.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VersionView { runs, in_file, soundness, reason, .. } = &self.0;
        let reason = || reason.as_deref().unwrap_or("it trapped");
        let mut words: Vec<String> = Vec::new();
        words.extend(runs.then(|| "it runs".into()));
        words.extend(in_file.then(|| "it is in the file".into()));
        match soundness {
            Soundness::Bad => words.push(format!("bad: {}", reason())),
            Soundness::Doubtful => words.push(format!("doubtful: {}", reason())),
            Soundness::Good | Soundness::Unproven => {}
        }
        f.write_str(self.short())?;
        if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join(", ")) }
    }
}

/// Returns the version for a rollback. `kept` are the stored versions, newest first. `to` is the
/// beginning of the hash that the order names; `None` if the order names no hash. The function
/// fails with a message if no version fits, if more than one version fits, or if the version is bad
/// and `even_bad` is false.
pub(super) fn choose<'k>(
    name: &str,
    kept: &'k [Candidate],
    to: Option<&str>,
    even_bad: bool,
) -> Result<&'k VersionView, String> {
    if kept.is_empty() {
        let message =
            "no version of the plugin is stored; the daemon stores a version after its probation";
        return Err(message.into());
    }
    let list = || kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let Some(to) = to else {
        // The newest good version that is not in the file may already run in place of the file's
        // version. The order then writes this version into the file.
        let newest = best(kept.iter().filter(|one| !one.0.in_file));
        return newest.map(|one| &one.0).ok_or_else(|| {
            format!(
                "each stored version is bad or is in the plugin file already: {}{}",
                list(),
                way_out(name, kept)
            )
        });
    };
    let mut meant = kept.iter().filter(|one| one.0.hash.starts_with(to));
    match (meant.next(), meant.next()) {
        (Some(one), None) if one.is_bad() && !even_bad => Err(format!(
            "a rollback does not choose a bad version: {one}; `camshaft rollback {name} --to {} \
             --even-bad` uses this bad version{}",
            one.short(),
            match best(kept.iter().filter(|one| !one.0.in_file)) {
                Some(good) => format!(", and `--to {}` uses the newest good version", good.short()),
                None => String::new(),
            }
        )),
        (Some(one), None) => Ok(&one.0),
        (None, _) => Err(format!(
            "no stored version has a hash that begins with {to:?}; the stored versions are {}",
            list()
        )),
        (Some(_), Some(_)) => {
            Err(format!("the hashes of several stored versions begin with {to:?}: {}", list()))
        }
    }
}

/// Returns the newest good version. If there is no good version, returns the newest version that is
/// not bad.
fn best<'k>(candidates: impl Iterator<Item = &'k Candidate> + Clone) -> Option<&'k Candidate> {
    let first = |wanted: fn(&Candidate) -> bool| candidates.clone().find(|one| wanted(one));
    first(|one| !one.is_bad() && one.0.soundness != Soundness::Doubtful)
        .or_else(|| first(|one| !one.is_bad()))
}

/// Returns the advice for the case that the chosen version is damaged.
pub(super) fn in_place_of(name: &str, kept: &[Candidate], chosen: &VersionView) -> String {
    let others = kept.iter().filter(|one| !one.0.in_file && one.0.hash != chosen.hash);
    match best(others) {
        Some(other) => {
            format!(
                "`camshaft rollback {name} --to {}` uses the best other stored version",
                other.short()
            )
        }
        None => "`camshaft deploy FILE` deploys another version".into(),
    }
}

/// Returns the advice for the case that no version can be chosen for an order without a hash.
fn way_out(name: &str, kept: &[Candidate]) -> String {
    match kept.iter().find(|one| !one.0.in_file || one.0.quarantined) {
        Some(one) if one.is_bad() => {
            let short = one.short();
            format!("; `camshaft rollback {name} --to {short} --even-bad` uses a bad version")
        }
        _ => "; `camshaft deploy FILE` deploys another version".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a version with this letter, this state, and this quality.
    fn kept(letter: char, is: &str, soundness: Soundness) -> Candidate {
        Candidate(VersionView {
            hash: letter.to_string().repeat(64),
            kept: true,
            in_file: is.contains("file"),
            runs: is.contains("runs"),
            started: None,
            ran_s: 0,
            ended: None,
            end: None,
            soundness,
            reason: (soundness != Soundness::Good).then(|| "it trapped".into()),
            quarantined: is.contains("quarantine"),
        })
    }

    #[test]
    fn the_version_that_is_meant() {
        use Soundness::{Bad, Doubtful, Good};
        let check = |kept: &[Candidate], to: &str, even_bad, expected: Result<char, &[&str]>| {
            let to = (!to.is_empty()).then_some(to);
            let found = choose("tank", kept, to, even_bad);
            match (&found, expected) {
                (Ok(view), Ok(letter)) => assert!(view.hash.starts_with(letter), "{found:?}"),
                (Err(why), Err(words)) => {
                    words.iter().for_each(|word| assert!(why.contains(word), "{word}: {why}"));
                }
                _ => panic!("{found:?} is not {expected:?}"),
            }
        };
        let all = |is: [&str; 3], of: [Soundness; 3]| {
            [kept('c', is[0], of[0]), kept('b', is[1], of[1]), kept('a', is[2], of[2])]
        };
        let good = [Good; 3];
        check(&all(["runs file", "", ""], good), "", false, Ok('b'));
        // A version that runs in place of the file's version is written into the file.
        check(&all(["file", "runs", ""], good), "", false, Ok('b'));
        check(&all(["file quarantine", "runs", ""], [Bad, Good, Bad]), "", false, Ok('b'));
        check(&all(["", "", ""], good), "", false, Ok('c'));
        check(&all(["runs file", "", ""], good), "aa", false, Ok('a'));
        // A bad version is skipped. A doubtful version is chosen only if no good version is stored.
        check(&all(["runs file", "", ""], [Good, Bad, Good]), "", false, Ok('a'));
        check(&all(["runs file", "", ""], [Good, Doubtful, Good]), "", false, Ok('a'));
        check(&all(["runs file", "", ""], [Good, Doubtful, Bad]), "", false, Ok('b'));
        let c = "cccccccccccccccc (it runs, it is in the file)";
        let bad = all(["runs file", "", ""], [Good, Bad, Bad]);
        let b = "rollback tank --to bbbbbbbbbbbbbbbb --even-bad` uses a bad version";
        let none: &[&str] = &[
            "each stored version is bad or is in the plugin file already",
            c,
            "(bad: it trapped)",
            b,
        ];
        check(&bad, "", false, Err(none));
        check(&bad, "", true, Err(none));
        let named: &[&str] = &["a bad version: bbbbbbbbbbbbbbbb (bad: it trapped)", "--even-bad"];
        check(&bad, "b", false, Err(named));
        check(&bad, "b", true, Ok('b'));
        let better: &[&str] =
            &["--even-bad", "`--to aaaaaaaaaaaaaaaa` uses the newest good version"];
        check(&all(["runs file", "", ""], [Good, Bad, Good]), "b", false, Err(better));
        check(
            &bad[..1],
            "",
            false,
            Err(&["each stored version is bad or", c, "camshaft deploy FILE"]),
        );
        check(&[], "", false, Err(&["no version of the plugin is stored"]));
        let unknown = "no stored version has a hash that begins with \"f\"; the stored versions \
                       are cccc";
        check(&bad, "f", false, Err(&[unknown]));
        let twins = [kept('c', "", Good), kept('c', "", Good)];
        check(&twins, "c", false, Err(&["the hashes of several stored versions begin with \"c\""]));
    }

    /// A defect of the past: each rollback chose the newest good version, which was damaged, and no
    /// message named the next version.
    #[test]
    fn the_next_one_is_named_for_what_is_damaged() {
        use Soundness::{Bad, Doubtful, Good};
        let check = |of: [Soundness; 3], expected: &str| {
            let all = [kept('c', "file", of[0]), kept('b', "", of[1]), kept('a', "", of[2])];
            let said = in_place_of("tank", &all, &all[1].0);
            assert!(said.contains(expected), "{said}");
        };
        check(
            [Good, Good, Good],
            "rollback tank --to aaaaaaaaaaaaaaaa` uses the best other stored version",
        );
        check([Good, Good, Doubtful], "--to aaaaaaaaaaaaaaaa`");
        check([Good, Good, Bad], "`camshaft deploy FILE`");
    }
}
