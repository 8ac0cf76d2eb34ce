//! Receipts: one record for each event of a plugin and for each order of an operator.
//!
//! This file has only data types. The journal on the disk, the JSON answers and the command line
//! use the same types. A new field must have a default value, so that the daemon can still read an
//! older journal. A program that reads receipts must skip the kinds that it does not know. The
//! fields of orders are in `ordered.rs`. The file `daemon/plugins/record.rs` writes the receipts.

use serde::{Deserialize, Serialize};

use super::ordered::{Ordered, Who};
use super::plugin::SwapView;
use crate::plugin::Trap;
use crate::plugin::shadow::ShadowReport;

/// Something that happened to a plugin, or an order of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The name of the plugin; `null` for an order that is not about a plugin.
    pub plugin: Option<String>,
    /// The cycle of the event, or the newest cycle that the daemon knew at the time of the event.
    /// The first cycle after the daemon's start has the number 1. The number 0 means that the event
    /// was before the first cycle.
    pub cycle: u64,
    /// The hash of the version that the receipt is about, 64 hexadecimal digits. `null` if there is
    /// no version, for example for a file that cannot be read.
    pub hash: Option<String>,
    /// The hash of the version that was in the scan before the event, even if that version had
    /// trapped. `null` if no version was in the scan. After a swap, this old version has left the
    /// scan. After a refusal, this old version continues to run. In the events [`Event::Rollback`],
    /// [`Event::StandsIn`] and [`Event::Ordered`] the field has another meaning, which the doc of
    /// the event or of [`Ordered`] gives.
    pub old_hash: Option<String>,
    /// The event itself.
    #[serde(flatten)]
    pub event: Event,
}

/// The kind of an event. In JSON, the field `kind` has the name of the variant in small letters,
/// such as `stands_in`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The version entered the scan. The plugin had no program in the scan before.
    Started {
        /// The durations of the steps of the start, and the number of missed cycles.
        swap: SwapView,
    },
    /// The version replaced another version in the scan. Before that, the version may have had a
    /// shadow run: the daemon polls the new version beside the old version, and the outputs of the
    /// new version go to no device.
    Swapped {
        /// The durations of the steps of the swap, and the state that it carried over.
        swap: SwapView,
        /// The result of the version's shadow run; absent if there was no shadow run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow: Option<ShadowReport>,
    },
    /// A new instance of the same version replaced the old instance: after a trap, or by an
    /// operator's order.
    Restarted {
        /// The durations of the steps of the restart.
        swap: SwapView,
    },
    /// The daemon does not run this version. If another version was running, that version
    /// continues.
    Refused {
        /// The reason for the refusal: what is wrong.
        reason: String,
        /// The remedy: what the user can do about the problem.
        remedy: String,
        /// The number of consecutive refusals of the same version. Not every refusal gets a
        /// receipt: the first five refusals get a receipt, and after that each refusal whose number
        /// is a power of two.
        count: u64,
        /// The result of the version's shadow run; absent if there was no shadow run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow: Option<ShadowReport>,
        /// The user whose deploy was refused. Absent if the file came into the plugin folder
        /// without a deploy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// The version trapped. Its outputs are safe until the restart.
    Trapped {
        /// The kind of the trap and its location in the code.
        trap: Trap,
        /// The number of consecutive traps of the same version, with a restart after each trap. Not
        /// every trap and restart gets a receipt: the rule is the same as for the count in
        /// [`Event::Refused`].
        count: u64,
    },
    /// The daemon wrote a crash report about a trap of this version. The command `camshaft replay
    /// FILE` repeats the trap.
    Reported {
        /// Path of the crash report.
        file: String,
    },
    /// The new version trapped on probation, so the old version runs again with its state. In this
    /// receipt, `hash` is the old version that runs again, and `old_hash` is the new version that
    /// trapped.
    Rollback,
    /// The daemon does not run this version until the file has new content, or until an operator
    /// releases the plugin.
    Quarantined {
        /// The reason for the quarantine.
        reason: String,
    },
    /// The version in the file is bad, so a stored version runs in its place. In this receipt,
    /// `hash` is the stored version that runs, and `old_hash` is the version in the file.
    StandsIn,
    /// The plugin was ordered to leave the scan.
    Held {
        /// The source of the hold: an operator or the configuration.
        by: By,
        /// The user who ordered the hold; absent if the source is the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// The plugin may run again. Its hold or its quarantine has ended, and the daemon has reset the
    /// plugin's count of refusals.
    Released {
        /// The source of the release: an operator or the configuration.
        by: By,
        /// Whether the release has ended the quarantine. A release of a held plugin ends the hold
        /// and not the quarantine.
        #[serde(default = "yes")]
        forgives: bool,
        /// The user who ordered the release; absent if the source is the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// The file of the plugin was removed from the plugin folder.
    Removed,
    /// The program has left the scan: it was held, removed or quarantined. Its outputs are safe.
    Stopped,
    /// An order was carried out, or failed after it had already changed something. Some orders are
    /// not about a plugin.
    Ordered(Ordered),
}

/// The default of `forgives` for receipts of older Camshaft releases. In those releases every
/// release ended the quarantine.
fn yes() -> bool {
    true
}

/// The possible sources of a hold or a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A client of the control socket.
    Operator,
    /// The configuration file, at the start or at a reload.
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
        // Older Camshaft releases wrote no user.
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
