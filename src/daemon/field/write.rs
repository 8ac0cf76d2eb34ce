//! The values that devices write into variables, such as commands of an MQTT client.
//!
//! A device puts its values into a bounded queue, and the daemon empties the queue at each tick.
//! The daemon sends all values of a tick in one order to the scan. If a tick has several values for
//! one variable, only the newest value is written. An order like this has no entry in the history,
//! because the sender may repeat it many times a second.
//!
//! The device checks that the variable exists and that the value fits its type. Therefore the scan
//! refuses a value only if the variable has changed after this check.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use crate::control::Reply;
use crate::daemon::link::ScanLink;
use crate::driver::export::VariableWrite;
use crate::logged::OnChange;
use crate::process::image::Value;

/// The queue of values, and the orders whose answers are outstanding.
#[derive(Debug)]
pub(in crate::daemon) struct VariableWrites {
    /// The receiver of the queue. The devices write into the queue.
    writes: mpsc::Receiver<VariableWrite>,
    /// The receivers of the outstanding answers. The scan answers an order within a few cycles, so
    /// there are at most as many answers as orders that the queue to the scan can hold.
    answers: Vec<oneshot::Receiver<Reply>>,
    /// The last logged reason why values were not written. `None` after a success.
    trouble: OnChange<Option<String>>,
}

impl VariableWrites {
    /// Makes the record for this queue.
    pub(in crate::daemon) fn new(writes: mpsc::Receiver<VariableWrite>) -> Self {
        Self { writes, answers: Vec::new(), trouble: OnChange::default() }
    }

    /// Sends to the scan the values that have arrived since the last call of this function. Logs a
    /// refused order, unless the order before it was refused for the same reason.
    pub(in crate::daemon) fn pursue(&mut self, link: &mut ScanLink) {
        let mut newest = BTreeMap::<String, Value>::new();
        while let Ok(VariableWrite { name, value }) = self.writes.try_recv() {
            newest.insert(name, value);
        }
        if !newest.is_empty() {
            let (reply, answer) = oneshot::channel();
            link.set_variables(newest, reply);
            self.answers.push(answer);
        }
        let trouble = &mut self.trouble;
        self.answers.retain_mut(|answer| match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => true,
            Ok(Err(failure)) => {
                let why = failure.message;
                if trouble.changes_to(Some(why.clone())) {
                    tracing::warn!("values of devices are not written into variables: {why}");
                }
                false
            }
            Ok(Ok(_)) | Err(oneshot::error::TryRecvError::Closed) => {
                trouble.changes_to(None);
                false
            }
        });
    }
}
