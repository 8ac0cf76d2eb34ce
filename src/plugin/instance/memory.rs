//! Reads and writes the linear memory of a guest for the host functions. Each successful read or
//! write is also passed to the tape.
//!
//! Addresses and lengths come from the guest and may have any value. The code here does not
//! interpret the bytes; `abi.rs` and `wasi.rs` do. `bind.rs` makes a new [`Memory`] for each call
//! of a host function. `trace/checkpoint.rs` makes copies of the whole memory for a crash report.

use std::cell::RefCell;

use wasmer::MemoryView;

use crate::plugin::trace::tape::Tape;
use crate::process::call::{CallResult, Code};

/// The linear memory of a guest, during one call of a host function.
///
/// The functions here check the bounds before they call wasmer. If wasmer finds wrong bounds,
/// wasmer logs this. The scan's thread would then have to write the log line, and could have to
/// wait.
pub(super) struct Memory<'a> {
    view: MemoryView<'a>,
    tape: RefCell<&'a mut Tape>,
}

impl<'a> Memory<'a> {
    /// Makes the value through which a host function reads and writes the memory in `view`. These
    /// bytes are recorded on `tape`, except text for the log.
    pub(super) fn new(view: MemoryView<'a>, tape: &'a mut Tape) -> Self {
        Self { view, tape: RefCell::new(tape) }
    }

    /// Fills `buffer` with the bytes at address `at` of the memory. If not all of these bytes are
    /// inside the memory, nothing is copied.
    pub(super) fn read(&self, at: u32, buffer: &mut [u8]) -> CallResult {
        self.check_all(at, buffer)?;
        self.view.read(at.into(), buffer).map_err(|_| Code::Error)?;
        self.tape.borrow_mut().taken(at, buffer);
        Ok(())
    }

    /// Copies `bytes` into the memory at address `at`. If not all bytes fit into the memory,
    /// nothing is copied.
    pub(super) fn write(&self, at: u32, bytes: &[u8]) -> CallResult {
        self.check_all(at, bytes)?;
        self.view.write(at.into(), bytes).map_err(|_| Code::Error)?;
        self.tape.borrow_mut().given(at, bytes);
        Ok(())
    }

    /// Checks that `len` bytes at address `at` are inside the memory.
    pub(super) fn check(&self, at: u32, len: u32) -> CallResult {
        let end = u64::from(at) + u64::from(len);
        (end <= self.view.data_size()).then_some(()).ok_or(Code::Error)
    }

    /// Checks that a range that begins at address `at` and has the length of `bytes` is inside the
    /// memory.
    fn check_all(&self, at: u32, bytes: &[u8]) -> CallResult {
        self.check(at, u32::try_from(bytes.len()).map_err(|_| Code::Error)?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use wasmer::{MemoryType, Store};

    use super::*;
    use crate::plugin::trace::tape::{Tag, parse};
    use crate::process::call::Phase;

    /// Size of a [`Page`] in bytes.
    pub(in super::super) const PAGE: u32 = 65536;

    /// A memory of one page that belongs to no instance.
    pub(in super::super) struct Page {
        store: Store,
        memory: wasmer::Memory,
        tape: Tape,
    }

    impl Page {
        /// Makes a page with the given bytes at the given addresses, and zeros elsewhere.
        pub(in super::super) fn new(data: &[(u32, &[u8])]) -> Self {
            let mut store = Store::default();
            let memory = wasmer::Memory::new(&mut store, MemoryType::new(1, Some(1), false));
            let mut page =
                Self { store, memory: memory.expect("a page can be made"), tape: Tape::default() };
            for (at, bytes) in data {
                page.with(|memory| memory.write(*at, bytes)).expect("it fits the page");
            }
            page
        }

        /// Calls `work` with the memory.
        pub(in super::super) fn with<R>(&mut self, work: impl FnOnce(&Memory<'_>) -> R) -> R {
            work(&Memory::new(self.memory.view(&self.store), &mut self.tape))
        }

        /// Returns a copy of all bytes of the page.
        pub(in super::super) fn bytes(&self) -> Vec<u8> {
            self.memory.view(&self.store).copy_to_vec().expect("a page can be copied")
        }
    }

    #[test]
    fn what_does_not_lie_within_the_memory_is_refused_as_a_whole() {
        let mut page = Page::new(&[(PAGE - 4, b"last")]);
        let before = page.bytes();
        let mut check = |at: u32, len: usize, expected: CallResult| {
            page.with(|memory| {
                assert_eq!(memory.check(at, len as u32), expected, "{len} bytes at {at}");
                let mut buffer = vec![7; len];
                assert_eq!(memory.read(at, &mut buffer), expected, "{len} bytes at {at}");
                assert!(expected.is_ok() || buffer == vec![7; len], "the buffer has changed");
                assert_eq!(memory.write(at, &buffer), expected, "{len} bytes at {at}");
            });
        };
        check(0, 0, Ok(()));
        check(0, PAGE as usize, Ok(()));
        check(0, PAGE as usize + 1, Err(Code::Error));
        check(PAGE - 4, 4, Ok(()));
        check(PAGE - 4, 5, Err(Code::Error));
        check(PAGE, 0, Ok(()));
        check(PAGE, 1, Err(Code::Error));
        check(PAGE + 1, 0, Err(Code::Error));
        // The sum of the address and the length does not fit 32 bits.
        check(u32::MAX, 1, Err(Code::Error));
        check(u32::MAX - 3, PAGE as usize, Err(Code::Error));
        assert!(page.bytes() == before, "the page has the same bytes as before");
    }

    #[test]
    fn the_tape_gets_what_is_moved_and_nothing_else() {
        let mut page = Page::new(&[(8, b"given")]);
        page.tape = Tape::new(true);
        page.tape.begin(Phase::Poll, 1, Duration::ZERO);
        page.tape.call(Tag::of("env", "wasm_read_input"), &[1, 2]);
        page.with(|memory| {
            memory.read(8, &mut [0; 5]).unwrap();
            memory.write(PAGE - 2, b"ok").unwrap();
            memory.read(PAGE - 2, &mut [0; 3]).unwrap_err();
            memory.write(PAGE - 1, b"no").unwrap_err();
        });
        page.tape.answer(0);
        page.tape.end();
        let sections = parse(&page.tape.export()).collect::<Result<Vec<_>, _>>().unwrap();
        let [(_, section)] = &sections[..] else { panic!("{sections:?}") };
        assert_eq!(section.calls.len(), 1);
        assert_eq!(section.calls[0].taken, [(8, b"given".to_vec())]);
        assert_eq!(section.calls[0].given, [(PAGE - 2, b"ok".to_vec())]);
    }
}
