//! The functions of the host, without wrappers: ABI versions 0 and 1, import module `env`.
//!
//! Only this crate calls these functions. The safe wrappers are in the other files of this folder.
//! A plugin imports only the functions that it calls.

#[link(wasm_import_module = "env")]
extern "C" {
    pub(crate) fn wasm_log(
        level: i32,
        file: *const u8,
        file_len: usize,
        line: u32,
        msg: *const u8,
        msg_len: usize,
    ) -> i32;
    pub(crate) fn wasm_read_input(address: u32, buf: *mut u8, len: usize) -> i32;
    pub(crate) fn wasm_write_output(address: u32, data: *const u8, len: usize) -> i32;
    pub(crate) fn wasm_current_time(secs: *mut u64, nanos: *mut u32) -> i32;

    pub(crate) fn wasm_variable_read_boolean(name: *const u8, len: usize, value: *mut u8) -> i32;
    pub(crate) fn wasm_variable_read_double(name: *const u8, len: usize, value: *mut f64) -> i32;
    pub(crate) fn wasm_variable_read_int(name: *const u8, len: usize, value: *mut i32) -> i32;
    pub(crate) fn wasm_variable_write_boolean(name: *const u8, len: usize, value: i32) -> i32;
    pub(crate) fn wasm_variable_write_double(name: *const u8, len: usize, value: f64) -> i32;
    pub(crate) fn wasm_variable_write_int(name: *const u8, len: usize, value: i32) -> i32;

    pub(crate) fn wasm_point_find(name: *const u8, len: usize, id: *mut u32) -> i32;
    pub(crate) fn wasm_point_read_boolean(id: u32, value: *mut u8, quality: *mut u8) -> i32;
    pub(crate) fn wasm_point_read_double(id: u32, value: *mut f64, quality: *mut u8) -> i32;
    pub(crate) fn wasm_point_read_int(id: u32, value: *mut i32, quality: *mut u8) -> i32;
    pub(crate) fn wasm_point_write_boolean(id: u32, value: i32) -> i32;
    pub(crate) fn wasm_point_write_double(id: u32, value: f64) -> i32;
    pub(crate) fn wasm_point_write_int(id: u32, value: i32) -> i32;

    pub(crate) fn wasm_point_quality(id: u32, status: *mut u32, age_ms: *mut u32) -> i32;
    pub(crate) fn wasm_degraded(degraded: *mut u8) -> i32;

    pub(crate) fn wasm_read_output(address: u32, buf: *mut u8, len: usize) -> i32;
    pub(crate) fn wasm_cycle(count: *mut u64, period_us: *mut u32) -> i32;
    pub(crate) fn wasm_state_write(data: *const u8, len: usize) -> i32;
    pub(crate) fn wasm_state_read(buf: *mut u8, len: usize, read: *mut i32) -> i32;
}
