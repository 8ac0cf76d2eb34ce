//! The exports of a plugin, which the host calls, and the state that a swap transfers.

use core::cell::UnsafeCell;

use crate::{check, raw, Error};

/// The functions of a plugin. Export a type with this trait by [`program!`](crate::program).
pub trait Program {
    /// Called once before the first poll, to find points. Inputs can be read, outputs not written.
    fn init(&mut self) {}

    /// Called in every cycle, or in every n-th cycle if the configuration has the key `every`.
    fn poll(&mut self);
}

/// A program that transfers its state to a new version of its file.
pub trait Stateful: Program {
    /// Called in the old version: write a version number and then the state with [`write_state`].
    fn save(&self);

    /// Called in the new version after `init`: read the state and check its version number.
    fn restore(&mut self);
}

/// Appends bytes to the saved state, of at most 1 MiB. Only allowed in [`Stateful::save`].
pub fn write_state(data: &[u8]) -> Result<(), Error> {
    // SAFETY: the host reads exactly `data.len()` bytes from `data`.
    check(unsafe { raw::wasm_state_write(data.as_ptr(), data.len()) })
}

/// Reads the next bytes of the saved state. Only allowed in [`Stateful::restore`]. Returns the
/// number of bytes: at the end of the state, fewer bytes than `buf` can take, and then 0.
pub fn read_state(buf: &mut [u8]) -> Result<usize, Error> {
    let mut read = 0i32;
    // SAFETY: the host writes at most `buf.len()` bytes to `buf`, and one i32 to `read`.
    check(unsafe { raw::wasm_state_read(buf.as_mut_ptr(), buf.len(), &mut read) })?;
    usize::try_from(read).map_err(|_| Error::Generic)
}

/// The program that the exports call. Only [`program!`](crate::program) creates this value.
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
    /// The caller must not use the result of an earlier call any more.
    #[doc(hidden)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn borrow(&self) -> &mut T {
        &mut *self.0.get()
    }
}

/// Exports a [`Program`] to the host: `program!(Type = initial value)`, where the value is a
/// constant. With the word `stateful`, the macro also exports the functions of [`Stateful`]:
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
            // SAFETY of every `borrow`: only the host calls an export, and never during another
            // export. No other code can access this value.
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
