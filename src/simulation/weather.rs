//! What goes wrong, when, and how often: all of it decided by the seed beforehand or drawn from its
//! dice. Each run has only some of the faults, so that they are seen alone and together.

use std::time::Duration;

use super::dice::Dice;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The broker drops all connections that consume.
    DropConsumers,
    /// The broker drops all connections that publish.
    DropPublishers,
    /// The queue is moved: consumers are cancelled.
    CancelConsumers,
    /// A session can't acknowledge any more, though deliveries still come.
    MuteAcks,
    /// The broker is away for so long.
    BrokerAway(Duration),
    /// The database is away for so long.
    DatabaseAway(Duration),
    /// The standby hears nothing for so long, and commits wait for it; then it is heard again, or the
    /// primary is lost and the standby takes its place.
    ReplicationCut(Duration, bool),
    /// The broker takes no events for so long.
    Blocked(Duration),
    /// No queue is bound to the events' exchange for so long.
    Unbound(Duration),
    /// A daemon is killed, and started again so much later.
    Kill(usize, Duration),
    /// A daemon is stopped in order, and started again so much later.
    Stop(usize, Duration),
}

/// A fault with its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gust {
    pub(super) at: Duration,
    pub(super) fault: Fault,
}

/// The plan of a run.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// How many daemons there are.
    pub(super) daemons: usize,
    /// How long there are faults.
    pub(super) length: Duration,
    /// Of a commit: refused because of another transaction.
    pub(super) conflict: f64,
    /// Of any statement: the database doesn't want to.
    pub(super) unavailable: f64,
    /// Of a commit: the connection is lost, before it or after it.
    pub(super) unknown: f64,
    /// Of a message: a queue refuses it.
    pub(super) nack: f64,
    /// The most that an answer takes.
    pub(super) latency: Duration,
    gusts: Vec<Gust>,
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

    pub(super) fn gusts(&self) -> Vec<Gust> {
        self.gusts.clone()
    }

    /// Whether a drain can be expected to end in time.
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
