//! The loop of the device's thread: it makes one connection to the broker after another.
//!
//! ```text
//!             +--------------------- rest: 0.5 s, doubling to 30 s <-------------+
//!             v                                                                  |
//!   connect: TCP, TLS, CONNECT --> subscribe --> speak and hear --> lost, silent, thrown out
//!             |                        |                                         ^
//!             +------------------------+-----------------------------------------+
//! ```
//! No state survives the end of a connection, in this client or in the broker: no MQTT session, no
//! queue, no unacknowledged packet. After a reconnect, the current values are sent. So an outage
//! uses no memory, and no command can wait at the broker for this client. A [`Dialect`] (`plain.rs`
//! or `sparkplug.rs`) decides what is sent and how a message is read. `pulse.rs` limits the
//! broker's silence.
//!
//! The library's `poll` loses packets if its future is dropped during a write. So the loop never
//! drops that future. The loop reacts to other events and then awaits the same future again.

use std::borrow::Cow;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{ConnAck, Event, LastWill, Outgoing, Packet, Publish, SubAck};
use rumqttc::{SubscribeFilter, SubscribeReasonCode};
use tokio::select;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::Mqtt;
use super::client::{Client, step};
use super::command::Commands;
use super::credential::Credentials;
use super::line::Line;
use super::loss::Loss;
use super::pulse::{Due, Pulse};
use crate::driver::export::{Export, Exports};
use crate::driver::link::{Serve, Side};
use crate::driver::{Fault, OpenError, Part, no_answer};
use crate::patience::{self, PATIENCE};

/// The first and the longest pause between two connections. The pause doubles after each loss.
const REST: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// If a connection lasts this time, the next pause is the first of [`REST`] again. This time must
/// exceed the longest pause. Otherwise two clients with the same `client_id` would disconnect each
/// other for ever.
const STEADY: Duration = Duration::from_secs(60);

/// The time for which commands are collected before they are published to the scan. The scan needs
/// only the newest value of each point.
const SETTLE: Duration = Duration::from_millis(1);

/// The period of the status updates. Some events cause further updates.
const SHOW: Duration = Duration::from_millis(250);

/// The maximum number of subscriptions in one packet. Brokers on small machines accept only small
/// packets.
const FILTERS: usize = 32;

/// A topic filter for the check of a silent broker. The client asks the broker to unsubscribe this
/// filter, because a broker must answer such a request. The library offers no ping. The client
/// never subscribes to this filter: it is a pattern, and all other filters of the client are names.
const NEVER_HEARD: &str = "camshaft/never/+";

/// The message format: which messages carry values and commands, and how they are encoded.
pub(super) trait Dialect: Send + std::fmt::Debug {
    /// Returns the will: the broker publishes this message if the next connection is lost.
    fn will(&mut self) -> Option<LastWill>;

    /// In Sparkplug, gives the next connection a new bdSeq number, because the broker may have got
    /// the number of the last connection.
    fn next_session(&mut self) {}

    /// Deletes the record of the sent values, because the connection has ended.
    fn forget(&mut self);

    /// Returns the filters that the client subscribes to before it sends any value.
    fn filters(&self) -> Vec<SubscribeFilter>;

    /// Records that the broker has granted filter number `filter`.
    fn granted(&mut self, filter: usize, commands: &mut Commands, side: &mut Side);

    /// Records that the broker has refused filter number `filter`, and the reason `why`.
    fn denied(&mut self, filter: usize, why: &str, commands: &mut Commands, side: &mut Side);

    /// Reads a received message and carries out its commands. Returns the next action.
    fn hear(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard;

    /// Sends the values that are due, until the queue is full. Returns the time of the next call,
    /// if one is planned. The loop also calls `speak` at each export and each `Heard::Answer`.
    fn speak(&mut self, line: &mut Line, export: &Export, now: Instant) -> Option<Instant>;

    /// Returns the primary host if it is not online: nothing is sent then. Otherwise `None`.
    fn waits_for(&self) -> Option<String> {
        None
    }

    /// Returns the greater of two numbers: values not sent on this connection, and values that wait
    /// for room in the queue. Names without a point or variable do not count.
    fn unsaid(&self) -> usize;

    /// Returns the parts of the status that report mistakes, such as an unknown name.
    fn parts(&self) -> Vec<Part>;
}

/// The action of the loop after a message.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// No action is needed.
    Done,
    /// The loop calls `speak`, because there may be a message to send.
    Answer,
    /// The loop ends the connection, for this reason.
    Leave(&'static str),
}

/// The state of the connection to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Since the last start of `serve`, no connection was accepted and no attempt has failed.
    #[default]
    Connecting,
    /// The broker has accepted the connection and has answered this number of filters.
    Subscribing(usize),
    /// The broker has answered all filters.
    Connected,
    /// The connection is lost, or no connection could be made. [`Mqtt::trouble`] has the reason.
    Lost,
}

