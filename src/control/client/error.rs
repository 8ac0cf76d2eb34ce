//! Errors of the client: why a request did not get the expected answer from a daemon.
//!
//! The errors separate three cases that a user could confuse: the daemon has ended in the middle of
//! an exchange, the daemon has refused the request, or the server on the socket is not a Camshaft
//! daemon. In the first case, the error message must report that the order may have been carried
//! out. The code of the exchange is in `client.rs`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::super::Failure;
use crate::file;

/// The reason why a request did not get the expected answer.
#[derive(Debug)]
pub enum Error {
    /// No socket of this list accepts a connection. The list has the error of each path.
    Unreachable(Vec<(PathBuf, io::Error)>),
    /// The daemon has answered with a failure.
    Failed(Failure),
    /// The connection on this socket ended before the whole answer arrived. The daemon may have
    /// carried out the request.
    Ended(PathBuf),
    /// The answer on this socket is not a valid answer of a Camshaft daemon, or no answer arrived
    /// in time. The text has the details.
    Strange(PathBuf, String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(tried) => {
                write!(f, "no daemon can be reached")?;
                for (path, why) in tried {
                    write!(f, "\n  tried {}: {}", path.display(), words(path, why))?;
                }
                if tried.iter().any(|(_, why)| why.kind() == io::ErrorKind::PermissionDenied) {
                    return write!(
                        f,
                        "\nRun the command as the socket's user, or join the socket's group."
                    );
                }
                write!(
                    f,
                    "\nStart a daemon with `camshaft run config/camshaft.toml`, or give the \
                     socket of a running daemon with --socket PATH."
                )
            }
            Self::Failed(failure) => failure.fmt(f),
            Self::Ended(path) => write!(
                f,
                "the daemon has ended the connection on {} without an answer: the daemon may have \
                 stopped, so the outcome of the request is unknown",
                path.display()
            ),
            Self::Strange(path, what) => write!(f, "no valid answer on {}: {what}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Returns the reason why a socket does not accept a connection, in short words for the user.
fn words(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        // If the path is a regular file or a folder, the kernel gives the same error as for a
        // socket without a daemon. Then the text names the kind of the file.
        io::ErrorKind::ConnectionRefused => match file::no_socket(path) {
            Some(kind) => format!("this path is {kind}, not a socket"),
            None => "no daemon listens".into(),
        },
        io::ErrorKind::PermissionDenied => "not allowed".into(),
        _ => error.to_string(),
    }
}

/// Whether the server ended the connection in the middle of an exchange.
pub(super) fn is_cut_off(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let is_end = |error: &(dyn std::error::Error + 'static)| {
        let hyper = error.downcast_ref::<hyper::Error>();
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        hyper.is_some_and(hyper::Error::is_incomplete_message)
            || matches!(io, Some(BrokenPipe | ConnectionReset | UnexpectedEof))
    };
    std::iter::successors(Some(error), |error| error.source()).any(is_end)
}

/// Returns the text of an error and of all its causes on one line, joined by `: `.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
