//! Test of a symbolic link in the plugin folder that leads to a file system which gives no answer.
//!
//! The watch must refuse only this one link, and must still report changes of the other files. The
//! file system is `daemon/share.rs`. The test needs the rights of root.

use std::fs;
use std::os::unix::fs::symlink;

use super::bench::Bench;
use crate::daemon::Server;

/// Nothing of the folder was looked at any more, and nothing could be put there.
#[test]
#[ignore = "needs root: it mounts"]
fn a_link_to_a_disk_that_hangs_is_refused_alone() {
    let bench = Bench::with_a();
    let server = Server::start(bench.elsewhere("share"), "");
    let lead = bench.elsewhere("share").join("lead");
    fs::write(&lead, "lead").unwrap();
    symlink(&lead, bench.plugin("link")).unwrap();
    bench.reports("link is lead");
    let refused = "link refused: it cannot be read: it is a link to a file system that does not \
                   answer";
    server.share().hang();
    bench.reports(refused);
    fs::write(bench.plugin("b"), "two").unwrap();
    bench.reports("b is two");
    assert_eq!(bench.watch.lateness(), None);
    fs::remove_file(bench.plugin("link")).unwrap();
    bench.reports("link gone");
    symlink(&lead, bench.plugin("link")).unwrap();
    bench.reports(refused);
    server.share().answer();
    bench.reports("link is lead");
}
