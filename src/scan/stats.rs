//! The durations of cycles and polls: time measurements of the scan, collected in histograms.
//!
//! The scan only puts each measurement into a bounded queue. The main loop of the daemon takes the
//! measurements from the queue, adds them to histograms and computes percentiles. If the queue is
//! full, the scan drops a measurement and counts it in `Snapshot::samples_lost`.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process::seat::{MAX_PROGRAMS, Seat};

/// Capacity of the queue of samples. With 1000 programs ([`MAX_PROGRAMS`]) and a period of 10 ms,
/// or with 100 programs and 1 ms, the scan makes about 100 000 samples in a second. If the daemon
/// empties the queue every 100 ms, at most 10 200 samples are in the queue.
pub const MAX_SAMPLES: usize = 1 << 15;

/// The longest time that a histogram can store: 60 s. A longer time is stored as 60 s.
const LONGEST_NS: u64 = 60_000_000_000;

/// One time measurement.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The kind of time that was measured.
    pub what: What,
    /// The measured time in nanoseconds. A longer time than 4.29 s, the largest value of this type,
    /// is stored as 4.29 s.
    pub ns: u32,
}

/// The kind of time that a sample contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The time from the deadline of a cycle to the beginning of the cycle.
    Lateness,
    /// The time from the beginning of a cycle to the end of the cycle.
    Work,
    /// The time of one poll of the program on this seat.
    Poll(Seat),
}

/// The percentiles of one kind of sample, in nanoseconds, for example for `camshaft status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub count: u64,
    /// The median: half of the samples are not longer than this time.
    pub p50_ns: u64,
    /// 99 % of the samples are not longer than this time.
    pub p99_ns: u64,
    /// 99.9 % of the samples are not longer than this time.
    pub p999_ns: u64,
    /// The longest time of all samples.
    pub max_ns: u64,
}

/// All histograms, and the queue from which they are filled.
#[derive(Debug)]
pub struct Stats {
    /// The queue of samples. The scan's thread writes to this queue, the daemon's loop reads from
    /// it.
    samples: rtrb::Consumer<Sample>,
    /// The lateness of cycles, in nanoseconds.
    lateness: Histogram<u64>,
    /// The durations of cycles, in nanoseconds.
    work: Histogram<u64>,
    /// The durations of polls, in nanoseconds, indexed by seat. The histogram of a seat is made
    /// with the first sample of that seat.
    polls: Vec<Option<Histogram<u64>>>,
}

/// Makes an empty histogram with two significant digits. The error of a value is 1 % at most, and
/// the histogram uses about 30 KB of memory.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_NS, 2).expect("hdrhistogram accepts these constant bounds")
}

impl Stats {
    /// Makes empty statistics that read their samples from this queue.
    pub fn new(samples: rtrb::Consumer<Sample>) -> Self {
        let polls = std::iter::repeat_with(|| None).take(MAX_PROGRAMS).collect();
        Self { samples, lateness: histogram(), work: histogram(), polls }
    }

    /// Takes all samples from the queue and adds them to the histograms.
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

    /// Returns the percentiles of the lateness of cycles.
    pub fn lateness(&self) -> Summary {
        summary(&self.lateness)
    }

    /// Returns the percentiles of the durations of cycles.
    pub fn work(&self) -> Summary {
        summary(&self.work)
    }

    /// Returns the percentiles of the durations of the polls on one seat. Without samples, all
    /// values are 0.
    pub fn poll(&self, seat: Seat) -> Summary {
        let polls = self.polls.get(usize::from(seat.0)).and_then(Option::as_ref);
        polls.map(summary).unwrap_or_default()
    }

    /// Deletes the samples of one seat. The daemon calls this function when the seat is free.
    pub fn forget(&mut self, seat: Seat) {
        if let Some(polls) = self.polls.get_mut(usize::from(seat.0)) {
            *polls = None;
        }
    }
}

/// Computes the percentiles of a histogram.
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
