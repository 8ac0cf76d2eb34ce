//! The lending of the [`World`](super::world::World): at any time, either the owner of the world or
//! the called guest can use it.
//!
//! The host stores data about each guest, and the functions that the guest calls can use only these
//! data. Therefore the host moves the world into these data before each call into a guest, and
//! moves the world back after the call. The owner and the guest each have a slot for the world, a
//! [`Lent`]. The world is always in exactly one of these two slots.
//!
//! The owners are the scan, a shadow run, a recipe, a replay and the preparation of a program.
//! `plugin/instance/wasm/call.rs` lends the world and returns it. The contents of the world are in
//! `world.rs`.
//!
//! ```text
//!             pass_to, before the call
//!   owner's  ─────────────────────────▶  guest's
//!    Lent    ◀─────────────────────────   Lent
//!             pass_to, after the call
//! ```
//!
//! Only a pointer moves. A call does not copy the world and does not allocate.

use std::ops::{Deref, DerefMut};

/// The message of the panic that occurs if the code uses a slot whose value is lent. Correct code
/// never reaches this panic: the owner uses the value only between two calls, and the guest uses
/// the value only during a call.
///
/// A call lends the value before the guest runs, and returns the value when the guest has returned
/// or trapped. Exception: if the code of the host panics in the middle of a call, the value stays
/// lent. After this panic, the owner either ends, or calls [`Lent::if_here`] to check whether the
/// value is in its slot.
const IS_HERE: &str = "a call lends the value, and returns the value before the call ends";

/// A slot for a value. Either the value is in this slot, or it is lent to another slot.
#[derive(Debug)]
pub struct Lent<T>(Option<Box<T>>);

impl<T> Lent<T> {
    /// Creates the slot of the owner, with the value in it.
    pub const fn new(thing: Box<T>) -> Self {
        Self(Some(thing))
    }

    /// Creates the slot of a guest, which is empty at first.
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// Moves the value to the slot `other`. The owner calls this to lend the value, and the side of
    /// the guest calls this to return the value.
    pub fn pass_to(&mut self, other: &mut Self) {
        debug_assert!(self.0.is_some() && other.0.is_none(), "the value is in one slot");
        other.0 = self.0.take();
    }

    /// Returns the value. Returns `None` if the value is still lent because a panic has interrupted
    /// a call.
    pub fn if_here(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;

    /// # Panics
    /// If the value is lent. To use a lent value is a defect in the code; `IS_HERE` has the reason
    /// why this does not happen.
    fn deref(&self) -> &T {
        self.0.as_ref().expect(IS_HERE)
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(IS_HERE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_in_one_place_at_a_time() {
        let (mut owner, mut guest) = (Lent::new(Box::new(7)), Lent::nothing());
        *owner += 1;
        owner.pass_to(&mut guest);
        assert_eq!((owner.if_here(), *guest), (None, 8));
        *guest += 1;
        guest.pass_to(&mut owner);
        assert_eq!((guest.if_here(), *owner), (None, 9));
    }

    #[test]
    #[should_panic = "a call lends the value, and returns the value before the call ends"]
    fn what_is_lent_is_not_used() {
        let mut owner = Lent::new(Box::new(7));
        owner.pass_to(&mut Lent::nothing());
        *owner += 1;
    }
}
