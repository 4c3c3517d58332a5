//! The messages of a run: tasks that depend on each other's order, repetitions with the same or with different
//! formatting, ids reused with other content, and messages that are not tasks.

use std::time::Duration;

use super::author::{Author, Plot};
use super::dice::Dice;
use super::message::{EPOCH, Sent};
use super::weather::Weather;

/// All messages of a run, in order.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) messages: Vec<Sent>,
    /// Whether every message comes after those that it depends on, so that results can be compared with processing in
    /// order.
    pub(super) is_orderly: bool,
    /// Whether all accounts always have enough money, in any order of processing.
    pub(super) is_ample: bool,
}

impl Load {
    pub(super) fn new(seed: u64, weather: &Weather) -> Self {
        let dice = Dice::new(seed, "load");
        // In half of the loads, amounts are so small that no account ever lacks money.
        let most = dice.one_of(&[2, 120]);
        let is_ample = most == 2;
        // The result of a scheduled task depends on what has arrived by its time.
        let is_timed = dice.chance(0.4);
        let is_orderly = weather.daemons == 1 && !is_timed;
        let until = is_timed.then_some(EPOCH as f64 + weather.length.as_secs_f64());
        let has_changes = dice.chance(0.3);
        let bodies = Author::new(&dice, Plot { most, is_orderly, until, has_changes }).write_all();
        let mut times: Vec<Duration> =
            bodies.iter().map(|_| weather.length.mul_f64(dice.between(0, 1000) as f64 / 1000.0)).collect();
        times.sort_unstable();
        // Sometimes publish everything at once.
        let burst = dice.chance(0.3);
        let messages = bodies.into_iter().zip(times);
        let sent = |((kind, body), at)| Sent { kind, body, at: if burst { Duration::ZERO } else { at } };
        Self { messages: messages.map(sent).collect(), is_orderly, is_ample }
    }
}
