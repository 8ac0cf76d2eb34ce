//! Gates: ways to stop a thread in the middle of its work, and to let the thread continue later.
//!
//! A gate can wait for a message in a driver, for a lock that another thread holds, or for a memory
//! page. The tests of `stall.rs` use the gates. This file contains no tests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Duration;

use camshaft::driver::{Command, Driver, Fault};
use camshaft::process::image::Inputs;

/// Something that a thread passes, or not.
pub struct Gate {
    /// Stops the calling thread until it is opened.
    pass: Arc<dyn Fn() + Send + Sync>,
    open: Box<dyn FnOnce() + Send>,
    is_closed: Arc<AtomicBool>,
    is_reached: Arc<AtomicBool>,
}

impl Gate {
    fn new(pass: impl Fn() + Send + Sync + 'static, open: impl FnOnce() + Send + 'static) -> Self {
        let (pass, open) = (Arc::new(pass), Box::new(open));
        Self { pass, open, is_closed: Arc::default(), is_reached: Arc::default() }
    }

    /// In a driver that waits for a message.
    pub fn in_a_driver() -> Self {
        let (send, receive) = channel::<()>();
        let receive = Mutex::new(receive);
        Self::new(move || receive.lock().unwrap().recv().unwrap(), move || send.send(()).unwrap())
    }

    /// In a lock that another thread holds.
    pub fn in_a_lock() -> Self {
        let lock = Arc::new(Mutex::new(()));
        let (held, is_held) = channel();
        let (open, is_open) = channel::<()>();
        let theirs = Arc::clone(&lock);
        spawn(move || {
            let guard = theirs.lock().unwrap();
            held.send(()).unwrap();
            is_open.recv().unwrap();
            drop(guard);
        });
        is_held.recv().unwrap();
        Self::new(move || drop(lock.lock().unwrap()), move || open.send(()).unwrap())
    }

    /// In a page fault that nobody serves.
    pub fn in_a_page_fault() -> Self {
        let page = Arc::new(page::Page::new());
        let theirs = Arc::clone(&page);
        Self::new(move || assert_eq!(theirs.read(), 0), move || page.serve())
    }

    /// A driver of no points whose `read` comes by here.
    pub fn driver(&self) -> Box<dyn Driver> {
        let (pass, closed) = (Arc::clone(&self.pass), Arc::clone(&self.is_closed));
        Box::new(Passer { pass, is_closed: closed, is_reached: Arc::clone(&self.is_reached) })
    }

    /// From now on nobody passes.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Whether somebody stands before it.
    pub fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::SeqCst)
    }

    pub fn open(self) {
        (self.open)();
    }
}

struct Passer {
    pass: Arc<dyn Fn() + Send + Sync>,
    is_closed: Arc<AtomicBool>,
    is_reached: Arc<AtomicBool>,
}

impl Driver for Passer {
    fn read(&mut self, _: Duration, _: &mut Inputs) -> Result<(), Fault> {
        if self.is_closed.swap(false, Ordering::SeqCst) {
            self.is_reached.store(true, Ordering::SeqCst);
            (self.pass)();
        }
        Ok(())
    }

    fn write(&mut self, _: Duration, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn command(&mut self, _: Duration, _: &Command) -> Result<(), &'static str> {
        Err("it takes none")
    }

    fn is_confirmed(&self) -> bool {
        true
    }
}

/// A page of memory that is not there until it is served, by userfaultfd(2).
#[allow(unsafe_code, reason = "there is no safe way to a page that is missing")]
mod page {
    use nix::libc::{
        MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, O_CLOEXEC, PROT_READ, SYS_userfaultfd, c_int,
        ioctl, mmap, syscall,
    };

    const BYTES: u64 = 4096;
    const UFFDIO_API: u64 = 0xc018_aa3f;
    const UFFDIO_REGISTER: u64 = 0xc020_aa00;
    const UFFDIO_ZEROPAGE: u64 = 0xc020_aa04;

    pub struct Page {
        address: usize,
        faults: c_int,
    }

    impl Page {
        pub fn new() -> Self {
            let (prot, flags) = (PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
            // SAFETY: a new mapping of the kernel's choice, and a new descriptor.
            let (at, faults) = unsafe {
                let at = mmap(std::ptr::null_mut(), BYTES as usize, prot, flags, -1, 0);
                (at, syscall(SYS_userfaultfd, O_CLOEXEC) as c_int)
            };
            assert!(at != MAP_FAILED && faults >= 0, "no userfaultfd; it needs root or a sysctl");
            let page = Self { address: at as usize, faults };
            page.ask(UFFDIO_API, &mut [0xaa, 0, 0]);
            // Range, mode "missing", and room for the answer.
            page.ask(UFFDIO_REGISTER, &mut [page.address as u64, BYTES, 1, 0]);
            page
        }

        fn ask(&self, request: u64, words: &mut [u64]) {
            // SAFETY: the words have the size that the request's number says, and live as long.
            let done = unsafe { ioctl(self.faults, request as _, words.as_mut_ptr()) };
            assert_eq!(done, 0, "{request:x}: {}", std::io::Error::last_os_error());
        }

        /// Reads a byte of it, which takes until it is served.
        pub fn read(&self) -> u8 {
            // SAFETY: the mapping is readable and is never removed.
            unsafe { (self.address as *const u8).read_volatile() }
        }

        /// Puts a page of zeroes there.
        pub fn serve(&self) {
            self.ask(UFFDIO_ZEROPAGE, &mut [self.address as u64, BYTES, 0, 0]);
        }
    }
}
