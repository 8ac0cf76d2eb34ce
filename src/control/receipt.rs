//! Receipts: what became of plugins and what people have ordered, one for each thing that an
//! operator would want to know later.
//!
//! Plain data, the same for the journal on the disk, the JSON and the command line. Whatever is
//! added must have a default, so that a journal of before can still be read; a kind of receipt that
//! a version does not know is passed over by it.

use serde::{Deserialize, Serialize};

use super::{Ordered, SwapView, Who};
use crate::plugin::Trap;
use crate::plugin::shadow::Report;

/// Something that became of a plugin, or an order of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its name; `null` for an order that is about no plugin.
    pub plugin: Option<String>,
    /// The cycle in which it happened, or the newest that the daemon had seen; 0 before the first.
    /// Counts from the daemon's start.
    pub cycle: u64,
    /// The version that it is about, 64 hexadecimal digits; `null` when there is none, such as for
    /// a file that cannot be read.
    pub hash: Option<String>,
    /// The version that was in the scan until then, trapped or not; `null` when none was. After a
    /// swap it is gone, after a refusal it goes on.
    pub old_hash: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What may become of a plugin; `kind` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// It took its seat, and nobody sat there.
    Started {
        /// The times it took.
        swap: SwapView,
    },
    /// It took over from another version.
    Swapped {
        /// The times it took.
        swap: SwapView,
        /// What its shadow run has found; not there if it had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow: Option<Report>,
    },
    /// A new instance of the same version took over: after a trap, or because the operator wanted
    /// it.
    Restarted {
        /// The times it took.
        swap: SwapView,
    },
    /// It is not run; what ran before goes on.
    Refused {
        /// What is wrong.
        reason: String,
        /// What would be right.
        remedy: String,
        /// How often the same version was refused in a row. Of a long row not each has a receipt:
        /// the first five do, and then those whose count is a power of two.
        count: u64,
        /// What its shadow run has found; not there if it had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow: Option<Report>,
        /// The user whose deploy was refused; not there for a file of the folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// It trapped: its outputs are safe until it is restarted.
    Trapped {
        /// How.
        trap: Trap,
        /// How often the same version trapped in a row, its restarts apart. Of a long row not each
        /// has a receipt, nor has the restart after it: see [`Event::Refused`].
        count: u64,
    },
    /// A trap of this version can be looked into: `camshaft replay FILE` runs it again.
    Reported {
        /// Where the crash report lies.
        file: String,
    },
    /// The version before runs again, with its state, because its successor trapped on probation:
    /// here the hash is that of the version that runs again, and the old one that of its successor.
    Rollback,
    /// This version is not run again until new bytes or a release.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// A version that is kept runs in place of the file's, which is no good: here the hash is that
    /// of the version that runs, and the old one that of the file.
    StandsIn,
    /// It is wanted out of the scan.
    Held {
        /// Who wants it so.
        by: By,
        /// The user, if it was an operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// It may run again; hold, quarantine and refusal are forgotten.
    Released {
        /// Who wants it so.
        by: By,
        /// The user, if it was an operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
    },
    /// Its file is gone.
    Removed,
    /// It is out of the scan: held, removed or quarantined. Its outputs are safe.
    Stopped,
    /// An operator's order was carried out; of a plugin, or of none.
    Ordered(Ordered),
}

/// Who wants a plugin held or released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Whoever asked for it on the control socket.
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
        // As it was written before there were users.
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
    }
}
