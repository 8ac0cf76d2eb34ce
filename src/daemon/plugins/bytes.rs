//! The bytes of a module (the content of a `.wasm` plugin file): in memory, or a list of places
//! where the bytes may be stored.
//!
//! For example, a stored version that has not run since the start is not in memory, and a refused
//! module that has never run is not in memory. `recall.rs` lists the places that may have the bytes
//! of a module: the stored versions and the file in the plugin folder. When `fetch` fails, it
//! returns a refusal. The flag `is_lost` of this refusal is true if no place has the bytes any
//! more, and false if a later attempt may find the bytes. `loader.rs` uses the bytes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::call::{READING, STATE, in_time};
use crate::plugin::module::compile::Artifact;
use crate::plugin::module::folder;
use crate::plugin::module::versions::Versions;
use crate::plugin::{ModuleHash, Refusal};

/// The bytes of a module and its artifact (the compiled machine code), if they are in memory. An
/// artifact may be much larger than the bytes, so `lighten` drops the artifact from memory after
/// the compile cache has stored it.
#[derive(Debug, Clone)]
pub(in crate::daemon) enum Module {
    /// The bytes of the module, without an artifact.
    Bytes(Arc<[u8]>),
    /// The bytes, and the artifact that was compiled from them.
    Compiled(Arc<[u8]>, Artifact),
    /// No bytes in memory, for example because the module was refused or has not run since the
    /// start. The loader reads the bytes from the first of these places that has the bytes.
    Away(Vec<ModuleSource>),
}

/// A place where the bytes of a module may be stored.
#[derive(Debug, Clone)]
pub(in crate::daemon) enum ModuleSource {
    /// The stored versions of the plugin with this name.
    Kept(Versions, String),
    /// The plugin file with this path.
    File(PathBuf),
}

impl Module {
    /// Returns the bytes of the module, if they are in memory.
    pub(in crate::daemon) fn bytes(&self) -> Option<Arc<[u8]>> {
        match self {
            Self::Bytes(bytes) | Self::Compiled(bytes, _) => Some(Arc::clone(bytes)),
            Self::Away(_) => None,
        }
    }

    /// Drops the artifact if the cache has stored it.
    pub(in crate::daemon) fn lighten(&mut self) {
        if let Self::Compiled(bytes, artifact) = self
            && artifact.is_stored()
        {
            *self = Self::Bytes(Arc::clone(bytes));
        }
    }
}

/// Reads a module from the first of these places that has its bytes. `most` is the size limit for a
/// plugin file, in bytes.
pub(super) async fn fetch(
    places: Vec<ModuleSource>,
    most: u64,
    hash: ModuleHash,
) -> Result<Arc<[u8]>, Refusal> {
    let nowhere = Refusal::new(
        "the bytes of this version are not stored any more",
        "deploy the file of this version again",
    );
    let mut refusal = nowhere.of_lost_bytes();
    for place in places {
        let found = match place {
            ModuleSource::Kept(versions, name) => read_kept(versions, name, hash).await,
            ModuleSource::File(path) => reread(path, most, hash).await,
        };
        match found {
            Ok(bytes) => return Ok(bytes),
            // The bytes are lost only if every place has lost them. A place that does not answer
            // now may still have the bytes.
            Err(why) => refusal = Refusal { is_lost: refusal.is_lost && why.is_lost, ..why },
        }
    }
    Err(refusal)
}

/// Reads the plugin file of a module again. If the file has other bytes than the wanted bytes,
/// returns a refusal. The watch of the folder reports the other bytes separately.
async fn reread(path: PathBuf, most: u64, hash: ModuleHash) -> Result<Arc<[u8]>, Refusal> {
    let name = path.display().to_string();
    match in_time(&READING, move || folder::reread(&path, most)).await {
        Ok(bytes) if ModuleHash::of(&bytes) == hash => Ok(bytes.into()),
        Ok(_) => {
            let reason = format!("{name} has changed since the daemon read it");
            Err(Refusal::new(reason, "the daemon loads the changed file next").of_lost_bytes())
        }
        Err(error) => {
            Err(unread(Refusal::new(format!("{name}: {error}"), "copy the file again"), &error))
        }
    }
}

