//! What is published.

use std::time::Duration;

use clap::Args;

use super::values::{self, Rate};
use crate::load::Pace;
use crate::load::schedule::{Arrival, Curve, Limit};
use crate::plan::{Kinds, Life, Mix, Skew};
use crate::scenario::{Order, Subscriber};
use crate::sink::EventQueue;

/// What every load has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// How many accounts pay; a tenth as many are paid
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = values::at_least_one)]
    accounts: usize,
    /// Which accounts take part: uniform, zipf:EXPONENT such as zipf:1.1, or hot, where every payment
    /// is between the same two
    #[arg(long, value_name = "SKEW", default_value_t = Skew::Uniform)]
    skew: Skew,
    /// What becomes of the good payments: cases with their weights, such as
    /// transfer:60,authorize-capture:20,authorize-void:5,refund:10,legs:4:5 [default: transfer:1]
    ///
    /// Cases are transfer; authorize-capture, authorize-capture-parts (two captures) and
    /// authorize-void; refund, of a transfer or of a capture; chargeback, at times with a reversal;
    /// cancel, of a transfer for the next day; legs:N, a transfer with N legs. A weight says how many
    /// of the cases are of that kind; a case is one to three messages, and those are what rates and
    /// counts are about.
    #[arg(long, value_name = "CASE:WEIGHT,…", default_value = "transfer:1", hide_default_value = true)]
    mix: Kinds,
    /// Cases that are published in reverse, so that what acts on a payment comes before it
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = values::share, hide_default_value = true)]
    out_of_order: f64,
    /// Payments that are to be executed later, within 5s of being published or another time, such as
    /// 10% or 10%:30s
    #[arg(long, value_name = "SHARE[:WITHIN]", default_value = "0", value_parser = values::scheduled, hide_default_value = true)]
    scheduled: (f64, Duration),
    /// Messages that repeat an earlier one; a share such as 1% or 0.01, as all of these
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    duplicates: Option<f64>,
    /// Messages that repeat an earlier id with another amount
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    altered: Option<f64>,
    /// Messages that are no task
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    malformed: Option<f64>,
    /// Payments without the funds for it
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    insufficient: Option<f64>,
    /// Payments to an account that does not exist
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    unknown_account: Option<f64>,
    /// Payments in a currency that the accounts do not have
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    wrong_currency: Option<f64>,
    /// Make messages about this long with metadata, in bytes; without it they have 330 or so
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::payload_bytes, hide_default_value = true)]
    payload_bytes: usize,
    /// The same seed gives the same messages, but for their ids and the accounts' prefix
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::at_least_one)]
    publishers: usize,
    /// The kind of queue that receives the events
    #[arg(long, value_enum, default_value_t = EventQueue::Classic)]
    event_queue: EventQueue,
    /// How long nothing may move before what is missing counts as lost; with faults also how long it
    /// may take until enough is in flight for a strike
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration, help_heading = "Result")]
    patience: Duration,
}

/// How fast messages are published.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rate")]
pub(crate) struct PaceArgs {
    /// Messages per second, of all publishers together; max for as fast as the broker confirms
    #[arg(long, value_name = "N", default_value = "1000", value_parser = values::rate)]
    rate: Rate,
    /// A rate that changes in a straight line, FROM..TO/TIME such as 0..20000/60s
    #[arg(long, value_name = "RAMP", value_parser = values::ramp, conflicts_with = "rate")]
    ramp: Option<Curve>,
    /// How messages are spread
    #[arg(long, value_enum, default_value_t = Arrival::Constant)]
    arrival: Arrival,
    /// Messages that may wait for their confirm with --rate max
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = values::at_least_one)]
    window: usize,
    /// For how long, such as 30s [default: 30s, or the length of the ramp]
    #[arg(long, value_name = "TIME", value_parser = values::duration, conflicts_with = "count")]
    duration: Option<Duration>,
    /// How many messages
    #[arg(long, value_name = "N", value_parser = values::messages)]
    count: Option<usize>,
    /// Kill a daemon so many times, evenly spread over the load, and start another one at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    kill: u32,
}

const DURATION: Duration = Duration::from_secs(30);

impl PaceArgs {
    /// How fast, for how long, and how many kills.
    pub(super) fn resolve(&self) -> (Pace, Limit, u32) {
        let pace = match (self.ramp, self.rate) {
            (Some(curve), _) => Pace::Open { curve, arrival: self.arrival },
            (None, Rate::PerSecond(rate)) => Pace::Open { curve: Curve::Constant(rate), arrival: self.arrival },
            (None, Rate::Max) => Pace::Closed { window: self.window },
        };
        let ramp = self.ramp.map(|curve| match curve {
            Curve::Ramp { over, .. } => Duration::from_secs_f64(over),
            Curve::Constant(_) => DURATION,
        });
        let time = self.duration.or(ramp).unwrap_or(DURATION);
        (pace, self.count.map_or(Limit::Time(time), Limit::Count), self.kill)
    }
}

impl LoadArgs {
    /// What becomes of the good payments.
    pub(super) fn life(&self) -> Life {
        let (scheduled, within) = self.scheduled;
        let within = if scheduled > 0.0 { within } else { Duration::ZERO };
        Life { kinds: self.mix.clone(), out_of_order: self.out_of_order, scheduled, within }
    }

    /// What is to be published; shares that are not given are as in `usual`.
    pub(super) fn order(
        &self,
        usual: Mix,
        (pace, limit, kills): (Pace, Limit, u32),
        subscriber: Subscriber,
    ) -> Result<Order, String> {
        let mix = Mix {
            duplicate: self.duplicates.unwrap_or(usual.duplicate),
            altered: self.altered.unwrap_or(usual.altered),
            malformed: self.malformed.unwrap_or(usual.malformed),
            insufficient: self.insufficient.unwrap_or(usual.insufficient),
            unknown_account: self.unknown_account.unwrap_or(usual.unknown_account),
            wrong_currency: self.wrong_currency.unwrap_or(usual.wrong_currency),
        };
        let total = mix.total();
        if total >= 1.0 {
            return Err(format!(
                "--duplicates, --altered, --malformed, --insufficient, --unknown-account and --wrong-currency make \
                 {:.1} % together, expected less than 100 %: the rest are good payments",
                total * 100.0
            ));
        }
        Ok(Order {
            accounts: self.accounts,
            ledger: None,
            skew: self.skew,
            mix,
            life: self.life(),
            payload_bytes: self.payload_bytes,
            seed: self.seed,
            pace,
            limit,
            publishers: self.publishers,
            subscriber,
            event_queue: self.event_queue,
            kills,
            patience: self.patience,
        })
    }
}