impl Serve for Mqtt {
    async fn serve(&mut self, side: &mut Side) {
        let [mut rest, longest] = REST;
        // The last call of `serve` may have ended in the middle of a connection.
        self.dialect.forget();
        self.dialect.next_session();
        self.state = State::Connecting;
        self.turn.wait(&self.broker.identity()).await;
        loop {
            let began = Instant::now();
            let loss = self.connection(side).await;
            if loss.was_tried {
                self.dialect.next_session();
            }
            if began.elapsed() >= STEADY {
                [rest, _] = REST;
            }
            if loss.was_replaced {
                rest = longest;
            }
            self.on_loss(loss.why, side);
            // The random part spreads the reconnects of many clients after an outage of the broker.
            sleep(rest.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            rest = (2 * rest).min(longest);
        }
    }
}

impl Mqtt {
    /// Makes one connection and works on it until it ends. Returns why it failed or ended.
    async fn connection(&mut self, side: &mut Side) -> Loss {
        let credentials = match self.credentials().await {
            Ok(credentials) => credentials,
            Err(error) => return Loss::new(error.to_string(), false),
        };
        self.pulse = None;
        let (client, events) = self.broker.client(credentials, self.dialect.will());
        let mut polled = pin!(step(events));
        let mut shows = interval(SHOW);
        shows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut publish, mut report_at): (Option<Instant>, Option<Instant>) = (None, None);
        let at = |instant: Option<Instant>| sleep_until(instant.unwrap_or_else(Instant::now));
        loop {
            let alarm = self.pulse.map(|pulse| pulse.next());
            select! {
                (events, event) = &mut polled => {
                    polled.set(step(events));
                    match self.happen(event, &client, side) {
                        Ok(true) => publish = Some(Instant::now()),
                        Ok(false) => {}
                        // `pulse` is `None` before the broker has accepted the connection.
                        Err(loss) if self.pulse.is_none() => {
                            return loss.before_welcome(self.broker.version);
                        }
                        Err(loss) => return loss,
                    }
                    report_at = report_at.or_else(|| Some(Instant::now() + SETTLE));
                }
                () = at(alarm), if alarm.is_some() => {
                    if let Err(loss) = self.examine(&client) {
                        return loss;
                    }
                }
                () = changed(&mut self.exports) => publish = Some(Instant::now()),
                () = at(publish), if publish.is_some() => publish = self.publish(&client),
                () = at(report_at), if report_at.is_some() => {
                    report_at = None;
                    self.commands.were_published();
                    side.publish();
                }
                _ = shows.tick() => self.show(side),
            }
        }
    }

    /// Reads the credential files on a thread that may wait for the disk. If the read takes longer
    /// than `PATIENCE`, returns an error; the next call then waits for the same read.
    async fn credentials(&mut self) -> Result<Credentials, OpenError> {
        let files = &self.broker.files;
        let reading = self.reading.get_or_insert_with(|| {
            let files = files.clone();
            spawn_blocking(move || files.read())
        });
        let read = timeout(PATIENCE, reading).await;
        let read = read.map_err(|_| no_answer(&self.files, &patience::no_answer(PATIENCE)))?;
        self.reading = None;
        read.unwrap_or_else(|panic| Err(no_answer(&self.files, &io::Error::other(panic))))
    }

    /// Asks a silent broker for an answer if this is due. Returns a [`Loss`] if the broker has not
    /// answered in time.
    fn examine(&mut self, client: &Client) -> Result<(), Loss> {
        let Some(pulse) = &mut self.pulse else { return Ok(()) };
        match pulse.due(Instant::now()) {
            Due::Nothing => {}
            Due::Ask => {
                // If the queue is full, this request is dropped. The packets in the queue wait for
                // the broker too, and `pulse` ends the connection in time.
                client.try_unsubscribe(NEVER_HEARD);
                pulse.asked();
            }
            Due::Lost(why) => return Err(Loss::new(why, true)),
        }
        Ok(())
    }

    /// Sends the values that are due. Returns the time of the next call, if one is planned.
    fn publish(&mut self, client: &Client) -> Option<Instant> {
        if self.state != State::Connected {
            return None;
        }
        let export = Arc::clone(&self.exports.borrow_and_update());
        let mut line = Line { client, ledger: &mut self.ledger };
        self.dialect.speak(&mut line, &export, Instant::now())
    }

