// add_one in AssemblyScript: copies input byte 0, plus 1, to output byte 0; logs once in `init`.
// What it is for: a module with a start section, in two builds. With the compiler's own flags it
// imports `env.abort`; with `--use abort=` it does not.
//
// Needs: npm install assemblyscript
// Build: npx asc add_one.ts -O -o add_one_as.wasm
//    or: npx asc add_one.ts -O --runtime stub --use abort= -o add_one_as.wasm

@external("env", "wasm_log")
declare function wasm_log(
  level: i32, file: usize, file_len: i32, line: i32, msg: usize, msg_len: i32
): i32;
@external("env", "wasm_read_input")
declare function wasm_read_input(address: i32, buf: usize, len: i32): i32;
@external("env", "wasm_write_output")
declare function wasm_write_output(address: i32, data: usize, len: i32): i32;

const INFO = 2;

// Top-level code: runs in the start section.
const byte = memory.data(1);
const ready = new StaticArray<string>(1);
ready[0] = "add_one is ready";

export function init(): void {
  // Strings are UTF-16 here; the host wants UTF-8.
  const file = String.UTF8.encode("add_one.ts");
  const text = String.UTF8.encode(ready[0]);
  wasm_log(
    INFO, changetype<usize>(file), file.byteLength, 0, changetype<usize>(text), text.byteLength
  );
}

export function poll(): void {
  if (wasm_read_input(0, byte, 1) == 0) {
    store<u8>(byte, load<u8>(byte) + 1);
    wasm_write_output(0, byte, 1);
  }
}
