//! Makes a new connection when the other side has ended the old one.
//!
//! Many devices and gateways close a connection though nothing is wrong: after each reply, after
//! some time without a request, at a request that they do not know, or because the unit behind the
//! gateway does not answer. Such an end is no alarm, and the other units must not notice it:
//!
//! ```text
//!   end noticed while idle -----------------------> reopen shortly before the next job is due
//!   end noticed at a request, after other replies -> reopen, and send the request again
//!   end noticed at a request, before any reply ----> a missing reply of this request
//! ```
//! A device that has restarted closes its connections too, and it may have lost its outputs.
//! Therefore the driver writes all outputs again if the next connection is not accepted at once,
//! and after the end of a connection that has lived for [`STEADY`]. The exception is an end at a
//! request that the unit has not answered before, because this request is then the cause. If no new
//! connection can be made, or if all units are offline and none of them answers on a new
//! connection, the connection is lost: `serve.rs` reports this and connects again with growing
//! pauses.

use std::time::Duration;

use tokio::time::sleep;

use super::bus::{BACKOFF, Client};
use super::session::{ExchangeResult, Over, Session};
use super::silence::Silence;
use crate::driver::link::Side;
use crate::driver::modbus::wire::request::UnitRequest;

/// The driver makes a new connection this long before the next job is due. In most networks, this
/// time is enough for a new connection, and the other side does not have to keep an unused
/// connection for long.
const LEAD: Duration = Duration::from_millis(100);

/// The lifetime of a connection from which on its end may be the restart of a device. A device or a
/// gateway that closes its connections by habit closes most of them sooner, and must not get all
/// outputs again each time. If a device restarts within this time after the connection was made,
/// the driver notices the restart only if the device does not accept the next connection at once.
const STEADY: Duration = Duration::from_secs(10);

/// The longest time until the status shows that a connection was replaced.
const SHOWN: Duration = Duration::from_millis(100);

impl Client {
    /// Makes a new connection if the connection has ended.
    ///
    /// # Errors
    /// When no connection can be made, with the reason of the last attempt. When all units are
    /// offline and none of them has answered on the last connections, with the reason why the old
    /// connection has ended.
    async fn reopen(&mut self, session: &mut Session<'_>) -> Result<(), Over> {
        let transport = &mut session.transport;
        let Some(why) = transport.ended().map(str::to_owned) else { return Ok(()) };
        self.ends.count(transport.has_answered());
        let are_offline = self.units.iter().all(|unit| unit.breaker.is_offline());
        if are_offline && self.ends.fruitless() > self.units.len() {
            return Err(Over(why));
        }
        if let Some(pause) = self.ends.pause_before_connection() {
            sleep(pause).await;
        }
        if transport.reopen().await.is_err() {
            // Some devices accept the next connection only a moment after the end of the last one.
            self.may_have_restarted = true;
            sleep(BACKOFF.0).await;
            transport.reopen().await.map_err(|error| Over(error.to_string()))?;
        }
        self.connections += 1;
        self.silence = Silence::default();
        self.show_at = self.show_at.min(self.now() + SHOWN);
        if self.ends.must_be_logged() {
            let (name, target) = (&self.name, &self.line.target);
            tracing::info!(
                device = name,
                "device {name}: a connection to {target} has ended: {why}; the driver connects \
                 again when it needs the connection, and does not log the next ends"
            );
        }
        Ok(())
    }

    /// Waits until `at`, when the next job is due, or until an output changes. If the connection
    /// has ended, makes a new connection shortly before `at`.
    pub(super) async fn idle(
        &mut self,
        at: Duration,
        session: &mut Session<'_>,
    ) -> Result<(), Over> {
        let was_open = session.transport.ended().is_none();
        let lead = if was_open { Duration::ZERO } else { LEAD + self.line.connect_delay };
        let (now, at) = (self.now(), at.saturating_sub(lead));
        if !was_open && at <= now {
            return self.reopen(session).await;
        }
        let idle = at.min(self.show_at).saturating_sub(now);
        tokio::select! {
            () = session.side.changed() => {}
            () = session.transport.idle(idle) => {}
        }
        if was_open && session.transport.ended().is_some() {
            self.noticed_end(session);
        }
        Ok(())
    }

    /// Sends a request to a unit. If the connection ends before the reply, but other replies have
    /// come on it, the other side may have closed it before the request: the request is sent again
    /// on a new connection. If this connection ends too, the request is the cause.
    pub(super) async fn transact(
        &mut self,
        unit: usize,
        request: &UnitRequest,
        session: &mut Session<'_>,
    ) -> Result<ExchangeResult, Over> {
        self.reopen(session).await?;
        let had_answered = session.transport.has_answered();
        let mut outcome = session.transact(request).await;
        if outcome.is_closed() {
            let is_cause = !self.units[unit].answered.contains(&request.kind());
            self.may_have_restarted |= !is_cause && session.transport.lifetime() >= STEADY;
            if had_answered {
                self.reopen(session).await?;
                outcome = session.transact(request).await;
            }
        }
        if self.may_have_restarted && !outcome.is_closed() {
            self.doubt_all(session.side);
        }
        Ok(outcome)
    }

    /// Records that the connection has ended while no request was under way. If the device may have
    /// restarted, its outputs become unconfirmed and due at once.
    fn noticed_end(&mut self, session: &mut Session<'_>) {
        self.ends.noticed_idle(session.transport.ended_after_replies());
        if session.transport.lifetime() >= STEADY {
            self.doubt_all(session.side);
        }
    }

    /// Makes all outputs unconfirmed, so that the driver writes them again.
    fn doubt_all(&mut self, side: &mut Side) {
        self.may_have_restarted = false;
        for write in &mut self.writes {
            write.acked = None;
            side.doubt(write.id);
        }
        side.publish();
    }
}