    /// Records an event of the library. Returns whether there may be a message to send.
    fn happen(
        &mut self,
        event: Result<Event, Loss>,
        client: &Client,
        side: &mut Side,
    ) -> Result<bool, Loss> {
        let event = event?;
        if let (Event::Incoming(_), Some(pulse)) = (&event, &mut self.pulse) {
            pulse.heard(Instant::now());
        }
        match event {
            Event::Incoming(Packet::ConnAck(welcome)) => self.begin(&welcome, client, side),
            Event::Incoming(Packet::SubAck(answer)) => {
                self.answered(&answer, side);
                self.subscribe(client, side)
            }
            Event::Incoming(Packet::PubAck(answer)) => {
                self.ledger.acknowledged(&answer);
                Ok(false)
            }
            Event::Incoming(Packet::Publish(said)) => {
                self.received += 1;
                match self.dialect.hear(&said, &mut self.commands, side) {
                    Heard::Done => Ok(false),
                    Heard::Answer => Ok(true),
                    Heard::Leave(why) => Err(Loss::new(why, true)),
                }
            }
            Event::Outgoing(sent) => {
                self.ledger.sent(&sent);
                if let (Outgoing::PingReq, Some(pulse)) = (sent, &mut self.pulse) {
                    pulse.asked();
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Starts the subscriptions on a connection that the broker has accepted.
    fn begin(&mut self, welcome: &ConnAck, client: &Client, side: &mut Side) -> Result<bool, Loss> {
        // The keep-alive time of the broker replaces the configured time (MQTT 5, 3.2.2.3.14). The
        // value 0 from the broker means no limit, so the configured time is used.
        let theirs = welcome.properties.as_ref().and_then(|given| given.server_keep_alive);
        let theirs = theirs.filter(|seconds| *seconds > 0).map(u64::from).map(Duration::from_secs);
        self.pulse = Some(Pulse::new(theirs.unwrap_or(self.broker.keep_alive), Instant::now()));
        self.connections += 1;
        self.ledger.begin(welcome);
        self.commands.begin();
        self.state = State::Subscribing(0);
        self.subscribe(client, side)
    }

    /// Subscribes to the next filters. Values are sent only after the broker has answered all
    /// filters, because other clients may send commands as soon as they see a value.
    fn subscribe(&mut self, client: &Client, side: &mut Side) -> Result<bool, Loss> {
        let State::Subscribing(answered) = self.state else { return Ok(false) };
        let filters: Vec<_> =
            self.dialect.filters().into_iter().skip(answered).take(FILTERS).collect();
        let answer_by = Instant::now() + self.broker.connect_timeout;
        if let Some(pulse) = &mut self.pulse {
            pulse.expect((!filters.is_empty()).then_some(answer_by));
        }
        if filters.is_empty() {
            self.state = State::Connected;
            let (device, broker) = (&self.name, &self.broker);
            tracing::info!(device, "device {device}: connected to {broker}");
            self.trouble.changes_to(None);
            side.fault(None);
            self.show(side);
            return Ok(true);
        }
        client.try_subscribe(filters).map(|()| false)
    }

    /// Tells the dialect how the broker has answered the last filters.
    fn answered(&mut self, answer: &SubAck, side: &mut Side) {
        let State::Subscribing(answered) = &mut self.state else { return };
        for (filter, code) in (*answered..).zip(&answer.return_codes) {
            let (dialect, commands) = (&mut self.dialect, &mut self.commands);
            match code {
                SubscribeReasonCode::Success(_) => dialect.granted(filter, commands, side),
                why => dialect.denied(filter, &format!("{why:?}"), commands, side),
            }
        }
        *answered += answer.return_codes.len();
    }

    /// Logs and records that a connection is lost. Each command stays valid until it expires.
    fn on_loss(&mut self, why: Cow<'static, str>, side: &mut Side) {
        // If every attempt fails for the same reason, one log line is enough.
        let why = why.into_owned();
        if self.trouble.changes_to(Some(why.clone())) {
            let (device, broker) = (&self.name, &self.broker);
            tracing::warn!(device, "device {device}: no connection to {broker}: {why}");
        }
        self.state = State::Lost;
        self.dialect.forget();
        self.commands.were_published();
        side.fault(Some(Fault::Disconnected));
        side.publish();
        self.show(side);
    }

    /// Updates the status of this device.
    fn show(&self, side: &Side) {
        let Commands { refused, superseded, .. } = self.commands;
        let waits_for = self.dialect.waits_for();
        let ok = self.state == State::Connected && waits_for.is_none();
        let state = match (self.state, waits_for) {
            (State::Connecting, _) => "connecting".to_owned(),
            (State::Subscribing(_), _) => "subscribing".to_owned(),
            (State::Connected, Some(whom)) => format!("waiting for {whom}"),
            (State::Connected, None) => "connected".to_owned(),
            (State::Lost, _) => self.trouble.last().clone().unwrap_or_default(),
        };
        let facts = [
            ("published", self.ledger.published),
            ("denied", self.ledger.denied),
            ("received", self.received),
            ("refused", refused),
            ("superseded", superseded),
            ("queue", self.dialect.unsaid() as u64),
            ("reconnects", self.connections.saturating_sub(1)),
        ];
        let facts = facts.map(|(name, count)| (name.to_owned(), count as f64)).into();
        let session = Part { name: "broker".into(), ok, state, facts };
        let parts = std::iter::once(session).chain(self.commands.parts());
        side.show(parts.chain(self.dialect.parts()).collect());
    }
}

/// Waits for the next export. Waits for ever if the daemon exports no more values.
async fn changed(exports: &mut Exports) {
    if exports.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Returns the remaining part of the message expiry interval, if the sender has set an interval.
pub(super) fn left(said: &Publish) -> Option<Duration> {
    let left = said.properties.as_ref()?.message_expiry_interval?;
    Some(Duration::from_secs(left.into()))
}
