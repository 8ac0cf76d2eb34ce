//! One point of the file driver with its file, and the calls that access this file.
//!
//! ```text
//!   free --start--> call in progress --ended--> free
//!                     |  2 s without an answer: trouble in the status
//!                     v
//!                   hangs: a probe asks again and again which file the path leads to;
//!                     |    if the probe hangs too, a new one starts after a mount or unmount
//!                     |  another file than the one that the call waits for
//!                     v
//!                   free; the thread of the old call goes on waiting
//! ```
//! At most one call and one probe of a spot are in progress, beside the calls that were given up.
//! Each call and each probe has one of [`MAX_CALLS`] places until it returns.
//!
//! `file.rs` decides what is read and written, and when. `number.rs` makes the calls.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinSet};

use super::identity::{Identity, Progress};
use super::number;
use crate::driver::Part;
use crate::logged::OnChange;
use crate::patience::{Places, PlacesByKey};
use crate::process::image::{Point, PointId, Raw};

/// If a read, a write or a check of one file takes this long, the status shows that the call does
/// not return. A sensor on a slow bus may need a second, so the limit is two seconds.
const HANGS: Duration = Duration::from_secs(2);

/// The minimum time between two probes of one file that does not answer. A probe costs about as
/// much as a read.
const PROBE: Duration = Duration::from_millis(100);

/// The maximum number of threads that wait for the file of one point: a call, its probe, and four
/// calls that were given up because their file was replaced or their device was started again by a
/// reload. If more files hang one after the other, the point stays bad until one of them answers.
const MAX_CALLS: usize = 6;

/// The places of the calls. The key is the name of the point with its path.
static CALLS: PlacesByKey<String> = PlacesByKey::new(MAX_CALLS);

/// The calls of all spots of a device, also those that were given up.
pub(super) type Calls = JoinSet<io::Result<FileResult>>;

/// The result of a successful call.
#[derive(Debug)]
pub(super) enum FileResult {
    /// A read has succeeded. The field is the raw value.
    Read(Raw),
    /// A write has succeeded. The fields are the raw value and the identity of the file.
    Written(Raw, Identity),
    /// A check or a probe has succeeded. The field is the identity of the file to which the path
    /// leads now.
    Seen(Identity),
}

/// A point, its file, and the state of the calls that access this file.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) id: PointId,
    pub(super) point: Arc<Point>,
    pub(super) path: Arc<Path>,
    /// The error of the last call, or a message which says that the call in progress does not
    /// return. `None` if the last call succeeded, and before the end of the first call.
    pub(super) trouble: OnChange<Option<String>>,
    /// The value that the driver tried to write last, whether or not the write succeeded. Each
    /// check of the outputs resets this field, so that the driver repeats a failed write.
    pub(super) tried: Option<Raw>,
    /// The identity of the file that the last successful write has changed. `None` before that
    /// write, and after a later write or check has failed or a check has found another file.
    pub(super) written: Option<Identity>,
    /// The call in progress, if there is one.
    call: Option<Call>,
    /// The probe in progress, if there is one.
    probe: Option<Probe>,
    /// The time at which the driver last began a probe, or last found that it could not begin one.
    probed_at: Option<Instant>,
    /// The places for the calls and probes of this spot.
    places: Places,
}

/// A call in progress.
#[derive(Debug)]
struct Call {
    id: Id,
    begun_at: Instant,
    progress: Arc<Progress>,
}

/// A probe in progress.
#[derive(Debug)]
struct Probe {
    id: Id,
    begun_at: Instant,
    /// The mounts through which the path led when the probe began.
    mounts: Vec<String>,
}

/// The kind of work that has ended. [`Spot::ends`] returns it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The call in progress.
    Call,
    /// A probe. The field is the time at which it began.
    Probe(Instant),
}

impl Spot {
    /// Makes a spot without a call. It opens no file.
    pub(super) fn new(id: PointId, point: &Point, path: &Path) -> Self {
        Self {
            id,
            point: Arc::new(point.clone()),
            path: Arc::from(path),
            trouble: OnChange::default(),
            tried: None,
            written: None,
            call: None,
            probe: None,
            probed_at: None,
            places: CALLS.of(format!("{} {}", point.name, path.display())),
        }
    }

    /// Whether no call is in progress.
    pub(super) fn is_free(&self) -> bool {
        self.call.is_none()
    }

