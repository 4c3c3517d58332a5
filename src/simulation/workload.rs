//! What is published: tasks that depend on each other's order, repetitions in the same and in other
//! words, contradictions, and what is no task at all.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::dice::Dice;
use super::weather::Weather;
use super::world::{EPOCH, World};
use crate::contract::{Message, Properties};

/// The reference of a payment that the database refuses to store.
pub(super) const POISON: &str = "poison";

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
    /// Breaks the connection of whoever takes it.
    Breaks,
}

/// A message with the time at which it is published.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    body: String,
    at: Duration,
}

impl Sent {
    pub(super) fn breaks(&self) -> bool {
        self.kind == Kind::Breaks
    }

    /// As it is received.
    pub(super) fn message(&self, now: Timestamp) -> Message {
        Message::read(self.body.clone().into_bytes(), Properties::default(), now)
    }
}

/// All of it, in order.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) messages: Vec<Sent>,
    /// Whether nothing comes before what it needs, so that the order of publication can be kept.
    pub(super) is_orderly: bool,
}

impl Load {
    pub(super) fn new(seed: u64, weather: &Weather) -> Self {
        let dice = Dice::new(seed, "load");
        // Half of the loads have enough for everybody.
        let most = dice.one_of(&[2, 120]);
        // What comes of a task that waits for its time depends on what has come by then.
        let is_timed = dice.chance(0.4);
        let is_orderly = weather.daemons == 1 && !is_timed;
        let until = is_timed.then_some(EPOCH as f64 + weather.length.as_secs_f64());
        let mut author = Author { dice, most, accounts: Vec::new(), bodies: Vec::new(), until };
        author.write(Kind::Task, |id| open(id, "world", "null"));
        author.accounts.push("world".to_owned());
        for _ in 0..author.dice.between(3, 40) {
            author.scene(is_orderly);
        }
        let Author { dice, bodies, .. } = author;
        let mut times: Vec<Duration> =
            bodies.iter().map(|_| weather.length.mul_f64(dice.between(0, 1000) as f64 / 1000.0)).collect();
        times.sort_unstable();
        // Now and then all of it at once.
        let burst = dice.chance(0.3);
        let messages = bodies.into_iter().zip(times);
        let sent = |((kind, body), at)| Sent { kind, body, at: if burst { Duration::ZERO } else { at } };
        Self { messages: messages.map(sent).collect(), is_orderly }
    }
}

struct Author {
    dice: Dice,
    /// The most that a payment is, but for those that fund an account.
    most: usize,
    accounts: Vec<String>,
    bodies: Vec<(Kind, String)>,
    /// When the faults end, in seconds since 1970, if there are tasks that wait for their time.
    until: Option<f64>,
}

impl Author {
    fn write(&mut self, kind: Kind, body: impl FnOnce(Uuid) -> String) -> Uuid {
        let id = Uuid::from_u128(self.dice.bits());
        self.bodies.push((kind, body(id)));
        id
    }

    fn account(&self) -> String {
        self.accounts[self.dice.between(0, self.accounts.len() - 1)].clone()
    }

    fn two(&self) -> Option<(String, String)> {
        let (debit, credit) = (self.account(), self.account());
        (debit != credit).then_some((debit, credit))
    }

    fn amount(&self) -> usize {
        self.dice.between(1, self.most)
    }

