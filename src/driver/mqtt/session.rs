//! One connection after another, each with a beginning of its own.
//!
//! ```text
//!             +--------------------- rest: 0.5 s, doubling to 30 s <-------------+
//!             v                                                                  |
//!   connect: TCP, TLS, CONNECT --> subscribe --> speak and hear --> lost, stuck, thrown out
//!             |                        |                                         ^
//!             +------------------------+-----------------------------------------+
//! ```
//! Nothing of a connection outlives it, neither here nor at the broker: no session, no queue, no
//! packet that waits for its acknowledgement. What others shall see is said anew on the next one,
//! as it is then. So an outage costs no memory, and a command cannot have waited for us. What is
//! said and how it is understood is a [`Dialect`]'s affair: `plain.rs` and `sparkplug.rs`.
//!
//! The library's `poll` loses packets if it is dropped while it writes, so it is never dropped: the
//! same future is waited for until it is done, whatever else happens meanwhile.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, LastWill, Packet, Publish, PublishOptions, SubAck};
use rumqttc::{SubscribeFilterInput, SubscribeReasonCode};
use tokio::select;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::command::Commands;
use super::loss::Loss;
use super::{Mqtt, qos};
use crate::driver::export::{Export, Exports};
use crate::driver::link::{Serve, Side};
use crate::driver::{Fault, Part};

/// Messages that wait for the library to take them, which it does as fast as the broker. As many as
/// make some thousand a second with the pause of [`FULL`]; not more, because whatever waits here is
/// older than what could be said now.
const QUEUE: usize = 128;

/// How soon a full queue is tried again.
pub(super) const FULL: Duration = Duration::from_millis(20);

/// The first rest between two connections, and the longest.
const REST: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// A connection that has held so long was a good one: the next loss begins with the first rest. It
/// is longer than the longest rest, or two clients of one name would never leave one another alone.
const STEADY: Duration = Duration::from_secs(60);

/// Commands are collected for so long before the scan is told: of a flood it needs the newest only.
const SETTLE: Duration = Duration::from_millis(1);

/// How often the status is refreshed.
const SHOW: Duration = Duration::from_millis(250);

/// Subscriptions in one packet, which keeps it below the limits of brokers on small machines.
const FILTERS: usize = 32;

/// How values and commands are put on the wire.
pub(super) trait Dialect: Send + std::fmt::Debug {
    /// What the broker is to say when the connection that begins now is lost.
    fn will(&self) -> Option<LastWill>;

    /// The broker may have heard of that connection.
    fn was_tried(&mut self) {}

    /// It is gone: whatever was said, nobody knows it any more.
    fn forget(&mut self);

    /// What to listen to, before anything is said.
    fn filters(&self) -> Vec<SubscribeFilterInput>;

    /// The broker has refused one of the filters.
    fn denied(&mut self, filter: usize, why: &str, commands: &mut Commands, side: &mut Side);

    /// Somebody has said something.
    fn hear(&mut self, said: &Publish, commands: &mut Commands, side: &mut Side) -> Heard;

    /// Says what is due, as far as there is room. Gives the next instant to look; a change is
    /// noticed without.
    fn speak(&mut self, line: &mut Line, export: &Export, now: Instant) -> Option<Instant>;

    /// Values whose newest state nobody has heard, as far as is known.
    fn unsaid(&self) -> usize;

    /// What the status shows of mistakes.
    fn parts(&self) -> Vec<Part>;
}

/// What follows from a message.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// Nothing more.
    Done,
    /// There is something to say.
    Answer,
    /// The connection is to be given up.
    Leave(&'static str),
}

/// A message to be said.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
}

/// The way to the broker.
pub(super) struct Line<'a> {
    client: &'a AsyncClient,
    published: &'a mut u64,
}

/// What has been counted since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    published: u64,
    received: u64,
    connections: u64,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Connecting,
    /// So many filters have been answered.
    Subscribing(usize),
    Connected,
    /// And not yet again; why is in [`Mqtt::trouble`].
    Lost,
}