    /// Starts a call on a thread that may wait. If too many earlier calls still wait, starts none
    /// and sets the trouble. Returns whether the trouble has changed.
    pub(super) fn start(
        &mut self,
        all: &mut Calls,
        work: impl FnOnce(&Path, &Progress) -> io::Result<FileResult> + Send + 'static,
    ) -> bool {
        let Some(slot) = self.places.try_take() else {
            let why = format!(
                "{}: not opened, because {MAX_CALLS} earlier calls on files at this path still \
                 wait for an answer",
                self.path.display()
            );
            return self.trouble.changes_to(Some(why));
        };
        let (path, progress) = (Arc::clone(&self.path), Arc::new(Progress::default()));
        let shared = Arc::clone(&progress);
        let call = all.spawn_blocking(move || {
            let _until_it_returns = slot;
            work(&path, &shared)
        });
        self.call = Some(Call { id: call.id(), begun_at: Instant::now(), progress });
        false
    }

    /// If the call in progress takes longer than [`HANGS`], sets the trouble "the file does not
    /// answer" and starts a probe. Returns whether the trouble has changed.
    pub(super) fn watch(&mut self, all: &mut Calls) -> bool {
        if self.call.as_ref().is_none_or(|call| call.begun_at.elapsed() < HANGS) {
            return false;
        }
        if self.probed_at.is_none_or(|at| at.elapsed() >= PROBE) {
            self.probed_at = Some(Instant::now());
            // A probe hangs if its file system gives no answer. Such a probe says nothing about the
            // file system that has taken the place of the old one.
            let is_old = |probe: &mut Probe| probe.mounts != mounts(&self.path);
            self.probe.take_if(is_old);
            if self.probe.is_none() {
                self.probe(all);
            }
        }
        self.trouble.changes_to(Some(format!("{}: the file does not answer", self.path.display())))
    }

    /// Starts a probe: a call that finds out which file the path leads to. Without a free place,
    /// starts none.
    fn probe(&mut self, all: &mut Calls) {
        let Some(slot) = self.places.try_take() else { return };
        let (path, begun_at, mounts) = (Arc::clone(&self.path), Instant::now(), mounts(&self.path));
        let probe = all.spawn_blocking(move || {
            let _until_it_returns = slot;
            number::identity(&path).map(FileResult::Seen)
        });
        self.probe = Some(Probe { id: probe.id(), begun_at, mounts });
    }

    /// Takes note that the work with this id has ended. Returns what it was, or `None` if it was
    /// work of another spot, or a call or probe that was given up.
    pub(super) fn ends(&mut self, id: Id) -> Option<Ended> {
        if self.call.take_if(|call| call.id == id).is_some() {
            return Some(Ended::Call);
        }
        let probe = self.probe.take_if(|probe| probe.id == id);
        probe.map(|probe| Ended::Probe(probe.begun_at))
    }

    /// Takes the result of a probe that began at `probed_at`: the path leads to `file`. Gives up
    /// the call in progress if it waits for another file. A call that began after the probe is not
    /// given up. Returns whether the call was given up; then the spot is free for a call on the new
    /// file.
    pub(super) fn give_up_if_replaced(&mut self, probed_at: Instant, file: Identity) -> bool {
        let waits = |call: &mut Call| call.begun_at <= probed_at && !call.progress.is_at(file);
        let Some(call) = self.call.take_if(waits) else { return false };
        call.progress.give_up();
        self.tried = None;
        true
    }

    /// Makes the part of the status that describes the spot.
    pub(super) fn part(&self) -> Part {
        Part {
            name: self.point.name.clone(),
            ok: self.trouble.last().is_none(),
            state: self.trouble.last().clone().unwrap_or_else(|| self.path.display().to_string()),
            facts: Vec::new(),
        }
    }
}