    /// One to three messages that belong together.
    fn scene(&mut self, is_orderly: bool) {
        let amount = self.amount();
        match self.dice.between(0, 21) {
            // Open, fund, spend: back to back.
            0..=3 => {
                let name = format!("customer:{}", self.accounts.len());
                self.write(Kind::Task, |id| open(id, &name, "0"));
                self.write(Kind::Task, |id| transfer(id, "world", &name, 100, ""));
                let to = self.account();
                self.write(Kind::Task, |id| transfer(id, &name, &to, amount, ""));
                self.accounts.push(name);
            }
            4..=8 => {
                if let Some((debit, credit)) = self.two() {
                    self.write(Kind::Task, |id| transfer(id, &debit, &credit, amount, ""));
                }
            }
            9 | 10 => self.hold(is_orderly),
            11 | 12 => self.repeat(),
            13 => {
                self.write(Kind::Malformed, |id| format!(r#"{{"id":"{id}","type":"transfer","amount":{amount}.5}}"#));
            }
            14 => {
                if let Some((debit, credit)) = self.two() {
                    self.write(Kind::Poison, |id| transfer(id, &debit, &credit, amount, POISON));
                }
            }
            16 | 17 => self.refund(is_orderly),
            18 => self.legs(),
            19 | 20 => match self.until {
                Some(until) => self.timed(until),
                None => self.refund(is_orderly),
            },
            _ if self.dice.chance(0.2) => {
                self.write(Kind::Breaks, |id| format!(r#"{{"id":"{id}"}}"#));
            }
            _ => {
                self.write(Kind::Task, |id| transfer(id, "nobody", "world", amount, ""));
            }
        }
    }

    fn hold(&mut self, is_orderly: bool) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let parent = self.write(Kind::Task, |id| authorize(id, &debit, &credit, amount));
        let action = if self.dice.chance(0.7) { "capture" } else { "void" };
        self.write(Kind::Task, |id| follow_up(id, action, parent, ""));
        self.turn_round(is_orderly);
    }

    /// Now and then the last of two messages comes first.
    fn turn_round(&mut self, is_orderly: bool) {
        if !is_orderly && self.dice.chance(0.3) {
            let last = self.bodies.len() - 1;
            self.bodies.swap(last - 1, last);
        }
    }

    /// A payment of which some goes back, or all; where the order doesn't matter, perhaps more than
    /// there is, in two parts.
    fn refund(&mut self, is_orderly: bool) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let parent = self.write(Kind::Task, |id| transfer(id, &debit, &credit, amount, ""));
        let parts = if is_orderly { 1 } else { self.dice.between(1, 2) };
        for _ in 0..parts {
            let part = format!(r#","amount":{}"#, self.dice.between(1, amount));
            self.write(Kind::Task, |id| follow_up(id, "refund", parent, &part));
        }
        self.turn_round(is_orderly);
    }

    /// Several movements, all or none.
    fn legs(&mut self) {
        let pairs: Vec<_> = (0..self.dice.between(2, 4)).filter_map(|_| self.two()).collect();
        let legs = pairs.iter().map(|(debit, credit)| {
            let amount = self.amount();
            format!(r#"{{"debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"}}"#)
        });
        let legs = legs.collect::<Vec<_>>().join(",");
        if !legs.is_empty() {
            self.write(Kind::Task, |id| format!(r#"{{"id":"{id}","type":"transfer","legs":[{legs}]}}"#));
        }
    }

    /// What waits for its time: payments with a date, one of them called off, payments after others,
    /// and holds that run out.
    fn timed(&mut self, until: f64) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let at = until - self.dice.span(Duration::from_secs(8)).as_secs_f64();
        let at = Timestamp::from_millisecond((at * 1000.0) as i64).expect("a time");
        let with = |task: String, more: &str| format!("{},{more}}}", task.trim_end_matches('}'));
        let date = format!(r#""execute_at":"{at}""#);
        match self.dice.between(0, 3) {
            0 => {
                self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &date));
            }
            1 => {
                let parent = self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &date));
                self.write(Kind::Task, |id| follow_up(id, "cancel", parent, ""));
                self.turn_round(false);
            }
            2 => {
                let first = self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &date));
                let after = format!(r#""after":"{first}""#);
                self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &after));
                self.turn_round(false);
            }
            _ => {
                let expiry = format!(r#""expires_in":{}"#, self.dice.between(1, 4));
                let parent = self.write(Kind::Task, |id| with(authorize(id, &debit, &credit, amount), &expiry));
                if self.dice.chance(0.5) {
                    self.write(Kind::Task, |id| follow_up(id, "capture", parent, ""));
                    // As late as anything: perhaps too late.
                    let (last, other) = (self.bodies.len() - 1, self.dice.between(1, self.bodies.len() - 1));
                    self.bodies.swap(last, other);
                }
            }
        }
    }

    /// An earlier task again: the same, in other words, or another one.
    fn repeat(&mut self) {
        let tasks: Vec<&String> =
            self.bodies.iter().filter(|(kind, _)| *kind == Kind::Task).map(|(_, body)| body).collect();
        let first = tasks[self.dice.between(0, tasks.len() - 1)].clone();
        let (kind, body) = match self.dice.between(0, 2) {
            0 => (Kind::Task, first),
            1 => (Kind::Task, first.replace(r#""type""#, r#" "type""#).replace("}", " }")),
            _ if first.contains(r#""amount":"#) => (Kind::Altered, first.replace(r#""amount":"#, r#""amount":1"#)),
            _ => return,
        };
        self.bodies.push((kind, body));
    }
}

fn open(id: Uuid, account: &str, min_balance: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"open_account","account":"{account}","currency":"USD","min_balance":{min_balance}}}"#
    )
}

fn transfer(id: Uuid, debit: &str, credit: &str, amount: usize, reference: &str) -> String {
    let reference = if reference.is_empty() { String::new() } else { format!(r#","reference":"{reference}""#) };
    format!(
        r#"{{"id":"{id}","type":"transfer","debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"{reference}}}"#
    )
}

fn authorize(id: Uuid, debit: &str, credit: &str, amount: usize) -> String {
    format!(
        r#"{{"id":"{id}","type":"authorize","debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"}}"#
    )
}

fn follow_up(id: Uuid, kind: &str, payment: Uuid, more: &str) -> String {
    format!(r#"{{"id":"{id}","type":"{kind}","payment_id":"{payment}"{more}}}"#)
}

/// Publishes all of it, each message in its time.
pub(super) async fn publish(world: &Arc<World>) {
    for (number, sent) in world.load.messages.iter().enumerate() {
        tokio::time::sleep_until(world.start + sent.at).await;
        world.queue.lock().publish(number);
    }
    tokio::time::sleep_until(world.start + world.weather.length).await;
}
