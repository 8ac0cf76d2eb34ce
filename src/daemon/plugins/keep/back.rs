//! The rollback to a kept version that an operator orders.
//!
//! A rollback is a deploy of kept bytes. So the folder still says what is to run, and the swap is
//! like any other swap: with state, probation and a receipt. `choose.rs` decides which version is
//! taken; `deploy.rs` has the deploy of an operator's own bytes.

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
    /// Puts a kept version of a plugin into the folder. With `to`, it is the version whose hash
    /// begins with `to`. Without `to`, it is the newest good version that is not in the file, also
    /// one that runs in place of the file's version. A bad version is taken only with `even_bad`.
    /// After the file is written, `audit.rs` ends the version's quarantine.
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
        tokio::spawn(async move {
            let done = put_back(versions, (folder, home), (name.clone(), hash), others).await;
            let done =
                done.map(|()| Response::Deployed { name: name.into(), hash: format!("{hash:#}") });
            drop(under_way);
            let _ = reply.send(done.map_err(|why| Failure::new(Code::Internal, why)));
        });
    }

    /// The wanted version, where it is kept, and the advice for the case that it cannot be read.
    fn wanted_version(
        &self,
        name: &str,
        to: Option<&str>,
        even_bad: bool,
    ) -> Result<(Versions, ModuleHash, String), Failure> {
        let refused = |message: String| {
            Failure::new(Code::Refused, format!("{name} stays as it is: {message}"))
        };
        // The store is asked before the name, because a kept version may be all that is known under
        // the name.
        self.store.is_known()?;
        if let Some(why) = self.store.doubt(name) {
            return Err(refused(why));
        }
        if self.store.of(name).is_empty() {
            self.known(name)?;
        }
        self.takes_files()?;
        let versions = self.store.versions.clone();
        let versions = versions
            .ok_or_else(|| refused("no versions are kept: there is no state folder".into()))?;
        self.supervisor.admits_name(name).map_err(|refusal| refused(refusal.to_string()))?;
        let kept = self.store.of(name).iter();
        let kept: Vec<_> = kept.map(|hash| Candidate(self.version(name, *hash, true))).collect();
        let found = choose(name, &kept, to, even_bad).map_err(refused)?;
        let hash = ModuleHash::from_hex(&found.hash).expect("it was made of one");
        Ok((versions, hash, in_place_of(name, &kept, found)))
    }
}

/// Puts a kept version into the folder. The version and the folder may lie on two disks, and each
/// disk has its own time to answer. `others` is the advice for the case that the version cannot be
/// read.
async fn put_back(
    versions: Versions,
    (folder, home): (PathBuf, Arc<Home>),
    (name, hash): (PluginName, ModuleHash),
    others: String,
) -> Result<(), String> {
    let stays = |error| format!("{name} stays as it is: version {hash}: {error}");
    let (of, shown) = (name.clone(), folder.display().to_string());
    let module = in_time(&STATE, move || versions.read(&of, hash)).await.map_err(|error| {
        stays(format!("it cannot be read from where it is kept: {error}; {others}"))
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