impl Serve for Mqtt {
    async fn serve(&mut self, side: &mut Side) {
        let [mut rest, longest] = REST;
        // It may have been interrupted in the middle.
        self.dialect.forget();
        self.state = State::Connecting;
        loop {
            let began = Instant::now();
            let loss = self.connection(side).await;
            if loss.was_tried {
                self.dialect.was_tried();
            }
            if began.elapsed() >= STEADY {
                [rest, _] = REST;
            }
            if loss.was_replaced {
                rest = longest;
            }
            self.lose(loss.why, side);
            // Some come sooner and some later: not all at once after the broker was away.
            sleep(rest.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            rest = (2 * rest).min(longest);
        }
    }
}

impl Mqtt {
    /// One connection, from its first packet to its end.
    async fn connection(&mut self, side: &mut Side) -> Loss {
        let options = match self.broker.options(self.dialect.will()) {
            Ok(options) => options,
            Err(error) => return Loss::new(error.to_string(), false),
        };
        // Within this something is heard or said, if only a ping.
        let patience = self.broker.keep_alive + self.broker.connect_timeout;
        let (client, events) = AsyncClient::builder(options).capacity(QUEUE).build();
        let mut step = pin!(step(Box::new(events), patience));
        let mut shows = interval(SHOW);
        shows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut look, mut tell): (Option<Instant>, Option<Instant>) = (None, None);
        let at = |instant: Option<Instant>| sleep_until(instant.unwrap_or_else(Instant::now));
        loop {
            select! {
                (events, event) = &mut step => {
                    step.set(self::step(events, patience));
                    match self.happen(event, &client, side) {
                        Ok(true) => look = Some(Instant::now()),
                        Ok(false) => {}
                        Err(loss) => return loss,
                    }
                    tell = tell.or_else(|| Some(Instant::now() + SETTLE));
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

    /// Says what is due.
    fn look(&mut self, client: &AsyncClient) -> Option<Instant> {
        if self.state != State::Connected {
            return None;
        }
        let export = Arc::clone(&self.exports.borrow_and_update());
        let mut line = Line { client, published: &mut self.tally.published };
        self.dialect.speak(&mut line, &export, Instant::now())
    }

    /// Takes what the library tells; gives whether there is something to say.
    fn happen(
        &mut self,
        event: Result<Event, Loss>,
        client: &AsyncClient,
        side: &mut Side,
    ) -> Result<bool, Loss> {
        match event? {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.tally.connections += 1;
                self.commands.begin();
                self.state = State::Subscribing(0);
                self.subscribe(client, side)
            }
            Event::Incoming(Packet::SubAck(answer)) => {
                self.answered(&answer, side);
                self.subscribe(client, side)
            }
            Event::Incoming(Packet::Publish(said)) => {
                self.tally.received += 1;
                match self.dialect.hear(&said, &mut self.commands, side) {
                    Heard::Done => Ok(false),
                    Heard::Answer => Ok(true),
                    Heard::Leave(why) => Err(Loss::new(why, true)),
                }
            }
            _ => Ok(false),
        }
    }

    /// Asks for the next filters. When all are answered the rest begins: nobody shall hear of us
    /// before we can hear them.
    fn subscribe(&mut self, client: &AsyncClient, side: &mut Side) -> Result<bool, Loss> {
        let State::Subscribing(answered) = self.state else { return Ok(false) };
        let filters: Vec<_> =
            self.dialect.filters().into_iter().skip(answered).take(FILTERS).collect();
        if filters.is_empty() {
            self.state = State::Connected;
            let (device, broker) = (&self.name, &self.broker);
            tracing::info!(device, "device {device}: connected to {broker}");
            self.trouble = None;
            side.fault(None);
            self.show(side);
            return Ok(true);
        }
        let asked = client.try_subscribe_many(filters);
        asked.map(|()| false).map_err(|error| Loss::new(error.to_string(), true))
    }

    fn answered(&mut self, answer: &SubAck, side: &mut Side) {
        let State::Subscribing(answered) = &mut self.state else { return };
        for (filter, code) in (*answered..).zip(&answer.return_codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                self.dialect.denied(filter, &format!("{code:?}"), &mut self.commands, side);
            }
        }
        *answered += answer.return_codes.len();
    }

    /// The connection is gone. Commands stay as they are until their end.
    fn lose(&mut self, why: Cow<'static, str>, side: &mut Side) {
        // Attempt after attempt fails in the same way: that is one line.
        if self.trouble.as_deref() != Some(&*why) {
            let (device, broker) = (&self.name, &self.broker);
            tracing::warn!(device, "device {device}: no connection to {broker}: {why}");
        }
        self.trouble = Some(why.into_owned());
        self.state = State::Lost;
        self.dialect.forget();
        self.commands.told();
        side.fault(Some(Fault::Disconnected));
        side.publish();
        self.show(side);
    }

    fn show(&self, side: &Side) {
        let Tally { published, received, connections } = self.tally;
        let Commands { refused, superseded, .. } = self.commands;
        let state = match self.state {
            State::Connecting => "connecting".to_owned(),
            State::Subscribing(_) => "subscribing".to_owned(),
            State::Connected => "connected".to_owned(),
            State::Lost => self.trouble.clone().unwrap_or_default(),
        };
        let facts = [
            ("published", published),
            ("received", received),
            ("refused", refused),
            ("superseded", superseded),
            ("queue", self.dialect.unsaid() as u64),
            ("reconnects", connections.saturating_sub(1)),
        ];
        let facts = facts.map(|(name, count)| (name.to_owned(), count as f64)).into();
        let ok = self.state == State::Connected;
        let session = Part { name: "broker".into(), ok, state, facts };
        let parts = std::iter::once(session).chain(self.commands.parts());
        side.show(parts.chain(self.dialect.parts()).collect());
    }
}

/// Waits for another export; for ever, if there will be none.
async fn changed(exports: &mut Exports) {
    if exports.changed().await.is_err() {
        std::future::pending().await
    }
}

/// The next event, and the loop that it came from.
async fn step(
    mut events: Box<EventLoop>,
    patience: Duration,
) -> (Box<EventLoop>, Result<Event, Loss>) {
    let event = match timeout(patience, events.poll()).await {
        Ok(event) => event.map_err(Loss::from),
        Err(_) => Err(Loss::new("the broker takes nothing more", true)),
    };
    (events, event)
}

impl Line<'_> {
    /// Gives a message to the library; `false` if there is no room.
    pub(super) fn say(&mut self, said: Outgoing<'_>) -> bool {
        let options = PublishOptions::new(qos(said.qos)).retain(said.retain);
        let has_room = self.client.try_publish(said.topic, said.payload, options).is_ok();
        *self.published += u64::from(has_room);
        has_room
    }
}

/// How much longer its sender means it.
pub(super) fn left(said: &Publish) -> Option<Duration> {
    let left = said.properties.as_ref()?.message_expiry_interval?;
    Some(Duration::from_secs(left.into()))
}
