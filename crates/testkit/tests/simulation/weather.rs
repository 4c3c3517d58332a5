//! The faults of a run: which ones, when, and how often. All are determined by the seed, in advance or while running.
//! Each run has only some kinds of faults, so that each is tested alone and together with others.

use std::time::Duration;

use super::dice::Dice;

/// A fault at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The broker closes all consuming connections.
    DropConsumers,
    /// The broker closes all publishing connections.
    DropPublishers,
    /// The queue moves to another node: consumers are cancelled.
    CancelConsumers,
    /// Acknowledgements of all sessions fail, while deliveries continue.
    MuteAcks,
    /// The broker is unreachable for this long.
    BrokerAway(Duration),
    /// The database is unreachable for this long.
    DatabaseAway(Duration),
    /// The standby is disconnected for this long, and commits wait for it. Then it is reconnected or, if the flag is
    /// set, the primary is lost and the standby is promoted.
    ReplicationCut(Duration, bool),
    /// The broker blocks publishers for this long.
    Blocked(Duration),
    /// No queue is bound to the exchange for events for this long.
    Unbound(Duration),
    /// This daemon is killed, and restarted after this long.
    Kill(usize, Duration),
    /// This daemon is stopped gracefully, and restarted after this long.
    Stop(usize, Duration),
}

/// A fault and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gust {
    pub(super) at: Duration,
    pub(super) fault: Fault,
}

/// The faults of a run and their probabilities. Without any by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    /// Number of daemons.
    pub(super) daemons: usize,
    /// Duration of the phase with faults.
    pub(super) length: Duration,
    /// Probability that a commit conflicts with another transaction.
    pub(super) conflict: f64,
    /// Probability that a statement fails because the database is unavailable.
    pub(super) unavailable: f64,
    /// Probability that the connection is lost during a commit, before or after it takes effect.
    pub(super) unknown: f64,
    /// Probability that a queue refuses a message.
    pub(super) nack: f64,
    /// Maximum latency of a reply.
    pub(super) latency: Duration,
    pub(super) gusts: Vec<Gust>,
}

impl Weather {
    pub(super) fn new(seed: u64) -> Self {
        let dice = Dice::new(seed, "weather");
        let daemons = dice.one_of(&[1, 1, 1, 2, 3]);
        let length = Duration::from_millis(dice.between(200, 8_000) as u64);
        let sometimes = |most: f64| if dice.chance(0.4) { most * (dice.between(1, 100) as f64 / 100.0) } else { 0.0 };
        let mut weather = Self {
            daemons,
            length,
            conflict: sometimes(0.3),
            unavailable: sometimes(0.2),
            unknown: sometimes(0.3),
            nack: sometimes(0.1),
            latency: Duration::from_millis(dice.one_of(&[1, 5, 20, 200])),
            gusts: Vec::new(),
        };
        let kinds = dice.between(0, 6);
        for _ in 0..kinds {
            let kind = dice.between(0, 10);
            for _ in 0..dice.between(1, 4) {
                let at = length.mul_f64(dice.between(0, 1000) as f64 / 1000.0);
                let lasts = Duration::from_millis(dice.one_of(&[5, 50, 500, 3_000]));
                let who = dice.between(0, daemons - 1);
                let fault = match kind {
                    0 => Fault::DropConsumers,
                    1 => Fault::DropPublishers,
                    2 => Fault::CancelConsumers,
                    3 => Fault::MuteAcks,
                    4 => Fault::BrokerAway(lasts),
                    5 => Fault::DatabaseAway(lasts),
                    6 => Fault::Blocked(lasts),
                    7 => Fault::Unbound(lasts),
                    8 => Fault::Kill(who, lasts),
                    9 => Fault::ReplicationCut(lasts, dice.chance(0.5)),
                    _ => Fault::Stop(who, lasts),
                };
                weather.gusts.push(Gust { at, fault });
            }
        }
        weather.gusts.sort_by_key(|gust| gust.at);
        weather
    }

    /// Returns true if no fault prevents a drain from ending in time.
    pub(super) fn lets_a_drain_end(&self) -> bool {
        let hinders = |gust: &Gust| {
            matches!(
                gust.fault,
                Fault::DatabaseAway(_)
                    | Fault::BrokerAway(_)
                    | Fault::Blocked(_)
                    | Fault::Unbound(_)
                    | Fault::ReplicationCut(..)
            )
        };
        !self.gusts.iter().any(hinders) && self.unavailable == 0.0 && self.unknown == 0.0
    }
}
