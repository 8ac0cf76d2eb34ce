//! Receipts: what happened to plugins and what people ordered, one for each event that an operator
//! may want to know later.
//!
//! This is plain data, the same for the journal on the disk, the JSON and the command line. A new
//! field must have a default, so that an older journal can still be read. A program skips kinds of
//! receipts that it does not know. Orders are in `ordered.rs`.

use serde::{Deserialize, Serialize};

use super::ordered::{Ordered, Who};
use super::plugin::SwapView;
use crate::plugin::Trap;
use crate::plugin::shadow::Report;

/// Something that happened to a plugin, or an order of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Name of the plugin; `null` for an order that is about no plugin.
    pub plugin: Option<String>,
    /// The cycle in which it happened, or the newest cycle that the daemon had seen. Cycles count
    /// from the daemon's start; 0 is before the first.
    pub cycle: u64,
    /// The version that the receipt is about, 64 hexadecimal digits; `null` if there is none, for
    /// example for a file that cannot be read.
    pub hash: Option<String>,
    /// The version that was in the scan until then, trapped or not; `null` if none was. After a
    /// swap that version is gone. After a refusal it is the one that goes on, or `null` if none
    /// does.
    pub old_hash: Option<String>,
    /// The event itself.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen to a plugin; `kind` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The version took its seat, which was empty.
    Started {
        /// The times of the start.
        swap: SwapView,
    },
    /// The version took over from another one.
    Swapped {
        /// The times of the swap.
        swap: SwapView,
        /// What the version's shadow run found; absent if it had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow: Option<Report>,
    },
    /// A new instance of the same version took over: after a trap, or because the operator wanted
    /// it.
    Restarted {
        /// The times of the restart.
        swap: SwapView,
    },
    /// The version is not run. If another version ran, it goes on.
    Refused {
        /// The reason of the refusal: what is wrong.
        reason: String,
        /// The remedy: what would be right.
        remedy: String,
        /// How often the same version was refused in a row. In a long row not every refusal has a
        /// receipt: the first five have one, and then those whose count is a power of two.
        count: u64,
        /// What the version's shadow run found; absent if it had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow: Option<Report>,
        /// The user whose deploy was refused; absent for a file that came into the folder in
        /// another way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// The version trapped: its outputs are safe until it is restarted.
    Trapped {
        /// Kind and place of the trap.
        trap: Trap,
        /// How often the same version trapped in a row, with restarts between. In a long row not
        /// every trap has a receipt, and neither has the restart after it: the rule is that of
        /// [`Event::Refused`].
        count: u64,
    },
    /// There is a crash report of a trap of this version: `camshaft replay FILE` runs the trap
    /// again.
    Reported {
        /// Path of the crash report.
        file: String,
    },
    /// The version before runs again, with its state, because its successor trapped on probation.
    /// Here `hash` is the version that runs again, and `old_hash` is its successor.
    Rollback,
    /// This version is not run again until the file has new bytes or the plugin is released.
    Quarantined {
        /// The reason for the quarantine.
        reason: String,
    },
    /// A kept version runs in place of the file, which is no good. Here `hash` is the version that
    /// runs, and `old_hash` is that of the file.
    StandsIn,
    /// The plugin must leave the scan.
    Held {
        /// What ordered it: an operator or the configuration.
        by: By,
        /// The user, if it was an operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// The plugin may run again; hold and refusal are forgotten.
    Released {
        /// What ordered it: an operator or the configuration.
        by: By,
        /// Whether quarantine is forgotten as well. It is if the plugin was not held.
        #[serde(default = "yes")]
        forgives: bool,
        /// The user, if it was an operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// The plugin's file is gone.
    Removed,
    /// The program is out of the scan: it was held, removed or quarantined. Its outputs are safe.
    Stopped,
    /// An operator's order was carried out, about a plugin or about none.
    Ordered(Ordered),
}

/// The default of `forgives`: the only kind of release in the receipts of older releases.
fn yes() -> bool {
    true
}

/// What can hold or release a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A client of the control socket.
    Operator,
    /// The configuration, at the start or at a reload.
    Configuration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::OrderKind;

    #[test]
    fn receipts_survive_json() {
        fn check(event: Event, expected: &str) {
            let plugin = Some("tank".to_string());
            let receipt =
                Receipt { plugin, cycle: 7, hash: Some("aa".into()), old_hash: None, event };
            let text = serde_json::to_string(&receipt).unwrap();
            let head = r#"{"plugin":"tank","cycle":7,"hash":"aa","old_hash":null,"#;
            assert_eq!(text, format!("{head}{expected}}}"));
            assert_eq!(serde_json::from_str::<Receipt>(&text).unwrap(), receipt);
        }
        let trap = Trap { kind: "unreachable".into(), function: None, offset: Some(9), cycle: 7 };
        let swap = SwapView {
            compile_us: u64::MAX,
            cached: true,
            state_bytes: Some(4),
            variables_carried: 3,
            ..SwapView::default()
        };
        let times = r#""detect_us":0,"compile_us":18446744073709551615,"prepare_us":0,"#;
        let rest = r#""boundary_us":0,"missed_cycles":0,"cached":true,"state_bytes":4,"#;
        let state = r#""variables_carried":3,"variables_new":0,"variables_dropped":0"#;
        let expected = format!(r#""kind":"swapped","swap":{{{times}{rest}{state}}}"#);
        check(Event::Swapped { swap, shadow: None }, &expected);
        let how = r#"{"kind":"unreachable","function":null,"offset":9,"cycle":7}"#;
        let expected = format!(r#""kind":"trapped","trap":{how},"count":2"#);
        check(Event::Trapped { trap, count: 2 }, &expected);
        let who = Some(Who { uid: 1000, name: Some("ann".into()) });
        let ann = r#""who":{"uid":1000,"name":"ann"}"#;
        let held = Event::Held { by: By::Operator, who: who.clone() };
        check(held, &format!(r#""kind":"held","by":"operator",{ann}"#));
        // Older releases wrote no user.
        check(Event::Held { by: By::Operator, who: None }, r#""kind":"held","by":"operator""#);
        let ordered = Ordered {
            order: OrderKind::RestartCold,
            target: None,
            old: Some("1".into()),
            new: None,
            details: None,
            who,
            failed: None,
            count: 1,
        };
        let expected =
            format!(r#""kind":"ordered","order":"restart_cold","old":"1",{ann},"count":1"#);
        check(Event::Ordered(ordered), &expected);
        check(Event::Removed, r#""kind":"removed""#);
        let released = Event::Released { by: By::Operator, forgives: false, who: None };
        check(released, r#""kind":"released","by":"operator","forgives":false"#);
        let before = r#"{"plugin":"a","cycle":1,"kind":"released","by":"operator"}"#;
        let before = serde_json::from_str::<Receipt>(before).unwrap().event;
        assert_eq!(before, Event::Released { by: By::Operator, forgives: true, who: None });
    }
}
