//! The file in the state directory that says what became of each version.
//!
//! Read once, at the start, on a thread that may wait for the disk. It is written in `version.rs`.

use std::sync::Arc;
use std::{fs, io};

use super::Sum;
use crate::file;
use crate::patience::{self, PATIENCE};
use crate::state::Folder;

/// In the state directory.
pub(super) const FILE: &str = "versions.json";

/// Twice what the most versions of the most plugins have at 500 bytes each; what is longer is not
/// ours.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// What the file in this folder says, and the folder if it may be written anew. A damaged file is
/// set aside: it may be the only place that knows of a version that it is bad. One that cannot be
/// set aside, or whose disk gives no answer, is left as it is.
pub(super) fn read(folder: Arc<Folder>) -> (Sum, Option<Arc<Folder>>) {
    let path = folder.path().join(FILE);
    let (place, file) = (path.clone(), path.display());
    let error = match patience::wait(PATIENCE, move || file::read(&place, MAX_FILE_BYTES)) {
        Ok(None) => return (Sum::default(), Some(folder)),
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(sum) => return (sum, Some(folder)),
            Err(error) => io::Error::new(io::ErrorKind::InvalidData, error),
        },
        Err(error) => error,
    };
    let aside = path.with_added_extension("damaged");
    let (from, to) = (path.clone(), aside.clone());
    let moved = match patience::is_late(&error) {
        true => Err(patience::late("it may be whole")),
        false => patience::wait(PATIENCE, move || fs::rename(from, to)),
    };
    let (folder, rest) = match moved {
        Ok(()) => (Some(folder), format!("it lies in {} now", aside.display())),
        Err(why) => (None, format!("it stays as it is, and nothing is written there ({why})")),
    };
    tracing::warn!(
        %file,
        %error,
        "{file} does not say what became of each version ({error}); the history does, as far as it \
         goes back; {rest}"
    );
    (Sum::default(), folder)
}
