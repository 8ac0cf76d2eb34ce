//! A simulated tank with an inflow through a valve, a drain, and a level.
//!
//! By Torricelli's law, the drain is proportional to the square root of the level. The level is in
//! percent of the full tank. The level never exceeds 100, and at a level of 0 the drain is 0.
//! `plant.rs` calls [`Tank::pass`] in every cycle.

use std::time::Duration;

use super::config;
use super::wiring::{Wiring, fits, within};
use crate::driver::OpenError;
use crate::process::image::{PointId, Points, Value};

/// The maximum step of the integration. At rates of some percent per second, the error of a step of
/// this length is far below the resolution of a level sensor.
const STEP: Duration = Duration::from_millis(100);

/// The maximum number of integration steps in one call. Without this limit, the first call after a
/// long pause of the machine would cause an overrun. If more than 10 s have passed ([`MAX_STEPS`]
/// times [`STEP`]), the steps become longer, so the whole time is still covered. Longer steps are
/// only less accurate, see [`Tank::advance`].
const MAX_STEPS: u32 = 100;

/// The maximum of the two rates of a tank, inflow and drain. With this inflow and no drain, an
/// empty tank is full after one millisecond.
const MAX_PERCENT_PER_S: f64 = 100_000.0;

/// The state of one tank.
#[derive(Debug)]
pub(super) struct Tank {
    level: PointId,
    inflow: PointId,
    drain_percent_per_s: f64,
    inflow_percent_per_s: f64,
    /// The level in percent, always from 0 to 100.
    percent: f64,
    /// The opening of the valve, from 0 (closed) to 1 (open).
    valve: f64,
}

impl Tank {
    /// Makes the tank of `config`. `key` is the key of the tank in the configuration; errors name
    /// this key.
    pub(super) fn open(
        config: &config::Tank,
        key: &str,
        wiring: &mut Wiring<'_>,
    ) -> Result<Self, OpenError> {
        let level_key = format!("{key}.level");
        let (level, point) = wiring.input(&level_key, &config.level)?;
        fits(&level_key, point, Value::Real(0.0))?;
        fits(&level_key, point, Value::Real(100.0))?;
        let (inflow, _) = wiring.output(&format!("{key}.inflow"), &config.inflow)?;
        let rate =
            |name: &str, rate| within(&format!("{key}.{name}"), rate, 0.0, MAX_PERCENT_PER_S);
        Ok(Self {
            level,
            inflow,
            drain_percent_per_s: rate("drain_percent_per_s", config.drain_percent_per_s)?,
            inflow_percent_per_s: rate("inflow_percent_per_s", config.inflow_percent_per_s)?,
            percent: within(&format!("{key}.initial"), config.initial, 0.0, 100.0)?,
            valve: 0.0,
        })
    }

    /// Whether `point` shows the level of this tank.
    pub(super) fn shows(&self, point: PointId) -> bool {
        self.level == point
    }

