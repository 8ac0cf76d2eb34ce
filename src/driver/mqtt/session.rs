//! The sessions with a broker: one connection after another, each with its own beginning.
//!
//! ```text
//!             +--------------------- rest: 0.5 s, doubling to 30 s <-------------+
//!             v                                                                  |
//!   connect: TCP, TLS, CONNECT --> subscribe --> speak and hear --> lost, silent, thrown out
//!             |                        |                                         ^
//!             +------------------------+-----------------------------------------+
//! ```
//! Nothing of a connection outlives it, neither here nor at the broker: no session, no queue, no
//! packet that waits for its acknowledgement. On the next connection all values are sent anew, as
//! they are then. So an outage costs no memory, and no command can have waited for this client. A
//! [`Dialect`] decides what is sent and what a message means: `plain.rs` and `sparkplug.rs`.
//! `pulse.rs` decides how long a broker may be silent.
//!
//! The library's `poll` loses packets if it is dropped while it writes. Therefore it is never
//! dropped: the loop waits for the same future until it is done, whatever else happens meanwhile.

use std::borrow::Cow;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnAck, Event, EventLoop, LastWill, Packet, Publish, SubAck};
use rumqttc::{Outgoing, SubscribeFilterInput, SubscribeReasonCode};
use tokio::select;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::Mqtt;
use super::command::Commands;
use super::credential::Credentials;
use super::line::{Line, QUEUE};
use super::loss::Loss;
use super::pulse::{Due, Pulse};
use crate::driver::export::{Export, Exports};
use crate::driver::link::{Serve, Side};
use crate::driver::{Fault, OpenError, Part, no_answer};
use crate::patience::{self, PATIENCE};

/// The first rest between two connections, and the longest.
const REST: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// How long a connection must last so that the rest begins at the first again. It is longer than
/// the longest rest. Otherwise two clients of one name would disconnect each other for ever.
const STEADY: Duration = Duration::from_secs(60);

/// How long commands are collected before they are published to the scan. Of many commands the scan
/// needs only the newest.
const SETTLE: Duration = Duration::from_millis(1);

/// The time between two updates of the status.
const SHOW: Duration = Duration::from_millis(250);

/// The number of subscriptions in one packet. It keeps the packet below the limits of brokers on
/// small machines.
const FILTERS: usize = 32;

/// A filter to which the client never subscribes. To unsubscribe from it is a request that the
/// broker must answer; the library offers no ping. It is a pattern and the client's own filters are
/// names, so it is none of them.
const NEVER_HEARD: &str = "camshaft/never/+";

/// The form of values and commands on the wire.
pub(super) trait Dialect: Send + std::fmt::Debug {
    /// The message that the broker publishes when the connection that begins now is lost.
    fn will(&mut self) -> Option<LastWill>;

    /// Notes that the broker may know the last connection, so the next one is a new one.
    fn next_session(&mut self) {}

    /// Forgets everything that was sent, because the connection is gone.
    fn forget(&mut self);

    /// The filters to subscribe to before anything is sent.
    fn filters(&self) -> Vec<SubscribeFilterInput>;

    /// Notes that the broker has granted filter number `filter`.
    fn granted(&mut self, filter: usize, commands: &mut Commands, side: &mut Side);

    /// Notes that the broker has refused filter number `filter`, and why.
    fn denied(&mut self, filter: usize, why: &str, commands: &mut Commands, side: &mut Side);

    /// Takes a message.
    fn hear(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard;

    /// Sends what is due, as far as there is room. Returns when to look again, apart from changes,
    /// which the loop notices itself.
    fn speak(&mut self, line: &mut Line, export: &Export, now: Instant) -> Option<Instant>;

    /// The host for which the dialect waits before it sends anything.
    fn waits_for(&self) -> Option<String> {
        None
    }

    /// The number of values whose newest state was not sent, because there is no connection or no
    /// room. Names without a point or variable do not count.
    fn unsaid(&self) -> usize;

    /// The status parts about mistakes.
    fn parts(&self) -> Vec<Part>;
}

/// The consequence of a message.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// Nothing follows.
    Done,
    /// There is something to send.
    Answer,
    /// The connection must be given up, for this reason.
    Leave(&'static str),
}

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// There was no connection yet.
    #[default]
    Connecting,
    /// The broker has accepted the connection and has answered this many filters.
    Subscribing(usize),
    /// All filters are answered.
    Connected,
    /// The connection is lost, or another attempt has failed. The reason is in [`Mqtt::trouble`].
    Lost,
}

impl Serve for Mqtt {
    async fn serve(&mut self, side: &mut Side) {
        let [mut rest, longest] = REST;
        // The last run may have been interrupted in the middle.
        self.dialect.forget();
        self.dialect.next_session();
        self.state = State::Connecting;
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
            // The rest varies, so that not all clients come at once after an outage of the broker.
            sleep(rest.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            rest = (2 * rest).min(longest);
        }
    }
}

