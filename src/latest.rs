//! A buffer that passes the newest value from a writer to a reader. The writer and the reader are
//! on different threads, and neither of them ever waits.
//!
//! The scan publishes its snapshot through this buffer in each cycle. The daemon reads the newest
//! snapshot when the daemon needs one. If the writer publishes several values between two reads,
//! the reader gets only the last of these values. Therefore this buffer does not suit single
//! events, such as one alarm. If a fact must reach the reader, the writer puts the fact into every
//! value, together with a generation number. The writer increases this number when the fact
//! changes.
//!
//! ```text
//! Writer ── publish ──▶ [ three buffers ] ── read ──▶ Reader
//! ```

/// The writer's side of the buffer.
#[derive(Debug)]
pub struct Writer<T: Send>(triple_buffer::Input<T>);

/// The reader's side of the buffer.
#[derive(Debug)]
pub struct Reader<T: Send>(triple_buffer::Output<T>);

/// Creates a writer and its reader. Each of the three buffers begins as a copy of `first`. Later
/// values overwrite these copies. A list in a copy retains its capacity, so a later value needs new
/// memory only if its list is longer than this capacity.
pub fn latest<T: Clone + Send>(first: &T) -> (Writer<T>, Reader<T>) {
    let (input, output) = triple_buffer::TripleBuffer::new(first).split();
    (Writer(input), Reader(output))
}

impl<T: Send> Writer<T> {
    /// Publishes a new value. `fill` overwrites an old value in place, and the result becomes the
    /// newest value.
    ///
    /// `fill` gets the value of an earlier call or a copy of the first value, and must set every
    /// field of this value.
    pub fn publish(&mut self, fill: impl FnOnce(&mut T)) {
        fill(self.0.input_buffer_mut());
        self.0.publish();
    }
}

impl<T: Send> Reader<T> {
    /// Returns the newest value that the writer has published. Before the first
    /// [`Writer::publish`], returns the first value.
    pub fn read(&mut self) -> &T {
        self.0.read()
    }

    /// Returns the value that the last call of [`Reader::read`] returned. Before the first such
    /// call, returns the first value.
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
