//! Signal generators. A generator calculates the value of an input from the time alone.
//!
//! No generator stores state between two calls, not even the generator of noise. Therefore the same
//! time always gives the same value, independent of earlier calls. A constant needs no generator;
//! it is written once as the first value. `plant.rs` calls the generators in every cycle.

use std::f64::consts::TAU;
use std::time::Duration;

use super::config;
use super::wiring::{Wiring, fits, within};
use crate::driver::OpenError;
use crate::process::image::{Point, PointId, PointKind, Points, Value};

/// A generator and the input that it drives.
#[derive(Debug)]
pub(super) struct Signal {
    point: PointId,
    shape: Shape,
    low: f64,
    high: f64,
}

/// The form of a signal, with the settings of that form.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Sine { period: Duration },
    Square { period: Duration, duty: f64 },
    Ramp { period: Duration },
    Noise { seed: u64 },
}

impl Signal {
    /// Makes the generator of `config`. `key` is the key of the signal in the configuration; errors
    /// name this key. Returns `None` for a constant, because this function writes the constant into
    /// `field` only once.
    pub(super) fn open(
        config: &config::Signal,
        key: &str,
        wiring: &mut Wiring<'_>,
        field: &mut [u8],
    ) -> Result<Option<Self>, OpenError> {
        let (name, shape, low, high) = match config {
            config::Signal::Constant { point, value } => {
                let (_, point) = wiring.input(&format!("{key}.point"), point)?;
                let value = fits(&format!("{key}.value"), point, *value)?;
                point.write(field, value).expect("the value fits the point, as `fits` has checked");
                return Ok(None);
            }
            config::Signal::Sine { point, period, low, high } => {
                (point, Shape::Sine { period: *period }, low, high)
            }
            config::Signal::Square { point, period, duty, low, high } => {
                let duty = within(&format!("{key}.duty"), *duty, 0.0, 1.0)?;
                (point, Shape::Square { period: *period, duty }, low, high)
            }
            config::Signal::Ramp { point, period, low, high } => {
                (point, Shape::Ramp { period: *period }, low, high)
            }
            config::Signal::Noise { point, seed, low, high } => {
                (point, Shape::Noise { seed: *seed }, low, high)
            }
        };
        if shape.period() == Some(Duration::ZERO) {
            let wanted = "a period above 0s, such as \"10s\"";
            return Err(OpenError::new(format!("{key}.period"), "0s", wanted));
        }
        let (id, point) = wiring.input(&format!("{key}.point"), name)?;
        let (low, high) = range(key, point, *low, *high)?;
        Ok(Some(Self { point: id, shape, low, high }))
    }

    /// Writes the value of the time `elapsed` into `field`.
    pub(super) fn show(&self, elapsed: Duration, points: &Points, field: &mut [u8]) {
        let share = self.shape.at(elapsed);
        let point = &points[self.point];
        let value = match point.kind {
            PointKind::Bool => Value::Bool(share > 0.5),
            // Rounding could exceed an end of the range by the last bit. With the clamp, the
            // `expect` below cannot fail.
            _ => {
                Value::Real((self.low + share * (self.high - self.low)).clamp(self.low, self.high))
            }
        };
        point
            .write(field, value)
            .expect("low and high fit the point, so every value between them fits");
    }
}

/// Checks that `low` and `high` fit the point, and that `low` is not above `high`.
fn range(key: &str, point: &Point, low: f64, high: f64) -> Result<(f64, f64), OpenError> {
    let (low_key, high_key) = (format!("{key}.low"), format!("{key}.high"));
    // The limit is half of the range of f64. With this limit, the difference `high - low` is
    // finite.
    let low = within(&low_key, low, f64::MIN / 2.0, f64::MAX / 2.0)?;
    let high = within(&high_key, high, f64::MIN / 2.0, f64::MAX / 2.0)?;
    if low > high {
        let wanted = format!("at most {high}, the value of `high`");
        return Err(OpenError::new(low_key, low.to_string(), wanted));
    }
    if point.kind != PointKind::Bool {
        fits(&low_key, point, Value::Real(low))?;
        fits(&high_key, point, Value::Real(high))?;
    }
    Ok((low, high))
}

impl Shape {
    /// The period of the signal, if the form has a period.
    fn period(self) -> Option<Duration> {
        match self {
            Self::Sine { period } | Self::Square { period, .. } | Self::Ramp { period } => {
                Some(period)
            }
            Self::Noise { .. } => None,
        }
    }

    /// The position of the signal at the time `elapsed`, from 0 for low to 1 for high.
    fn at(self, elapsed: Duration) -> f64 {
        match self {
            Self::Sine { period } => 0.5 + 0.5 * (TAU * phase(elapsed, period)).sin(),
            Self::Square { period, duty } => f64::from(u8::from(phase(elapsed, period) < duty)),
            Self::Ramp { period } => phase(elapsed, period),
            Self::Noise { seed } => {
                // The factor is the golden ratio, scaled to 64 bits. The multiplication gives
                // neighbouring times very different seeds.
                let time = (elapsed.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                fastrand::Rng::with_seed(seed ^ time).f64()
            }
        }
    }
}

/// The part of the current period that has passed, from 0 to just below 1. The division uses whole
/// nanoseconds. Therefore the result is as exact after a year as in the first second.
fn phase(elapsed: Duration, period: Duration) -> f64 {
    (elapsed.as_nanos() % period.as_nanos()) as f64 / period.as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(8);

    /// Checks the values at the four quarters of two periods. One period begins 8 s after the
    /// start, the other period begins a year after the start.
    fn check(shape: Shape, expected: [f64; 4]) {
        for start_s in [365 * 86_400, 8] {
            for (quarter, expected) in (0..).zip(expected) {
                let value = shape.at(Duration::from_secs(start_s + 2 * quarter));
                assert!((value - expected).abs() < 1e-9, "{shape:?} at {quarter}/4: {value}");
            }
        }
    }

    #[test]
    fn every_shape_has_its_values() {
        check(Shape::Sine { period: PERIOD }, [0.5, 1.0, 0.5, 0.0]);
        check(Shape::Square { period: PERIOD, duty: 0.5 }, [1.0, 1.0, 0.0, 0.0]);
        check(Shape::Square { period: PERIOD, duty: 0.75 }, [1.0, 1.0, 1.0, 0.0]);
        check(Shape::Square { period: PERIOD, duty: 0.0 }, [0.0; 4]);
        check(Shape::Square { period: PERIOD, duty: 1.0 }, [1.0; 4]);
        check(Shape::Ramp { period: PERIOD }, [0.0, 0.25, 0.5, 0.75]);
    }

    #[test]
    fn noise_is_even_and_its_seed_decides() {
        let samples = |seed| {
            let noise = Shape::Noise { seed };
            (0..10_000).map(move |cycle| noise.at(Duration::from_millis(10 * cycle)))
        };
        assert!(samples(1).eq(samples(1)), "the same seed");
        let same = samples(1).zip(samples(2)).filter(|(a, b)| a == b).count();
        assert!(same < 10, "{same} of 10 000 alike with another seed");
        let mut tenths = [0; 10];
        samples(3).for_each(|value| tenths[(value * 10.0) as usize] += 1);
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }
}
