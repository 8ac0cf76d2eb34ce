//! Tools that build modules byte by byte, for modules that no compiler would make.
//!
//! `refuse.rs` uses them to exceed each limit of a module, for example the number of types or the
//! length of a name. This file contains no tests.

/// A number as WebAssembly has it: LEB128.
pub fn leb(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Something with its length in front: a name, a function's body, the content of a section.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&leb(bytes.len() as u32)[..], bytes].concat()
}

/// A list with its length in front.
pub fn list<T: AsRef<[u8]>>(items: impl ExactSizeIterator<Item = T>) -> Vec<u8> {
    let mut bytes = leb(items.len() as u32);
    items.for_each(|item| bytes.extend_from_slice(item.as_ref()));
    bytes
}

/// A module of these sections, each as its number and its content.
pub fn module(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        bytes.extend(sized(content));
    }
    bytes
}

/// The types `() -> ()` and, with number 1, `(i32, i32) -> i32`.
pub fn types() -> (u8, Vec<u8>) {
    (1, list([&[0x60, 0, 0][..], &[0x60, 2, 0x7f, 0x7f, 1, 0x7f]].into_iter()))
}

/// Exports the function with this index as `poll`.
pub fn export_poll(index: u32) -> (u8, Vec<u8>) {
    (7, list([[&sized(b"poll")[..], &[0], &leb(index)].concat()].into_iter()))
}

/// A module with this many functions, all with the same code: locals and instructions.
pub fn functions(count: usize, code: &[u8]) -> Vec<u8> {
    let code = sized(code);
    module(&[
        types(),
        (3, list((0..count).map(|_| [0]))),
        export_poll(0),
        (10, list((0..count).map(|_| &code))),
    ])
}

/// A `poll` with these instructions and no locals.
pub fn poll(instructions: &[u8]) -> Vec<u8> {
    functions(1, &[&[0], instructions, &[0x0b]].concat())
}

/// A `poll` with this many locals.
pub fn locals(count: u32) -> Vec<u8> {
    functions(1, &[&[1][..], &leb(count), &[0x7f, 0x0b]].concat())
}

/// A `poll` with this many blocks, one within the other.
pub fn nested(depth: usize) -> Vec<u8> {
    poll(&[[2, 0x40].repeat(depth), [0x0b].repeat(depth)].concat())
}

/// A module that imports the same function so often.
pub fn imports(count: usize) -> Vec<u8> {
    let import = [&sized(b"env")[..], &sized(b"wasm_point_write_int"), &[0, 1]].concat();
    module(&[
        types(),
        (2, list((0..count).map(|_| &import))),
        (3, list([[0]].into_iter())),
        export_poll(count as u32),
        (10, list([sized(&[0, 0x0b])].into_iter())),
    ])
}

/// A module that exports its `poll` so often, under other names too.
pub fn exports(count: usize) -> Vec<u8> {
    let export = |n: usize| {
        let name = if n == 0 { "poll".into() } else { format!("{n:x}") };
        [&sized(name.as_bytes())[..], &[0, 0]].concat()
    };
    module(&[
        types(),
        (3, list([[0]].into_iter())),
        (7, list((0..count).map(export))),
        (10, list([sized(&[0, 0x0b])].into_iter())),
    ])
}

/// A module with so many globals of type i32.
pub fn globals(count: usize) -> Vec<u8> {
    module(&[
        types(),
        (3, list([[0]].into_iter())),
        (6, list((0..count).map(|_| [0x7f, 1, 0x41, 0, 0x0b]))),
        export_poll(0),
        (10, list([sized(&[0, 0x0b])].into_iter())),
    ])
}

/// A module with so many types.
pub fn many_types(count: usize) -> Vec<u8> {
    module(&[
        (1, list((0..count).map(|_| [0x60, 0, 0]))),
        (3, list([[0]].into_iter())),
        export_poll(0),
        (10, list([sized(&[0, 0x0b])].into_iter())),
    ])
}

/// A module with so many active data segments of one byte.
pub fn segments(count: usize) -> Vec<u8> {
    module(&[
        types(),
        (3, list([[0]].into_iter())),
        (5, vec![1, 0, 1]),
        export_poll(0),
        (10, list([sized(&[0, 0x0b])].into_iter())),
        (11, list((0..count).map(|_| [0, 0x41, 0, 0x0b, 1, 7]))),
    ])
}

/// A module with a passive segment of so many table elements.
pub fn elements(count: usize) -> Vec<u8> {
    let segment = [&[1, 0][..], &list((0..count).map(|_| [0]))].concat();
    module(&[
        types(),
        (3, list([[0]].into_iter())),
        export_poll(0),
        (9, list([segment].into_iter())),
        (10, list([sized(&[0, 0x0b])].into_iter())),
    ])
}

/// A good module with so many names for functions that it does not have.
pub fn names(count: usize) -> Vec<u8> {
    let names = list((0..count as u32).map(|n| [&leb(n)[..], &sized(b"f")].concat()));
    let content = [&sized(b"name")[..], &[1], &sized(&names)].concat();
    [poll(&[]), module(&[(0, content)])[8..].to_vec()].concat()
}

/// A good module with so many custom sections.
pub fn customs(count: usize) -> Vec<u8> {
    let custom = |n: usize| [&[0][..], &sized(&sized(format!("{n:x}").as_bytes()))].concat();
    [poll(&[]), (0..count).flat_map(custom).collect()].concat()
}
