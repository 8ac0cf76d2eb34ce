//! add_one in Zig: copies input byte 0, plus 1, to output byte 0; logs once in `init`.
//! What it is for: a freestanding module that also exports `__stack_pointer`.
//!
//! Needs: pip install ziglang
//! Build: python -m ziglang build-exe -target wasm32-freestanding -fno-entry -rdynamic \
//!            -O ReleaseSmall -femit-bin=add_one_zig.wasm add_one.zig

const env = struct {
    extern "env" fn wasm_log(
        level: i32,
        file: [*]const u8,
        file_len: usize,
        line: u32,
        msg: [*]const u8,
        msg_len: usize,
    ) i32;
    extern "env" fn wasm_read_input(address: u32, buf: [*]u8, len: usize) i32;
    extern "env" fn wasm_write_output(address: u32, data: [*]const u8, len: usize) i32;
};

const info = 2;

export fn init() void {
    const place = @src();
    const text = "add_one is ready";
    _ = env.wasm_log(info, place.file.ptr, place.file.len, place.line, text, text.len);
}

export fn poll() void {
    var byte = [1]u8{0};
    if (env.wasm_read_input(0, &byte, 1) == 0) {
        byte[0] +%= 1;
        _ = env.wasm_write_output(0, &byte, 1);
    }
}
