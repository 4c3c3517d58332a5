//! What is published: tasks that depend on each other's order, repetitions in the same and in other
//! words, contradictions, and what is no task at all.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::author::{Author, Plot};
use super::dice::Dice;
use super::weather::Weather;
use super::world::{EPOCH, World};
use crate::contract::{Findings, Flaw, Message, Properties};

/// The reference of a payment that the database refuses to store.
pub(super) const POISON: &str = "poison";

/// How the names of accounts begin that are changed while they pay and are paid.
pub(super) const SHOP: &str = "shop:";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A task, or a repetition of one.
    Task,
    /// One that the database refuses.
    Poison,
    /// The id of a task that was published before, and something else.
    Altered,
    /// No task.
    Malformed,
    /// One with a property that can't be read.
    Unreadable,
}

/// A message with the time at which it is published.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    body: String,
    at: Duration,
}

impl Sent {
    /// As it is received.
    pub(super) fn message(&self, now: Timestamp) -> Message {
        let mut findings = Findings::default();
        if self.kind == Kind::Unreadable {
            findings.flaws.push(Flaw::not_utf8("correlation_id", "", b"\xff"));
        }
        Message::read_with(&findings, self.body.clone().into_bytes(), Properties::default(), now)
    }
}

/// All of it, in order.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) messages: Vec<Sent>,
    /// Whether nothing comes before what it needs, so that the order of publication can be kept.
    pub(super) is_orderly: bool,
    /// Whether there is enough for everybody, whatever comes first.
    pub(super) is_ample: bool,
}

impl Load {
    pub(super) fn new(seed: u64, weather: &Weather) -> Self {
        let dice = Dice::new(seed, "load");
        // Half of the loads have enough for everybody.
        let most = dice.one_of(&[2, 120]);
        let is_ample = most == 2;
        // What comes of a task that waits for its time depends on what has come by then.
        let is_timed = dice.chance(0.4);
        let is_orderly = weather.daemons == 1 && !is_timed;
        let until = is_timed.then_some(EPOCH as f64 + weather.length.as_secs_f64());
        let has_changes = dice.chance(0.3);
        let bodies = Author::new(&dice, Plot { most, is_orderly, until, has_changes }).write_all();
        let mut times: Vec<Duration> =
            bodies.iter().map(|_| weather.length.mul_f64(dice.between(0, 1000) as f64 / 1000.0)).collect();
        times.sort_unstable();
        // Now and then all of it at once.
        let burst = dice.chance(0.3);
        let messages = bodies.into_iter().zip(times);
        let sent = |((kind, body), at)| Sent { kind, body, at: if burst { Duration::ZERO } else { at } };
        Self { messages: messages.map(sent).collect(), is_orderly, is_ample }
    }
}

/// Publishes all of it, each message in its time.
pub(super) async fn publish(world: &Arc<World>) {
    for (number, sent) in world.load.messages.iter().enumerate() {
        tokio::time::sleep_until(world.start + sent.at).await;
        world.journal.note(|| format!("message {number}, {:?}: {}", sent.kind, sent.body));
        world.queue.lock().publish(number);
    }
    tokio::time::sleep_until(world.start + world.weather.length).await;
}