impl Mqtt {
    /// Runs one connection, from its first packet to its end.
    async fn connection(&mut self, side: &mut Side) -> Loss {
        let credentials = match self.credentials().await {
            Ok(credentials) => credentials,
            Err(error) => return Loss::new(error.to_string(), false),
        };
        let options = self.broker.options(credentials, self.dialect.will());
        self.pulse = None;
        let (client, events) = AsyncClient::builder(options).capacity(QUEUE).build();
        let mut step = pin!(step(Box::new(events)));
        let mut shows = interval(SHOW);
        shows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut look, mut tell): (Option<Instant>, Option<Instant>) = (None, None);
        let at = |instant: Option<Instant>| sleep_until(instant.unwrap_or_else(Instant::now));
        loop {
            let alarm = self.pulse.map(|pulse| pulse.next());
            select! {
                (events, event) = &mut step => {
                    step.set(self::step(events));
                    match self.happen(event, &client, side) {
                        Ok(true) => look = Some(Instant::now()),
                        Ok(false) => {}
                        Err(loss) => return loss,
                    }
                    tell = tell.or_else(|| Some(Instant::now() + SETTLE));
                }
                () = at(alarm), if alarm.is_some() => {
                    if let Err(loss) = self.examine(&client) {
                        return loss;
                    }
                }
                () = changed(&mut self.exports) => look = Some(Instant::now()),
                () = at(look), if look.is_some() => look = self.look(&client),
                () = at(tell), if tell.is_some() => {
                    tell = None;
                    self.commands.told();
                    side.publish();
                }
                _ = shows.tick() => self.show(side),
            }
        }
    }

    /// Reads the broker's files on a thread that may wait for them. If the read takes too long, the
    /// next connection waits for the same read.
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

    /// Asks a silent broker for an answer, or gives it up.
    fn examine(&mut self, client: &AsyncClient) -> Result<(), Loss> {
        let Some(pulse) = &mut self.pulse else { return Ok(()) };
        match pulse.due(Instant::now()) {
            Due::Nothing => {}
            Due::Ask => {
                // If there is no room, other packets wait as well, and the broker is given up in
                // time.
                let _ = client.try_unsubscribe(NEVER_HEARD);
                pulse.asked();
            }
            Due::Lost(why) => return Err(Loss::new(why, true)),
        }
        Ok(())
    }

    /// Sends what is due.
    fn look(&mut self, client: &AsyncClient) -> Option<Instant> {
        if self.state != State::Connected {
            return None;
        }
        let export = Arc::clone(&self.exports.borrow_and_update());
        let mut line = Line { client, ledger: &mut self.ledger };
        self.dialect.speak(&mut line, &export, Instant::now())
    }

    /// Takes an event of the library. Returns whether there may be something to send.
    fn happen(
        &mut self,
        event: Result<Event, Loss>,
        client: &AsyncClient,
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

    /// Begins a connection that the broker has accepted.
    fn begin(
        &mut self,
        welcome: &ConnAck,
        client: &AsyncClient,
        side: &mut Side,
    ) -> Result<bool, Loss> {
        // The broker's value counts (MQTT 5, 3.2.2.3.14); 0 means that it does not limit the
        // client's silence.
        let theirs = welcome.properties.as_ref().and_then(|given| given.server_keep_alive);
        let theirs = theirs.filter(|seconds| *seconds > 0).map(u64::from).map(Duration::from_secs);
        self.pulse = Some(Pulse::new(theirs.unwrap_or(self.broker.keep_alive), Instant::now()));
        self.connections += 1;
        self.ledger.begin(welcome);
        self.commands.begin();
        self.state = State::Subscribing(0);
        self.subscribe(client, side)
    }

    /// Subscribes to the next filters. When all are answered, sending begins: other clients must
    /// not see this one before it can receive.
    fn subscribe(&mut self, client: &AsyncClient, side: &mut Side) -> Result<bool, Loss> {
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
        let asked = client.try_subscribe_many(filters);
        asked.map(|()| false).map_err(|error| Loss::new(error.to_string(), true))
    }

    /// Notes the broker's answers to the last filters.
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

    /// Handles the loss of a connection. Commands stay valid until their end.
    fn on_loss(&mut self, why: Cow<'static, str>, side: &mut Side) {
        // If each attempt fails for the same reason, one log line is enough.
        let why = why.into_owned();
        if self.trouble.changes_to(Some(why.clone())) {
            let (device, broker) = (&self.name, &self.broker);
            tracing::warn!(device, "device {device}: no connection to {broker}: {why}");
        }
        self.state = State::Lost;
        self.dialect.forget();
        self.commands.told();
        side.fault(Some(Fault::Disconnected));
        side.publish();
        self.show(side);
    }

    /// Updates the status.
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

/// Waits for the next export; for ever, if there will be none.
async fn changed(exports: &mut Exports) {
    if exports.changed().await.is_err() {
        std::future::pending().await
    }
}

/// The next event, and the event loop that it came from.
async fn step(mut events: Box<EventLoop>) -> (Box<EventLoop>, Result<Event, Loss>) {
    let event = events.poll().await.map_err(Loss::from);
    (events, event)
}

/// How much longer the sender wants the message to be valid.
pub(super) fn left(said: &Publish) -> Option<Duration> {
    let left = said.properties.as_ref()?.message_expiry_interval?;
    Some(Duration::from_secs(left.into()))
}
