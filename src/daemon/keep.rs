//! Keeps the versions that have proved themselves, and goes back to one when the operator says so.
//!
//! Going back is a deploy of kept bytes: the folder stays the truth about what is to run, and the
//! swap is like any other, with state, probation and a receipt. Where versions lie is in
//! `plugin/versions.rs`; a version that traps on probation is taken back by the scan itself.

use tokio::sync::oneshot;

use super::Daemon;
use super::answer::answer_if_wanted;
use crate::control::{Code, Failure, Reply, Response};
use crate::plugin::ModuleHash;
use crate::plugin::folder::{publish_if, reread};

impl Daemon {
    /// Keeps what has proved itself since the last look.
    pub(super) fn keep_the_good(&mut self) {
        let Some(versions) = &self.versions else { return };
        let news = self.reins.latest.read();
        for fact in news.programs.iter().filter(|fact| fact.is_proven && fact.trap.is_none()) {
            let Some(name) = self.roster.name(fact.seat).cloned() else { continue };
            let view = self.supervisor.plugin(&name);
            let Some(running) = view.and_then(|view| view.running) else { continue };
            let Some(entry) = self.roster.get_mut(&name) else { continue };
            if running.generation != fact.generation || entry.kept == Some(running.hash) {
                continue;
            }
            // Once, whatever comes of it: a full disk would otherwise be tried at every look.
            entry.kept = Some(running.hash);
            let file = self.config.plugins.dir.join(format!("{name}.wasm"));
            let (versions, most) = (versions.clone(), self.config.plugins.limits.module_bytes);
            tokio::task::spawn_blocking(move || {
                // A file that holds other bytes by now is not what has proved itself.
                let module = reread(&file, most).unwrap_or_default();
                if ModuleHash::of(&module) == running.hash
                    && let Err(error) = versions.keep(&name, &module)
                {
                    tracing::warn!(
                        plugin = &*name,
                        %error,
                        "{name}: version {} is not kept for a rollback: {error}",
                        running.hash
                    );
                }
            });
        }
    }

    /// Puts a kept version of a plugin into the folder: the one whose hash begins with `to`, or the
    /// newest that is neither in the scan nor in the folder.
    pub(super) fn roll_back(
        &self,
        name: String,
        to: Option<String>,
        reply: oneshot::Sender<Reply>,
    ) {
        let view = self.supervisor.plugin(&name);
        let running = view.as_ref().and_then(|view| view.running).map(|version| version.hash);
        let present = [running, view.and_then(|view| view.file)];
        let versions = self.versions.clone();
        let folder = self.config.plugins.dir.clone();
        answer_if_wanted(reply, move |is_wanted| {
            let refused = |message: String| Failure::new(Code::Refused, message);
            let internal = |error| Failure::new(Code::Internal, format!("{name}: {error}"));
            let versions = versions
                .ok_or_else(|| refused("no versions are kept: there is no state folder".into()))?;
            let kept = versions.list(&name).map_err(internal)?;
            let hash = choose(&kept, present, to.as_deref()).map_err(|why| {
                let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
                let kept = if kept.is_empty() { "none".into() } else { kept.join(", ") };
                refused(format!("{name} stays as it is: {why}; kept are: {kept}"))
            })?;
            let module = versions.read(&name, hash).map_err(internal)?;
            publish_if(&folder, &name, &module, is_wanted).map_err(internal)?;
            Ok(Response::Deployed { name, hash: format!("{hash:#}") })
        });
    }
}

/// Which of the kept versions, the newest first, is meant.
fn choose(
    kept: &[ModuleHash],
    present: [Option<ModuleHash>; 2],
    to: Option<&str>,
) -> Result<ModuleHash, String> {
    let Some(to) = to else {
        let other = kept.iter().find(|hash| !present.contains(&Some(**hash)));
        return other.copied().ok_or_else(|| "no other version is kept".into());
    };
    let mut meant = kept.iter().filter(|hash| format!("{hash:#}").starts_with(to));
    match (meant.next(), meant.next()) {
        (Some(hash), None) => Ok(*hash),
        (None, _) => Err(format!("no version is kept whose hash begins with {to:?}")),
        (Some(_), Some(_)) => Err(format!("several versions begin with {to:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_meant() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|text| ModuleHash::of(text));
        let kept = [c, b, a];
        let none = |why: &str| Err(why.to_owned());
        assert_eq!(choose(&kept, [Some(c), Some(c)], None), Ok(b));
        assert_eq!(choose(&kept, [Some(b), Some(c)], None), Ok(a), "it was taken back already");
        assert_eq!(choose(&kept, [None, None], None), Ok(c), "nothing runs");
        assert_eq!(choose(&[c], [Some(c), None], None), none("no other version is kept"));
        assert_eq!(choose(&kept, [Some(a), None], Some(&a.to_string())), Ok(a));
        let why = "no version is kept whose hash begins with \"xyz\"";
        assert_eq!(choose(&kept, [None, None], Some("xyz")), none(why));
        assert_eq!(choose(&kept, [None, None], Some("")), none("several versions begin with \"\""));
    }
}
