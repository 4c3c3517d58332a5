//! The runs: a load for daemons that are there, a backlog for some that were away, the search for
//! the highest rate that keeps an objective, and how soon a daemon is there.

pub(crate) mod case;
mod drain;
pub(crate) mod find_max;
mod follow;
mod run;
mod start_up;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::judge::Evidence;
use crate::judge::slo::Slo;
use crate::load::Pace;
use crate::load::schedule::Limit;
use crate::plan::Shape;
use crate::rig::Blueprint;
use crate::sink::EventQueue;
use crate::values;
use crate::watch::Seen;

pub(crate) use drain::drain;
pub(crate) use run::run;
pub(crate) use start_up::{StartUp, start_up};

/// What is to be published, and how it is received.
#[derive(Clone, Debug, Args)]
pub(crate) struct Order {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::at_least_one)]
    pub(crate) publishers: usize,
    /// The share of messages with a traceparent whose trace is sampled
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = values::part)]
    pub(crate) sampled: f64,
    /// The kind of queue that receives the events
    #[arg(long, value_enum, default_value_t = EventQueue::Classic)]
    pub(crate) event_queue: EventQueue,
    /// How long nothing may move before what is missing counts as lost; with faults also how long it
    /// may take until enough is in flight for a strike
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration, help_heading = "Result")]
    pub(crate) patience: Duration,
    #[arg(skip = Pace::constant(1.0))]
    pub(crate) pace: Pace,
    #[arg(skip = Limit::Count(1))]
    pub(crate) limit: Limit,
    /// How often a daemon is killed.
    #[arg(skip)]
    pub(crate) kills: u32,
    /// Who receives the events
    #[arg(long, value_enum, default_value_t = Subscriber::Live)]
    pub(crate) subscriber: Subscriber,
    /// Payments that the accounts have made before, at least; even with 0 the ledger is vacuumed and written to disk
    /// before the load.
    #[arg(skip)]
    pub(crate) ledger: Option<usize>,
}

/// What a command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) verb: &'static str,
    pub(crate) order: Order,
    pub(crate) blueprint: Blueprint,
    pub(crate) output: Output,
    /// The range of rates that `find-max` searches.
    pub(crate) search: Option<SearchRange>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Result")]
pub(crate) struct Output {
    /// What has to hold, such as p99<25ms,lost=0,doubled=0
    ///
    /// Terms are p50 p90 p99 p999 max, of the time to the commit, or with confirm. or event. before
    /// them, in us, ms or s; lost, doubled, events_missing, dead_lettered, rejected; and
    /// rate_committed per second. Relations are < <= = >= >.
    #[arg(long, value_name = "TERMS")]
    pub(crate) slo: Option<Slo>,
    /// Write the results into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// What to call the run in its results
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SearchRange {
    /// The rate to begin with, per second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = values::rate_per_second)]
    pub(crate) from: f64,
    /// The highest rate to try, per second
    #[arg(long, value_name = "N", default_value = "50000", value_parser = values::rate_per_second)]
    pub(crate) to: f64,
    /// How far the result may be below the truth
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = values::precision)]
    pub(crate) precision: f64,
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
    /// Reads a stream as it grows, to which the daemons append them
    Stream,
    /// Reads that stream when everything is measured
    StreamLate,
}

impl Subscriber {
    /// Whether events go to a stream, and not to the exchange.
    pub(crate) const fn reads_a_stream(self) -> bool {
        matches!(self, Self::Stream | Self::StreamLate)
    }

    /// Whether it receives events while it is measured.
    pub(crate) const fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Stream)
    }

    /// Whether it receives them when everything is measured.
    pub(crate) const fn is_late(self) -> bool {
        matches!(self, Self::Late | Self::StreamLate)
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) evidence: Evidence,
    pub(crate) seen: Seen,
    /// When a late subscriber's events were all confirmed to the daemon, in microseconds since
    /// 1970: it has not received any by then.
    pub(crate) outbox_empty_at: Option<i64>,
}
