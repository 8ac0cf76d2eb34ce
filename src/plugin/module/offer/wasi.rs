//! The functions of WASI preview 1 that a module may import.
//!
//! The lists contain every function of preview 1, because usual toolchains import more functions
//! than they use. This file only lists the functions; their code is in `plugin/instance/wasi.rs`.

use super::Offer;

/// The name of the import module for WASI preview 1.
pub(in crate::plugin) const WASI: &str = "wasi_snapshot_preview1";

const fn wasi(name: &'static str, parameters: &'static str) -> Offer {
    Offer { module: WASI, name, parameters, returns: true }
}

/// Functions that the host carries out. The functions of the other two lists only return an error.
pub(in crate::plugin) const WORKING: &[Offer] = &[
    wasi("fd_write", "iiii"),
    wasi("clock_time_get", "iIi"),
    wasi("random_get", "ii"),
    wasi("args_get", "ii"),
    wasi("args_sizes_get", "ii"),
    wasi("environ_get", "ii"),
    wasi("environ_sizes_get", "ii"),
    wasi("sched_yield", ""),
    Offer { module: WASI, name: "proc_exit", parameters: "i", returns: false },
];

/// Functions on file descriptors that return the error "bad descriptor". A guest has only the
/// descriptors 1 and 2, and can only write to them.
pub(in crate::plugin) const BAD_DESCRIPTOR: &[Offer] = &[
    wasi("fd_advise", "iIIi"),
    wasi("fd_allocate", "iII"),
    wasi("fd_close", "i"),
    wasi("fd_datasync", "i"),
    wasi("fd_fdstat_get", "ii"),
    wasi("fd_fdstat_set_flags", "ii"),
    wasi("fd_fdstat_set_rights", "iII"),
    wasi("fd_filestat_get", "ii"),
    wasi("fd_filestat_set_size", "iI"),
    wasi("fd_filestat_set_times", "iIIi"),
    wasi("fd_pread", "iiiIi"),
    wasi("fd_prestat_get", "ii"),
    wasi("fd_prestat_dir_name", "iii"),
    wasi("fd_pwrite", "iiiIi"),
    wasi("fd_read", "iiii"),
    wasi("fd_readdir", "iiiIi"),
    wasi("fd_renumber", "ii"),
    wasi("fd_seek", "iIii"),
    wasi("fd_sync", "i"),
    wasi("fd_tell", "ii"),
];

/// Functions that this host does not support. They return the error "function not supported".
pub(in crate::plugin) const UNSUPPORTED: &[Offer] = &[
    wasi("clock_res_get", "ii"),
    wasi("path_create_directory", "iii"),
    wasi("path_filestat_get", "iiiii"),
    wasi("path_filestat_set_times", "iiiiIIi"),
    wasi("path_link", "iiiiiii"),
    wasi("path_open", "iiiiiIIii"),
    wasi("path_readlink", "iiiiii"),
    wasi("path_remove_directory", "iii"),
    wasi("path_rename", "iiiiii"),
    wasi("path_symlink", "iiiii"),
    wasi("path_unlink_file", "iii"),
    wasi("poll_oneoff", "iiii"),
    wasi("proc_raise", "i"),
    wasi("sock_accept", "iii"),
    wasi("sock_recv", "iiiiii"),
    wasi("sock_send", "iiiii"),
    wasi("sock_shutdown", "ii"),
];

/// All functions of WASI preview 1, from all three lists.
pub(super) fn offers() -> impl Iterator<Item = Offer> {
    WORKING.iter().chain(BAD_DESCRIPTOR).chain(UNSUPPORTED).copied()
}
