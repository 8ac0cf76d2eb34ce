//! WebAssembly modules: from a `.wasm` file in the plugin folder to an artifact, which is the
//! module's machine code. The code in this source folder watches the plugin folder, and checks,
//! compiles and stores modules. It does not run modules.
//!
//! ```text
//! file ─▶ folder.rs ─▶ check.rs ─▶ compile.rs ─▶ artifact ─▶ cache.rs
//!         settled      in a child process                    on disk
//! ```
//!
//! - `folder.rs` watches the plugin folder.
//! - `compile.rs` makes artifacts in a child process. `check.rs` checks the module in that process
//!   before the compilation, with the limits of `size.rs` and `frame.rs`. `offer.rs` lists the
//!   functions that a module may import.
//! - `flag.rs`, `routine.rs` and `stretch.rs` add the host's code to a module: checks of the stop
//!   flag, and routines. After a trap, `hidden.rs` and `reason.rs` find out why the added code
//!   trapped.
//! - `note.rs` finds probable mistakes in a valid module.
//! - `cache.rs` stores artifacts on disk. `versions.rs` stores the modules that have run.
//!
//! The source folder `instance` makes instances from artifacts.

pub mod cache;
pub mod check;
pub mod compile;
pub(super) mod flag;
pub mod folder;
mod frame;
pub(super) mod hidden;
pub mod note;
pub mod offer;
pub(super) mod reason;
mod routine;
mod size;
mod stretch;
pub mod versions;

use wasmer::sys::wasmparser::BinaryReaderError;

use super::Refusal;

/// Makes the refusal for malformed bytes: a module that cannot be parsed, is not valid WebAssembly,
/// or uses a WebAssembly proposal that this host does not run.
fn malformed(error: &BinaryReaderError) -> Refusal {
    let reason =
        format!("it is not a valid module: {} (at offset {:#x})", error.message(), error.offset());
    Refusal::new(
        reason,
        "this host runs WebAssembly 2.0 with one 32-bit memory: build without threads, tail calls, \
         exceptions and GC, and copy the whole file",
    )
}
