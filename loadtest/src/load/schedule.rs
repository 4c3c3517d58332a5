//! When each message is to be published: pure, and the same for the same seed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;

use crate::values::{duration, per_second};

/// How many messages per second there are to be, over the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Curve {
    Constant(f64),
    /// In a straight line from one rate to another, and constant from there on.
    Ramp {
        /// Per second, at the start.
        from: f64,
        /// Per second, at the end.
        to: f64,
        /// Seconds.
        over: f64,
    },
}

/// How messages are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arrival {
    /// Evenly.
    #[default]
    Constant,
    /// As of many publishers that know nothing of each other.
    Poisson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Count(usize),
    Time(Duration),
}

impl Limit {
    /// After how many messages, if that is what ends it.
    pub(crate) const fn count(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::Time(_) => None,
        }
    }
}

impl Curve {
    /// After how many seconds that many messages are due; infinite if they never are.
    pub(crate) fn time_of(self, messages: f64) -> f64 {
        match self {
            Self::Constant(rate) => messages / rate,
            Self::Ramp { from, to, over } => {
                let whole_ramp = (from + to) / 2.0 * over;
                if messages > whole_ramp {
                    return over + (messages - whole_ramp) / to;
                }
                if messages <= 0.0 {
                    return 0.0;
                }
                // The root of from·t + slope·t² = messages, in the form that is exact for a
                // slope near 0.
                let slope = (to - from) / (2.0 * over);
                let root = (from * from + 4.0 * slope * messages).max(0.0).sqrt();
                2.0 * messages / (from + root)
            }
        }
    }

    /// Messages per second at that time.
    pub(crate) fn rate_at(self, time: Duration) -> f64 {
        match self {
            Self::Constant(rate) => rate,
            Self::Ramp { from, to, over } => from + (to - from) * (time.as_secs_f64() / over).min(1.0),
        }
    }
}

/// `FROM..TO/TIME`.
impl FromStr for Curve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(rates, over)| Some((rates.split_once("..")?, over)));
        let ramp = parts.and_then(|((from, to), over)| {
            let (from, to, over) = (per_second(from)?, per_second(to)?, duration(over).ok()?.as_secs_f64());
            (from + to > 0.0).then_some(Self::Ramp { from, to, over })
        });
        ramp.ok_or_else(|| "expected FROM..TO/TIME in messages per second, such as 0..20000/60s".to_owned())
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => write!(f, "{rate}/s"),
            Self::Ramp { from, to, over } => write!(f, "{from}..{to}/{over}s"),
        }
    }
}

/// The times at which messages are due, in microseconds from the start, in order.
pub(crate) fn offsets(curve: Curve, arrival: Arrival, limit: Limit, seed: u64) -> impl Iterator<Item = u64> {
    let mut rng = Rng::with_seed(seed);
    let mut due = 0.0;
    let (count, end) = match limit {
        Limit::Count(count) => (count, f64::INFINITY),
        Limit::Time(time) => (usize::MAX, time.as_secs_f64()),
    };
    let times = std::iter::from_fn(move || {
        // A Poisson process of any rate is one of rate 1, seen through the curve.
        let gap = match arrival {
            Arrival::Constant => 1.0,
            Arrival::Poisson => -(1.0 - rng.f64()).ln(),
        };
        let now = curve.time_of(due);
        due += gap;
        Some(now)
    });
    times.take(count).take_while(move |time| time.is_finite() && *time < end).map(|time| (time * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn seconds(seconds: u64) -> Limit {
        Limit::Time(Duration::from_secs(seconds))
    }

    fn between(offsets: &[u64], from: u64, until: u64) -> usize {
        offsets.iter().filter(|offset| (from * SECOND..until * SECOND).contains(offset)).count()
    }

    #[test]
    fn a_ramp_is_from_a_rate_to_a_rate_in_a_time() {
        assert_eq!("0..20000/60s".parse(), Ok(Curve::Ramp { from: 0.0, to: 20_000.0, over: 60.0 }));
        for text in ["0..0/60s", "5/60s", "0..5", "0..5/60", "5..-1/3s", "..5/3s"] {
            assert!(text.parse::<Curve>().is_err_and(|error| error.contains("0..20000/60s")), "{text}");
        }
    }

    #[test]
    fn a_constant_rate_is_evenly_spread() {
        let offsets: Vec<u64> = offsets(Curve::Constant(4.0), Arrival::Constant, seconds(1), 1).collect();
        assert_eq!(offsets, [0, 250_000, 500_000, 750_000]);
    }

    #[test]
    fn a_ramp_rises_in_a_straight_line_and_stays_up() {
        let ramp = Curve::Ramp { from: 0.0, to: 1000.0, over: 10.0 };
        let offsets: Vec<u64> = offsets(ramp, Arrival::Constant, seconds(12), 1).collect();
        for (second, expected) in [(0, 50), (4, 450), (9, 950), (10, 1000), (11, 1000)] {
            assert!(between(&offsets, second, second + 1).abs_diff(expected) <= 1, "second {second}");
        }
        assert_eq!(ramp.rate_at(Duration::from_secs(5)), 500.0);
        assert_eq!(ramp.rate_at(Duration::from_secs(20)), 1000.0);
    }

    #[test]
    fn a_ramp_down_to_nothing_ends_there() {
        let ramp = Curve::Ramp { from: 100.0, to: 0.0, over: 2.0 };
        let offsets: Vec<u64> = offsets(ramp, Arrival::Constant, Limit::Count(1000), 1).collect();
        assert_eq!((offsets.len(), between(&offsets, 0, 1)), (101, 75));
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_spread_of_their_kind() {
        let rate = Curve::Constant(1000.0);
        let offsets: Vec<u64> = offsets(rate, Arrival::Poisson, seconds(100), 5).collect();
        // The standard deviation of 100,000 arrivals is 316.
        assert!(offsets.len().abs_diff(100_000) < 1300, "{}", offsets.len());
        // As many gaps are longer than the mean as e has it: 36.8 %.
        let long = offsets.windows(2).filter(|pair| pair[1] - pair[0] > 1000).count();
        assert!(long.abs_diff(36_788) < 700, "{long}");
    }

    proptest! {
        #[test]
        fn offsets_are_in_order_within_the_limit_and_the_same_for_the_same_seed(
            from in 0.0..5000.0, to in 1.0..5000.0, over in 0.1..5.0, poisson: bool, seed: u64, count in 0usize..2000,
        ) {
            let arrival = if poisson { Arrival::Poisson } else { Arrival::Constant };
            for curve in [Curve::Constant(to), Curve::Ramp { from, to, over }] {
                let counted: Vec<u64> = offsets(curve, arrival, Limit::Count(count), seed).collect();
                prop_assert_eq!(counted.len(), count);
                prop_assert!(counted.is_sorted());
                prop_assert!(offsets(curve, arrival, Limit::Count(count), seed).eq(counted));
                let timed: Vec<u64> = offsets(curve, arrival, seconds(2), seed).collect();
                prop_assert!(timed.last().is_none_or(|last| *last < 2 * SECOND));
            }
        }

        #[test]
        fn a_time_has_the_messages_that_the_curve_has_under_it(rate in 1.0..3000.0, over in 0.5..4.0) {
            let count = |curve| offsets(curve, Arrival::Constant, seconds(4), 1).count() as f64;
            prop_assert!((count(Curve::Constant(rate)) - 4.0 * rate).abs() <= 1.0);
            let ramp = Curve::Ramp { from: 0.0, to: rate, over };
            prop_assert!((count(ramp) - rate * (4.0 - over / 2.0)).abs() <= 1.5);
        }
    }
}
