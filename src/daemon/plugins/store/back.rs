//! The rollback to a stored version, by order of an operator.
//!
//! The rollback writes the stored bytes as a plugin file into the plugin folder, like a deploy. So
//! after a restart of the daemon, the folder has the version that should run. The swap is a normal
//! swap, with state, probation and a receipt. `choose.rs` decides which version is used;
//! `deploy.rs` has the deploy of new bytes.
//!
//! ```text
//!   order ──▶ choose() ──▶ read from the store ──▶ put(): write the file ──▶ answer
//!                │                 │                        │
//!                └── refused       └── cannot be read       └── not written, or not known
//! ```
//! In the first two cases of failure, the present file and the running program remain unchanged. In
//! the third case, they also remain unchanged, or the answer reports that the result is not known.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::Plugins;
use super::super::call::{Ended, STATE, in_time, put};
use super::super::folder;
use super::choose::{Candidate, choose, in_place_of};
use crate::config::Config;
use crate::control::{Code, Failure, Reply, Response};
use crate::name::PluginName;
use crate::plugin::ModuleHash;
use crate::plugin::module::folder::Home;
use crate::plugin::module::versions::Versions;

impl Plugins {
    /// Writes a stored version of a plugin into the folder. The text `to` is the beginning of the
    /// version's hash. Without `to`, the newest good version that is not in the plugin file is
    /// used, or the newest doubtful version if there is no good version. This version may already
    /// run in place of the file's version. A bad version is used only with `even_bad`. After the
    /// file is written, `audit.rs` ends the version's quarantine.
    pub(in crate::daemon) fn roll_back(
        &mut self,
        name: PluginName,
        to: Option<String>,
        even_bad: bool,
        reply: oneshot::Sender<Reply>,
        config: &Config,
    ) {
        let found = self.wanted_version(&name, to.as_deref(), even_bad);
        let (versions, hash, others) = match found {
            Ok(found) => found,
            Err(failure) => return drop(reply.send(Err(failure))),
        };
        let (folder, home) = (config.fixed.plugins.dir.clone(), self.folder.watch.home());
        let under_way = self.folder.begin_deploy(&name);
        // The disks may be slow, so a task reads and writes, and the daemon's loop continues.
        tokio::spawn(async move {
            let done = put_back(versions, (folder, home), (name.clone(), hash), others).await;
            let done =
                done.map(|()| Response::Deployed { name: name.into(), hash: format!("{hash:#}") });
            // From here on, the daemon accepts other orders about this plugin again.
            drop(under_way);
            let _ = reply.send(done.map_err(|why| Failure::new(Code::Internal, why)));
        });
    }

    /// Returns the folder of stored versions, the wanted version, and the advice for the case that
    /// the version cannot be read.
    fn wanted_version(
        &self,
        name: &str,
        to: Option<&str>,
        even_bad: bool,
    ) -> Result<(Versions, ModuleHash, String), Failure> {
        let refused = |message: String| {
            Failure::new(Code::Refused, format!("{name} stays as it is: {message}"))
        };
        // The store is checked before the name, because stored versions may exist under a name that
        // no plugin has.
        self.store.is_known()?;
        if let Some(why) = self.store.doubt(name) {
            return Err(refused(why));
        }
        if self.store.of(name).is_empty() {
            self.known(name)?;
        }
        self.takes_files()?;
        let versions = self.store.versions.clone();
        let versions = versions.ok_or_else(|| {
            refused("the daemon has no state directory and stores no versions".into())
        })?;
        self.supervisor.admits_name(name).map_err(|refusal| refused(refusal.to_string()))?;
        let kept = self.store.of(name).iter();
        let kept: Vec<_> = kept.map(|hash| Candidate(self.version(name, *hash, true))).collect();
        let found = choose(name, &kept, to, even_bad).map_err(refused)?;
        let hash = ModuleHash::from_hex(&found.hash).expect("the hash is hexadecimal");
        Ok((versions, hash, in_place_of(name, &kept, found)))
    }
}

/// Writes a stored version into the folder. The stored version and the folder may be on two disks,
/// and each disk has its own time limit. `others` is the advice for the case that the version
/// cannot be read.
async fn put_back(
    versions: Versions,
    (folder, home): (PathBuf, Arc<Home>),
    (name, hash): (PluginName, ModuleHash),
    others: String,
) -> Result<(), String> {
    let stays = |error| format!("{name} stays as it is: version {hash}: {error}");
    let (of, shown) = (name.clone(), folder.display().to_string());
    let module = in_time(&STATE, move || versions.read(&of, hash)).await.map_err(|error| {
        stays(format!("it cannot be read from the state directory: {error}; {others}"))
    })?;
    match put((folder, home), name.clone(), module).await {
        Ended::Done => Ok(()),
        Ended::NotDone(error) => {
            Err(stays(format!("{name}.wasm cannot be written to {shown}: {error}")))
        }
        Ended::Unknown(error) => {
            let file = format!("version {hash} of {name}");
            Err(folder::unknown(&file, &format!("written to {shown}"), &error))
        }
    }
}
