//! motor: a start/stop latch with emergency stop.
//!
//! Inputs: `button.start`, `button.stop` and `button.estop_ok` (true while the emergency stop is
//! healthy). Output: `motor.run`. The motor starts only at a rising edge of the start button. A
//! button that is already pressed when the program starts, or when an emergency stop ends, does not
//! start the motor. The stop button has priority over the start button. An input without good
//! quality stops the motor. The program logs changes of its state, not every cycle.
//!
//! This program is no safety function. A dangerous machine needs an emergency stop in hardware.

#![no_std]

use camshaft_guest::{
    error, info, point, program, read_state, warn, write_state, Point, Program, Stateful,
};

/// First byte of the saved state. Increase it when the layout of the state changes.
const STATE_VERSION: u8 = 1;

/// The state of the motor and the reason for it.
///
/// ```text
///            start pressed  
///   Stopped ----------------> Running          any ---- circuit open ---> Tripped
///      ^                         |             any ---- bad input ------> Blind
///      '--------- stop ----------'
///      '--------- healthy again ------- Tripped, Blind
/// ```
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// The motor is off and ready to start.
    Stopped,
    /// The motor is on.
    Running,
    /// The motor is off, because the emergency stop circuit is open.
    Tripped,
    /// The motor is off, because an input is bad or missing.
    Blind,
}

/// The states of the buttons in one poll.
struct Buttons {
    start: bool,
    stop: bool,
    estop_ok: bool,
}

struct Motor {
    start: Option<Point<bool>>,
    stop: Option<Point<bool>>,
    estop_ok: Option<Point<bool>>,
    run: Option<Point<bool>>,
    /// Whether the missing points were logged. They are logged only once.
    has_complained: bool,
    /// Whether the host refused the last write of `motor.run`.
    is_refused: bool,
    state: State,
    /// Whether the start button was pressed in the last poll. Starts as true: see the file header.
    was_down: bool,
}

impl Motor {
    const fn new() -> Self {
        Self {
            start: None,
            stop: None,
            estop_ok: None,
            run: None,
            has_complained: false,
            is_refused: false,
            state: State::Stopped,
            was_down: true,
        }
    }

    /// Searches the points that were not found before.
    fn find_points(&mut self) {
        self.start = self.start.or_else(|| point("button.start").ok());
        self.stop = self.stop.or_else(|| point("button.stop").ok());
        self.estop_ok = self.estop_ok.or_else(|| point("button.estop_ok").ok());
        self.run = self.run.or_else(|| point("motor.run").ok());
        if !self.has_complained {
            self.complain();
        }
    }

    fn complain(&mut self) {
        let is_missing = [
            self.start.is_none(),
            self.stop.is_none(),
            self.estop_ok.is_none(),
            self.run.is_none(),
        ];
        self.has_complained = is_missing.contains(&true);
        if is_missing[0] {
            error!("no point button.start: not configured, or not granted");
        }
        if is_missing[1] {
            error!("no point button.stop: not configured, or not granted");
        }
        if is_missing[2] {
            error!("no point button.estop_ok: not configured, or not granted");
        }
        if is_missing[3] {
            error!("no point motor.run: not configured, or not granted");
        }
    }

    /// Returns the states of the buttons if all three inputs are good.
    fn buttons(&self) -> Option<Buttons> {
        Some(Buttons {
            start: self.start?.good()?,
            stop: self.stop?.good()?,
            estop_ok: self.estop_ok?.good()?,
        })
    }

    /// Returns the next state of the latch.
    fn next(&mut self) -> State {
        let buttons = match self.buttons() {
            Some(buttons) => buttons,
            None => {
                self.was_down = true;
                return State::Blind;
            }
        };
        let goes_down = buttons.start && !self.was_down;
        self.was_down = buttons.start;
        if !buttons.estop_ok {
            State::Tripped
        } else if buttons.stop {
            State::Stopped
        } else if goes_down || self.state == State::Running {
            State::Running
        } else {
            State::Stopped
        }
    }

    /// Changes the state, and logs one line if the new state differs.
    fn enter(&mut self, next: State) {
        match (self.state, next) {
            (old, new) if old == new => {}
            (_, State::Running) => info!("motor on"),
            (State::Running, State::Stopped) => info!("motor off: stop button"),
            (_, State::Stopped) => info!("ready to start"),
            (_, State::Tripped) => warn!("motor off: emergency stop"),
            (_, State::Blind) => warn!("motor off: an input cannot be believed"),
        }
        self.state = next;
    }

    fn drive(&mut self) {
        if let Some(run) = self.run {
            let is_refused = run.write(self.state == State::Running).is_err();
            if is_refused && !self.is_refused {
                error!("motor.run is not ours to write");
            }
            self.is_refused = is_refused;
        }
    }
}

impl Program for Motor {
    fn init(&mut self) {
        self.find_points();
    }

    fn poll(&mut self) {
        self.find_points();
        let next = self.next();
        self.enter(next);
        self.drive();
    }
}

impl Stateful for Motor {
    fn save(&self) {
        let state = [STATE_VERSION, (self.state == State::Running).into(), self.was_down.into()];
        // If the host refuses the write, the state is too short, and the next version ignores it.
        let _ = write_state(&state);
    }

    fn restore(&mut self) {
        let mut saved = [0; 3];
        let read = read_state(&mut saved);
        match (read, saved) {
            (Ok(3), [STATE_VERSION, is_running @ 0..=1, was_down @ 0..=1]) => {
                self.state = if is_running == 1 { State::Running } else { State::Stopped };
                self.was_down = was_down == 1;
            }
            _ => warn!("the saved state is of another version, starting cold"),
        }
    }
}

program!(stateful Motor = Motor::new());
