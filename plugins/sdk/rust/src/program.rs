//! How the host reaches a plugin: the exports, and the state that goes along at a swap.

use core::cell::UnsafeCell;

use crate::{check, raw, Error};

/// A plugin's life. Give it to the host with [`program!`](crate::program).
pub trait Program {
    /// Once, before the first poll: find points here. Inputs can be read, outputs not yet written.
    fn init(&mut self) {}

    /// Once per cycle, or every n-th, by configuration.
    fn poll(&mut self);
}

/// A program that takes its state along when a new version of its file takes over.
pub trait Stateful: Program {
    /// The old version: write everything with [`write_state`], a version number first.
    fn save(&self);

    /// The new version, after `init`: read it with [`read_state`]. Start cold if it is not yours.
    fn restore(&mut self);
}

/// Appends to the state for the next version; only in [`Stateful::save`]. At most 1 MiB in all.
pub fn write_state(data: &[u8]) -> Result<(), Error> {
    // SAFETY: the host reads exactly `data.len()` bytes from there.
    check(unsafe { raw::wasm_state_write(data.as_ptr(), data.len()) })
}

/// Takes the next bytes of the old version's state; only in [`Stateful::restore`]. Gives how many
/// there were: fewer than `buf` holds at the end, then 0.
pub fn read_state(buf: &mut [u8]) -> Result<usize, Error> {
    let mut read = 0i32;
    // SAFETY: the host writes at most `buf.len()` bytes there, and one i32.
    check(unsafe { raw::wasm_state_read(buf.as_mut_ptr(), buf.len(), &mut read) })?;
    usize::try_from(read).map_err(|_| Error::Generic)
}

/// The one value behind the exports. Made by [`program!`](crate::program); not for other uses.
#[doc(hidden)]
pub struct Single<T>(UnsafeCell<T>);

// SAFETY: a plugin is a module without shared memory: there is exactly one thread.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    #[doc(hidden)]
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// Not to be called while an earlier result is alive.
    #[doc(hidden)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn borrow(&self) -> &mut T {
        &mut *self.0.get()
    }
}

/// Exports a [`Program`] to the host: `program!(Type = initial value)`, where the value is a
/// constant. With `stateful` before it, [`Stateful`] is exported too:
/// `program!(stateful Type = value)`.
#[macro_export]
macro_rules! program {
    (stateful $type:ty = $value:expr) => {
        $crate::program!($type = $value, {
            #[no_mangle]
            extern "C" fn save() {
                $crate::Stateful::save(unsafe { PROGRAM.borrow() })
            }
            #[no_mangle]
            extern "C" fn restore() {
                $crate::Stateful::restore(unsafe { PROGRAM.borrow() })
            }
        });
    };
    ($type:ty = $value:expr) => {
        $crate::program!($type = $value, {});
    };
    ($type:ty = $value:expr, { $($more:item)* }) => {
        const _: () = {
            // SAFETY of every `borrow`: only the host calls an export, never from within another
            // one, and nobody else can name this value.
            static PROGRAM: $crate::Single<$type> = $crate::Single::new($value);
            #[no_mangle]
            extern "C" fn init() {
                $crate::Program::init(unsafe { PROGRAM.borrow() })
            }
            #[no_mangle]
            extern "C" fn poll() {
                $crate::Program::poll(unsafe { PROGRAM.borrow() })
            }
            $($more)*
        };
    };
}
