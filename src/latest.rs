//! The latest value of something, from one writer to one reader; neither of them ever waits.
//!
//! The scan writes its snapshot here in each cycle, and the daemon reads the newest one when it
//! needs it. Values in between are lost on purpose. A fact that must not be lost is a level with a
//! generation inside the value.

/// The end that writes values.
#[derive(Debug)]
pub struct Writer<T: Send>(triple_buffer::Input<T>);

/// The end that reads values.
#[derive(Debug)]
pub struct Reader<T: Send>(triple_buffer::Output<T>);

/// A writer and its reader, which start with copies of `first`; the buffers keep their capacity
/// from then on.
pub fn latest<T: Clone + Send>(first: &T) -> (Writer<T>, Reader<T>) {
    let (input, output) = triple_buffer::TripleBuffer::new(first).split();
    (Writer(input), Reader(output))
}

impl<T: Send> Writer<T> {
    /// Lets `fill` overwrite an old value in place, then makes it the newest.
    ///
    /// `fill` gets a value that was published some calls ago, and must set every field.
    pub fn publish(&mut self, fill: impl FnOnce(&mut T)) {
        fill(self.0.input_buffer_mut());
        self.0.publish();
    }
}

impl<T: Send> Reader<T> {
    /// The newest value.
    pub fn read(&mut self) -> &T {
        self.0.read()
    }

    /// The value that was read last.
    pub fn seen(&self) -> &T {
        self.0.output_buffer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_sees_the_newest_value_and_then_the_same_again() {
        let (mut writer, mut reader) = latest(&0);
        assert_eq!(*reader.read(), 0);
        for n in 1..=3 {
            writer.publish(|value| *value = n);
        }
        assert_eq!(*reader.seen(), 0);
        assert_eq!(*reader.read(), 3);
        assert_eq!((*reader.seen(), *reader.read()), (3, 3));
    }
}
