//! Who has the world: its owner, or the guest that is being called.
//!
//! A call into a guest lends the world to the host's state of that guest, because the functions
//! that the guest calls reach nothing else. So the owner and the guest each have a place for it, a
//! [`Lent`], and it lies in one of the two. `plugin/instance/wasm/call.rs` moves it to and fro; the
//! owners are the scan, a shadow run, a recipe, a replay and a preparation.
//!
//! Only a pointer moves: nothing is copied, and nothing allocates.

use std::ops::{Deref, DerefMut};

/// Why it cannot be missing where it is used: at its owner between two calls, and at the guest
/// during one.
///
/// A call lends it before the guest runs, and gives it back when the guest has ended, in whatever
/// way. Only a panic of the host's own code in the middle of a call breaks that. The owner then
/// ends too, or asks first, with [`Lent::if_here`].
const IS_HERE: &str = "a call lends it, and gives it back before the call returns";

/// A place for something that is in use here, or lent.
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

    /// Passes it on to the other place: lends it, or gives it back.
    pub fn pass_to(&mut self, other: &mut Self) {
        debug_assert!(self.0.is_some() && other.0.is_none(), "it lies in one place");
        other.0 = self.0.take();
    }

    /// It, unless a panic has left it lent.
    pub fn if_here(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;

    /// # Panics
    /// While it is lent. That is a defect; `IS_HERE` says why it does not happen.
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