    /// Sets the level to `level` percent, as an operator has requested.
    pub(super) fn fill_to(&mut self, level: Value) -> Result<(), &'static str> {
        let percent = match level {
            Value::Bool(_) => return Err("the level of a tank must be a number"),
            Value::Int(percent) => percent as f64,
            Value::Real(percent) => percent,
        };
        if !(0.0..=100.0).contains(&percent) {
            return Err("the level of a tank must be between 0 and 100 percent");
        }
        self.percent = percent;
        Ok(())
    }

    /// Advances the tank by `time` with the valve position in `outputs`, and writes the level into
    /// `field`.
    pub(super) fn pass(
        &mut self,
        time: Duration,
        points: &Points,
        outputs: &[u8],
        field: &mut [u8],
    ) {
        match points[self.inflow].read(outputs) {
            Value::Bool(open) => self.valve = f64::from(u8::from(open)),
            Value::Int(percent) => self.valve = percent.clamp(0, 100) as f64 / 100.0,
            // NaN is not a valve position, so the valve keeps its position.
            Value::Real(percent) if percent.is_nan() => {}
            Value::Real(percent) => self.valve = percent.clamp(0.0, 100.0) / 100.0,
        }
        self.advance(time);
        let point = &points[self.level];
        point
            .write(field, Value::Real(self.percent))
            .expect("0 and 100 fit the point, so every value between them fits");
    }

    /// Integrates the level over `time` with the implicit Euler method. The drain of a step is
    /// calculated from the level at the *end* of the step. The result is a quadratic equation for
    /// the square root of the level.
    ///
    /// The explicit method is one line shorter. But with long steps, its level oscillates and falls
    /// below 0. The implicit method approaches the true final level without oscillation, for any
    /// length of the steps.
    fn advance(&mut self, time: Duration) {
        let steps = time.as_nanos().div_ceil(STEP.as_nanos()).min(MAX_STEPS.into()) as u32;
        if steps == 0 {
            return;
        }
        let step_s = time.as_secs_f64() / f64::from(steps);
        let inflow = step_s * self.inflow_percent_per_s * self.valve;
        // The drain rate is drain * sqrt(level / 100). The factor 1 / sqrt(100) = 1 / 10 is already
        // part of this variable.
        let drain = step_s * self.drain_percent_per_s / 10.0;
        for _ in 0..steps {
            let filled = self.percent + inflow;
            if filled == 0.0 {
                return;
            }
            let root = 2.0 * filled / (drain + (drain * drain + 4.0 * filled).sqrt());
            self.percent = (root * root).clamp(0.0, 100.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tank(percent: f64, valve: f64) -> Tank {
        let (drain_percent_per_s, inflow_percent_per_s) = (2.0, 6.0);
        let (level, inflow) = (PointId(0), PointId(1));
        Tank { level, inflow, drain_percent_per_s, inflow_percent_per_s, percent, valve }
    }

    /// Checks the level after `seconds`, in calls of 10 ms. The tank starts at `percent`, and the
    /// valve is open by `valve`.
    fn check(percent: f64, valve: f64, seconds: u64, expected: f64) {
        let mut tank = tank(percent, valve);
        for _ in 0..seconds * 100 {
            tank.advance(Duration::from_millis(10));
        }
        assert!((tank.percent - expected).abs() < 0.05, "{seconds} s: {}", tank.percent);
    }

    #[test]
    fn a_tank_fills_empties_and_rests() {
        // The square root of the level falls by 0.1 a second: (10 - 0.1 t)^2.
        check(100.0, 0.0, 50, 25.0);
        check(100.0, 0.0, 90, 1.0);
        check(100.0, 0.0, 101, 0.0);
        check(0.0, 0.0, 10, 0.0);
        check(0.0, 1.0, 60, 100.0);
        // The level is constant where the inflow equals the drain: 6 * 0.2 = 2 * sqrt(level / 100).
        check(36.0, 0.2, 600, 36.0);
        check(0.0, 0.2, 600, 36.0);
        check(100.0, 0.2, 600, 36.0);
    }

    #[test]
    fn an_empty_tank_without_drain_stays_empty() {
        let mut tank = Tank { drain_percent_per_s: 0.0, ..tank(0.0, 0.0) };
        tank.advance(Duration::from_secs(1));
        assert_eq!(tank.percent, 0.0, "and not 0 / 0");
    }

    #[test]
    fn a_jump_in_time_is_covered_whole() {
        for (seconds, expected) in [(10, 81.0), (50, 25.0), (90, 1.0)] {
            let mut tank = tank(100.0, 0.0);
            tank.advance(Duration::from_secs(seconds));
            assert!((tank.percent - expected).abs() < 1.0, "{seconds} s: {}", tank.percent);
        }
        let mut tank = tank(100.0, 0.2);
        tank.advance(Duration::from_secs(1_000_000));
        assert!((tank.percent - 36.0).abs() < 0.01, "{}", tank.percent);
        tank.advance(Duration::MAX);
        assert!((tank.percent - 36.0).abs() < 0.01, "{}", tank.percent);
        tank.advance(Duration::ZERO);
        assert!((tank.percent - 36.0).abs() < 0.01, "{}", tank.percent);
    }
}