/// Reads a stored version within a time limit, because the disk may not answer.
async fn read_kept(
    versions: Versions,
    name: String,
    hash: ModuleHash,
) -> Result<Arc<[u8]>, Refusal> {
    match in_time(&STATE, move || versions.read(&name, hash)).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => {
            let reason = format!("the stored version {hash} cannot be read: {error}");
            let refusal = Refusal::new(reason, "deploy the file of this version again");
            // An earlier daemon that ran as another user may have stored the version. This daemon
            // can never read such a version.
            Err(match error.kind() {
                io::ErrorKind::PermissionDenied => refusal.of_lost_bytes(),
                _ => unread(refusal, &error),
            })
        }
    }
}

/// Records in the refusal whether the bytes are lost. Bytes that may be readable later are not
/// lost.
fn unread(refusal: Refusal, error: &io::Error) -> Refusal {
    use io::ErrorKind::{FileTooLarge, InvalidData, NotFound};
    match error.kind() {
        NotFound | InvalidData | FileTooLarge => refusal.of_lost_bytes(),
        _ => refusal.by_accident(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_lost_and_what_is_late_is_not() {
        let is_lost = |error: io::Error| unread(Refusal::new("", ""), &error).is_lost;
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData];
        assert!(kinds.iter().all(|kind| is_lost((*kind).into())));
        let dir = tempfile::tempdir().unwrap();
        let (versions, hash) = (Versions::new(dir.path().into()), ModuleHash::of(b"it"));
        versions.store("tank", b"it", |_, _| Some(0)).unwrap();
        let kept = std::fs::read_dir(dir.path().join("tank")).unwrap().next().unwrap().unwrap();
        let file = std::fs::File::options().write(true).open(kept.path()).unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(is_lost(versions.read("tank", hash).unwrap_err()), "the stored file is too long");
        assert!(!is_lost(crate::patience::late("no answer")));
        assert!(!is_lost(io::Error::from_raw_os_error(nix::libc::EMFILE)));
    }

    /// A defect of the past: the file had new bytes, and the loader did not search the stored
    /// versions for the old bytes. The test also checks that the loader reads the file if the
    /// stored version is damaged.
    #[tokio::test]
    async fn a_module_is_read_from_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (versions, hash) = (Versions::new(dir.path().join("versions")), ModuleHash::of(b"it"));
        let file = dir.path().join("tank.wasm");
        let places =
            [ModuleSource::Kept(versions.clone(), "tank".into()), ModuleSource::File(file.clone())];
        let found = async |places: &[ModuleSource]| {
            let found = fetch(places.to_vec(), 100, hash).await;
            found.map(|bytes| bytes.to_vec()).map_err(|refusal| {
                assert!(refusal.is_accidental && refusal.is_lost, "{refusal}");
                refusal.reason
            })
        };
        std::fs::write(&file, "other").unwrap();
        let why = found(&places).await.unwrap_err();
        assert!(why.ends_with("has changed since the daemon read it"), "{why}");
        versions.store("tank", b"it", |_, _| Some(0)).unwrap();
        assert_eq!(found(&places).await.unwrap(), b"it");
        for kept in std::fs::read_dir(dir.path().join("versions/tank")).unwrap() {
            std::fs::write(kept.unwrap().path(), "damaged").unwrap();
        }
        let why = found(&places[..1]).await.unwrap_err();
        assert!(why.ends_with("is damaged"), "{why}");
        std::fs::write(&file, "it").unwrap();
        assert_eq!(found(&places).await.unwrap(), b"it");
        assert_eq!(
            found(&[]).await.unwrap_err(),
            "the bytes of this version are not stored any more"
        );
        // The folder of stored versions cannot be read now, but it may have the module.
        std::fs::remove_dir_all(dir.path().join("versions")).unwrap();
        std::fs::write(dir.path().join("versions"), "in the way").unwrap();
        std::fs::remove_file(&file).unwrap();
        let refusal = fetch(places.to_vec(), 100, hash).await.unwrap_err();
        assert!(refusal.is_accidental && !refusal.is_lost, "{refusal}");
    }
}
