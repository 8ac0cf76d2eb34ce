//! The lending of the world: at any time, either its owner or the guest that is being called has
//! it.
//!
//! A call into a guest lends the world to the host's state of that guest, because the functions
//! that the guest calls reach only that state. The owner and the guest each have a place for the
//! world, a [`Lent`], and the world lies in one of the two places. The owners are the scan, a
//! shadow run, a recipe, a replay and a preparation. `plugin/instance/wasm/call.rs` lends the world
//! and gives it back; what the world contains is in `world.rs`.
//!
//! ```text
//!             pass_to, before the call
//!   owner's  ─────────────────────────▶  guest's
//!    Lent    ◀─────────────────────────   Lent
//!             pass_to, when the guest has ended
//! ```
//!
//! Only a pointer moves, so a call neither copies the world nor allocates.

use std::ops::{Deref, DerefMut};

/// The reason why the thing is never missing where the code uses it: the owner uses it between two
/// calls, and the guest uses it during a call.
///
/// A call lends the thing before the guest runs, and gives it back when the guest has ended, in
/// whatever way. Only a panic of the host's own code in the middle of a call leaves the thing lent.
/// After such a panic the owner ends too, or asks with [`Lent::if_here`] first.
const IS_HERE: &str = "a call lends it, and gives it back before the call returns";

/// A place for a thing, which is either here or lent to the other place.
#[derive(Debug)]
pub struct Lent<T>(Option<Box<T>>);

impl<T> Lent<T> {
    /// The place of the owner.
    pub const fn new(thing: Box<T>) -> Self {
        Self(Some(thing))
    }

    /// The place of a guest, before anything was lent to it.
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// Moves the thing to the other place: the owner lends it, or the guest's side gives it back.
    pub fn pass_to(&mut self, other: &mut Self) {
        debug_assert!(self.0.is_some() && other.0.is_none(), "it lies in one place");
        other.0 = self.0.take();
    }

    /// The thing, or `None` if a panic has left it lent.
    pub fn if_here(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;

    /// # Panics
    /// If the thing is lent. A use of a lent thing is a defect; `IS_HERE` says why the defect does
    /// not happen.
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
    #[should_panic = "a call lends it, and gives it back before the call returns"]
    fn what_is_lent_is_not_used() {
        let mut owner = Lent::new(Box::new(7));
        owner.pass_to(&mut Lent::nothing());
        *owner += 1;
    }
}
