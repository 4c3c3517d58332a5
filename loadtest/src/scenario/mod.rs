//! The runs: a load for daemons that are there, a backlog for some that were away, the search for
//! the highest rate that keeps an objective, and how soon a daemon is there.

mod case;
mod drain;
pub(crate) mod find_max;
mod follow;
mod publishing;
mod run;
mod start_up;

use std::time::Duration;

use crate::judge::Evidence;
use crate::load::Pace;
use crate::load::schedule::Limit;
use crate::plan::{Life, Mix, Skew};
use crate::sink::EventQueue;
use crate::watch::Seen;

pub(crate) use case::{COSTLY_POLL, Case, POLL, left, reach_within};
pub(crate) use drain::drain;
pub(crate) use run::run;
pub(crate) use start_up::{StartUp, start_up};

/// What is to be published, and how it is received.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// How many accounts pay.
    pub(crate) accounts: usize,
    /// How many payments they have made before, at least; even with 0 the ledger is vacuumed and
    /// written to disk before the load.
    pub(crate) ledger: Option<usize>,
    /// Which of them take part.
    pub(crate) skew: Skew,
    /// What else there is beside good payments.
    pub(crate) mix: Mix,
    /// What becomes of the good payments.
    pub(crate) life: Life,
    /// How long a message is to be, in bytes.
    pub(crate) payload_bytes: usize,
    /// Of the random numbers.
    pub(crate) seed: u64,
    /// How fast.
    pub(crate) pace: Pace,
    /// Where it ends.
    pub(crate) limit: Limit,
    /// How many connections publish.
    pub(crate) publishers: usize,
    /// Who hears of it.
    pub(crate) subscriber: Subscriber,
    /// How the subscriber's queue is kept.
    pub(crate) event_queue: EventQueue,
    /// How often a daemon is killed.
    pub(crate) kills: u32,
    /// How long nothing may move before what is missing counts as lost.
    pub(crate) patience: Duration,
}

/// Who receives the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Subscriber {
    /// Consumes them as they come
    #[default]
    Live,
    /// Has a queue, and consumes it when everything is measured
    Late,
    /// Nobody: the daemon drops them
    None,
}

/// What a run brought to light.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What it is judged by.
    pub(crate) evidence: Evidence,
    /// What was seen meanwhile.
    pub(crate) seen: Seen,
    /// When a late subscriber's events were all confirmed to the daemon, in microseconds since
    /// 1970: it has not received any by then.
    pub(crate) outbox_empty_at: Option<i64>,
}
