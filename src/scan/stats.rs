//! How long cycles and polls took: samples from the scan, collected into histograms on another
//! thread.
//!
//! The scan only pushes numbers into a bounded queue. This file sorts the numbers into histograms
//! and reads percentiles, outside of the scan thread. If the queue is full, samples are dropped;
//! the scan counts them in `Snapshot::samples_lost`.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process::seat::{MAX_PROGRAMS, Seat};

/// Room in the queue. 100 programs at a period of 1 ms make 102 000 samples a second, and the
/// daemon empties the queue every 100 ms, so at most 10 200 samples wait.
pub const MAX_SAMPLES: usize = 1 << 15;

/// The longest time that a histogram distinguishes: 60 s. A longer time counts as 60 s.
const LONGEST_NS: u64 = 60_000_000_000;

/// One measured time.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What was measured.
    pub what: What,
    /// The measured time in nanoseconds. A time above 4 seconds counts as 4.3 seconds.
    pub ns: u32,
}

/// The kind of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// From the deadline of a cycle to its beginning.
    Lateness,
    /// From the beginning of a cycle to its end.
    Work,
    /// One poll of the program on this seat.
    Poll(Seat),
}

/// Percentiles of one kind of sample, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The number of samples.
    pub count: u64,
    /// The time that half of the samples did not exceed.
    pub p50_ns: u64,
    /// The time that 99 % of the samples did not exceed.
    pub p99_ns: u64,
    /// The time that 99.9 % of the samples did not exceed.
    pub p999_ns: u64,
    /// The longest time.
    pub max_ns: u64,
}

/// All histograms since the start.
#[derive(Debug)]
pub struct Stats {
    /// The queue from the scan. The scan's thread writes, the daemon's loop reads.
    samples: rtrb::Consumer<Sample>,
    /// How late cycles began, in nanoseconds.
    lateness: Histogram<u64>,
    /// How long cycles took, in nanoseconds.
    work: Histogram<u64>,
    /// How long polls took, in nanoseconds, by seat. A histogram is made when its seat has its
    /// first sample.
    polls: Vec<Option<Histogram<u64>>>,
}

/// An empty histogram with two significant digits. The error of 1 % is small enough for a time, and
/// such a histogram takes about 30 KB.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_NS, 2)
        .expect("the bounds are constants that hdrhistogram takes")
}

impl Stats {
    /// Statistics that collect the samples of this queue.
    pub fn new(samples: rtrb::Consumer<Sample>) -> Self {
        let polls = std::iter::repeat_with(|| None).take(MAX_PROGRAMS).collect();
        Self { samples, lateness: histogram(), work: histogram(), polls }
    }

    /// Sorts the samples that have come since the last call into the histograms.
    pub fn collect(&mut self) {
        while let Ok(sample) = self.samples.pop() {
            let histogram = match sample.what {
                What::Lateness => &mut self.lateness,
                What::Work => &mut self.work,
                What::Poll(seat) => match self.polls.get_mut(usize::from(seat.0)) {
                    Some(polls) => polls.get_or_insert_with(histogram),
                    None => continue,
                },
            };
            histogram.saturating_record(sample.ns.into());
        }
    }

    /// How late cycles began.
    pub fn lateness(&self) -> Summary {
        summary(&self.lateness)
    }

    /// How long cycles took.
    pub fn work(&self) -> Summary {
        summary(&self.work)
    }

    /// How long the polls of one program took.
    pub fn poll(&self, seat: Seat) -> Summary {
        let polls = self.polls.get(usize::from(seat.0)).and_then(Option::as_ref);
        polls.map(summary).unwrap_or_default()
    }

    /// Forgets the samples of a seat whose program has left.
    pub fn forget(&mut self, seat: Seat) {
        if let Some(polls) = self.polls.get_mut(usize::from(seat.0)) {
            *polls = None;
        }
    }
}

/// The percentiles of a histogram.
fn summary(histogram: &Histogram<u64>) -> Summary {
    Summary {
        count: histogram.len(),
        p50_ns: histogram.value_at_quantile(0.5),
        p99_ns: histogram.value_at_quantile(0.99),
        p999_ns: histogram.value_at_quantile(0.999),
        max_ns: histogram.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_out_within_one_percent() {
        let (mut queue, samples) = rtrb::RingBuffer::new(1000);
        let mut stats = Stats::new(samples);
        for n in 1..=1000u32 {
            let what = if n <= 500 { What::Work } else { What::Poll(Seat(7)) };
            queue.push(Sample { what, ns: n * 1000 }).unwrap();
        }
        stats.collect();
        let near = |found: u64, wanted: u64| found.abs_diff(wanted) * 100 <= wanted;
        assert_eq!(stats.work().count, 500);
        assert!(near(stats.work().p50_ns, 250_000), "{:?}", stats.work());
        assert!(near(stats.poll(Seat(7)).p99_ns, 995_000), "{:?}", stats.poll(Seat(7)));
        assert_eq!(stats.poll(Seat(8)), Summary::default());
        stats.forget(Seat(7));
        assert_eq!(stats.poll(Seat(7)), Summary::default());
    }
}
