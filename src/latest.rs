//! The latest value of something, from one writer to one reader. Neither of them ever waits.
//!
//! The scan publishes its snapshot through this buffer in each cycle, and the daemon reads the
//! newest snapshot when it needs one. Values that the reader does not read in time are lost on
//! purpose. A fact that must not be lost is therefore part of the value in every cycle, as a level
//! with a generation.
//!
//! ```text
//! Writer ── publish ──▶ [ three buffers ] ── read ──▶ Reader
//! ```

/// The end that publishes values.
#[derive(Debug)]
pub struct Writer<T: Send>(triple_buffer::Input<T>);

/// The end that reads values.
#[derive(Debug)]
pub struct Reader<T: Send>(triple_buffer::Output<T>);

/// Makes a writer and its reader, with a copy of `first` in each of the three buffers. The buffers
/// keep their capacity after that.
pub fn latest<T: Clone + Send>(first: &T) -> (Writer<T>, Reader<T>) {
    let (input, output) = triple_buffer::TripleBuffer::new(first).split();
    (Writer(input), Reader(output))
}

impl<T: Send> Writer<T> {
    /// Publishes a new value: `fill` overwrites an old value in place, and the result becomes the
    /// newest value.
    ///
    /// `fill` gets a value that was published some calls before, and must set every field of it.
    pub fn publish(&mut self, fill: impl FnOnce(&mut T)) {
        fill(self.0.input_buffer_mut());
        self.0.publish();
    }
}

impl<T: Send> Reader<T> {
    /// The newest value that the writer has published.
    pub fn read(&mut self) -> &T {
        self.0.read()
    }

    /// The value that the last [`Reader::read`] returned.
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
