//! What is published.

use std::time::Duration;

use clap::Args;

use crate::load::Pace;
use crate::load::schedule::{Arrival, Curve, Limit};
use crate::plan::{Mix, Shape};
use crate::scenario::Order;
use crate::values::{self, Rate};

/// What every load has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(super) order: Order,
    #[command(flatten)]
    mix: Mix,
}

/// How fast messages are published.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rate")]
pub(crate) struct PaceArgs {
    /// Messages per second, of all publishers together; max for as fast as the broker confirms
    #[arg(long, value_name = "N", default_value = "1000", value_parser = values::rate)]
    rate: Rate,
    /// A rate that changes in a straight line, FROM..TO/TIME such as 0..20000/60s
    #[arg(long, value_name = "RAMP", conflicts_with = "rate")]
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
    /// Returns what is to be published; shares that are not given are as in `usual`.
    pub(super) fn order(&self, usual: Mix, (pace, limit, kills): (Pace, Limit, u32)) -> Result<Order, String> {
        let mix = self.mix.or(usual);
        let total = mix.total();
        if total >= 1.0 {
            return Err(format!(
                "--duplicates, --altered, --malformed, --insufficient, --unknown-account and --wrong-currency make \
                 {:.1} % together, expected less than 100 %: the rest are good payments",
                total * 100.0
            ));
        }
        let shape = Shape { mix, ..self.order.shape.clone() };
        Ok(Order { shape, pace, limit, kills, ..self.order.clone() })
    }
}
