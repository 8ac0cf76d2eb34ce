//! A deploy: the bytes that an operator sends become a file of the plugin folder.
//!
//! ```text
//!   bytes ──▶ quarantine? ──▶ check in a child process ──▶ put() ──▶ the file ──▶ answer
//!                └────────────────┴──▶ refused; no file is written
//! ```
//! A module that cannot run is refused before the file is written. After the write, the watch of
//! the folder finds the file, and the daemon handles the file like any other file (`folder.rs`).
//!
//! The first two checks (of the name and of the folder) are made at once. The other steps run in a
//! task, so the daemon's loop does not wait for the child process or the disk. If the bytes are in
//! quarantine or the check refuses them, the daemon records the refusal in the plugin's history,
//! with the user who sent the bytes.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::oneshot;

use super::Plugins;
use super::call::{Ended, put};
use super::folder;
use super::loader::Loader;
use crate::config::Config;
use crate::control::{Code, Failure, Reply, Response, Who};
use crate::name::PluginName;
use crate::plugin::module::check;
use crate::plugin::module::folder::Home;
use crate::plugin::{ModuleHash, Refusal};

impl Plugins {
    /// Begins to write a module into the folder. If the name is not allowed or the folder cannot be
    /// used, the order is refused at once.
    pub(in crate::daemon) fn deploy(
        &mut self,
        name: PluginName,
        module: Bytes,
        who: Option<Who>,
        reply: oneshot::Sender<Reply>,
        config: &Config,
    ) {
        if let Err(refusal) = self.supervisor.admits_name(&name) {
            let message = format!("{name} is not deployed: {refusal}");
            let _ = reply.send(Err(Failure::new(Code::Refused, message)));
            return;
        }
        if let Err(failure) = self.takes_files() {
            let _ = reply.send(Err(failure));
            return;
        }
        let folder = (config.fixed.plugins.dir.clone(), self.folder.watch.home());
        let loader = self.loader.clone();
        let quarantined = self.supervisor.quarantined(&name);
        let under_way = self.folder.begin_deploy(&name);
        tokio::spawn(async move {
            let answer = deploy(&loader, folder, (name, module), &quarantined, who).await;
            // From here on, the daemon accepts other orders about this plugin again.
            drop(under_way);
            let _ = reply.send(answer);
        });
    }
}

/// Checks a module and writes it into the folder. Bytes that are in quarantine, and bytes that the
/// check in the child process refuses, are not written, because a mistake of the operator must not
/// replace a good file.
async fn deploy(
    loader: &Loader,
    (folder, home): (PathBuf, Arc<Home>),
    (name, module): (PluginName, Bytes),
    quarantined: &[(ModuleHash, String)],
    who: Option<Who>,
) -> Reply {
    let hash = ModuleHash::of(&module);
    let checked = match quarantined.iter().find(|(of, _)| *of == hash) {
        Some((_, why)) => Err(Refusal::new(
            format!("these bytes are in quarantine: {why}"),
            format!("deploy other bytes; `camshaft release {name}` allows these bytes again"),
        )),
        None => loader.compile_service.check(&module).await,
    };
    if let Err(refusal) = checked {
        let failure = Failure::new(Code::Refused, format!("{name} stays as it is: {refusal}"));
        // If the bytes are no module, the history does not get their hash. The file may be a secret
        // that was deployed by mistake, and its hash would help an attacker to guess the secret.
        let hash = check::stranger(&module).is_none().then_some(hash);
        loader.turned_away(name.into(), hash, refusal, who).await;
        return Err(failure);
    }
    let shown = folder.display().to_string();
    let why = match put((folder, home), name.clone(), module).await {
        Ended::Done => {
            return Ok(Response::Deployed { name: name.into(), hash: format!("{hash:#}") });
        }
        Ended::NotDone(error) => format!("{name}.wasm cannot be written to {shown}: {error}"),
        Ended::Unknown(error) => {
            folder::unknown(&format!("{name}.wasm"), &format!("written to {shown}"), &error)
        }
    };
    Err(Failure::new(Code::Internal, why))
}