/// Returns the numbers of the mounts through which a path leads. Links in the path are not
/// followed. The numbers come from the kernel's own table, so the call waits for no file system. A
/// mount keeps its number while a call hangs in it.
fn mounts(path: &Path) -> Vec<String> {
    // The table (proc(5), mountinfo) has these characters of a mount point in octal.
    let escaped = |text: String, c: char| text.replace(c, &format!("\\{:03o}", u32::from(c)));
    let path = ['\\', ' ', '\t', '\n'].into_iter().fold(path.to_string_lossy().into(), escaped);
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let number = |line: &str| {
        let (number, point) = (line.split(' ').next()?, line.split(' ').nth(4)?);
        let below = path.strip_prefix(point.trim_end_matches('/'))?;
        (below.is_empty() || below.starts_with('/')).then(|| number.to_owned())
    };
    String::from_utf8_lossy(&table).lines().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::process::image::{Direction, PointKind};

    /// A runtime that is never dropped. The drop would wait for the threads that hang, also after a
    /// failed assertion.
    fn runtime() -> ManuallyDrop<Runtime> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        ManuallyDrop::new(runtime.unwrap())
    }

    /// Waits until the probe has ended, and returns the file that it has seen.
    async fn probed(spot: &mut Spot, all: &mut Calls) -> (Instant, Identity) {
        spot.probe(all);
        loop {
            let (id, seen) = all.join_next_with_id().await.unwrap().unwrap();
            if let Some(Ended::Probe(begun_at)) = spot.ends(id) {
                let FileResult::Seen(file) = seen.unwrap() else { panic!("a probe only sees") };
                return (begun_at, file);
            }
        }
    }

    /// Each pipe hangs, and then another one takes its place.
    #[test]
    fn a_limited_number_of_threads_waits_for_files_that_hang() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("temp"), folder.path().join("next"));
        let point = Point::new("temp", Direction::In, PointKind::I32);
        let mut spot = Spot::new(PointId(0), &point, &path);
        let runtime = runtime();
        let mut all = Calls::new();
        let mut started = 0;
        runtime.block_on(async {
            for _ in 0..2 * MAX_CALLS {
                mkfifo(&next, Mode::S_IRWXU).unwrap();
                fs::rename(&next, &path).unwrap();
                if spot.call.is_some() {
                    let Some(slot) = spot.places.try_take() else { break };
                    drop(slot);
                    let (at, file) = probed(&mut spot, &mut all).await;
                    assert!(spot.give_up_if_replaced(at, file));
                }
                let (kind, before) = (Arc::clone(&spot.point), spot.places.free());
                spot.start(&mut all, move |path, progress| {
                    number::read(path, &kind, progress).map(FileResult::Read)
                });
                started += 1;
                assert_eq!(spot.places.free(), before - 1);
                let call = spot.call.as_ref().unwrap();
                let file = Identity::from(fs::metadata(&path).unwrap());
                while !call.progress.is_at(file) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        assert_eq!(started, MAX_CALLS, "the last slots are used too, and no more");
        // A reload finds the slots taken, and says so.
        let mut again = Spot::new(PointId(0), &point, &path);
        let is_news = again.start(&mut all, |_, _| panic!("this call has no slot"));
        assert!(is_news && again.is_free());
        let part = again.part();
        assert!(
            !part.ok
                && part
                    .state
                    .ends_with("6 earlier calls on files at this path still wait for an answer")
        );
    }

    #[test]
    fn a_path_leads_through_mounts() {
        let root = mounts(Path::new("/no such file"));
        assert!(!root.is_empty(), "the root is a mount");
        assert_eq!(mounts(Path::new("/proc/self/stat")).len(), root.len() + 1);
        assert_eq!(mounts(Path::new("/process/stat")), root);
    }

    #[test]
    fn a_file_that_is_the_same_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("temp");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let point = Point::new("temp", Direction::In, PointKind::I32);
        let mut spot = Spot::new(PointId(0), &point, &path);
        let runtime = runtime();
        let mut all = Calls::new();
        runtime.block_on(async {
            let kind = Arc::clone(&spot.point);
            spot.start(&mut all, move |path, progress| {
                number::read(path, &kind, progress).map(FileResult::Read)
            });
            let file = Identity::from(fs::metadata(&path).unwrap());
            while !spot.call.as_ref().unwrap().progress.is_at(file) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let (at, seen) = probed(&mut spot, &mut all).await;
            assert_eq!(seen, file);
            assert!(!spot.give_up_if_replaced(at, seen) && !spot.is_free());
            // A program writes to the pipe at last.
            fs::write(&path, "7\n").unwrap();
            let (id, read) = all.join_next_with_id().await.unwrap().unwrap();
            assert_eq!(spot.ends(id), Some(Ended::Call));
            assert!(matches!(read, Ok(FileResult::Read([7, 0, ..]))), "{read:?}");
        });
    }
}
