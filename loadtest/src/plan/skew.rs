//! Which accounts take part in payments, and how often.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Skew {
    Uniform,
    /// The n-th account takes part in proportion to n to the power of minus this.
    Zipf(f64),
    /// Every payment goes from the same account to the same account.
    Hot,
}

impl FromStr for Skew {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str =
            "expected uniform, hot, or zipf:EXPONENT with an exponent of 0.1 to 10, such as zipf:1.1";
        match text {
            "uniform" => Ok(Self::Uniform),
            "hot" => Ok(Self::Hot),
            _ => {
                let exponent = text.strip_prefix("zipf:").and_then(|exponent| exponent.parse().ok());
                let exponent = exponent.filter(|exponent| (0.1..=10.0).contains(exponent));
                exponent.map(Self::Zipf).ok_or_else(|| EXPECTED.to_owned())
            }
        }
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Self::Hot => f.write_str("hot"),
        }
    }
}

#[derive(Debug)]
pub(super) enum Draw {
    Even(usize),
    /// For each place the share of all draws that fall on it or on one before it.
    Weighted(Vec<f64>),
}

impl Draw {
    /// Of `places` places, at least one.
    pub(super) fn new(skew: Skew, places: usize) -> Self {
        match skew {
            Skew::Uniform => Self::Even(places),
            Skew::Hot => Self::Even(1),
            Skew::Zipf(exponent) => {
                let mut shares: Vec<f64> = (1..=places)
                    .scan(0.0, |sum, place| {
                        *sum += (place as f64).powf(-exponent);
                        Some(*sum)
                    })
                    .collect();
                let total = shares.last().copied().unwrap_or(1.0);
                shares.iter_mut().for_each(|share| *share /= total);
                Self::Weighted(shares)
            }
        }
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        match self {
            Self::Even(places) => rng.usize(..places),
            Self::Weighted(shares) => {
                let share = rng.f64();
                shares.partition_point(|until| *until <= share).min(shares.len() - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_reads_as_it_is_shown_and_says_what_it_expects() {
        for text in ["uniform", "hot", "zipf:1.1"] {
            assert_eq!(text.parse::<Skew>().map(|skew| skew.to_string()), Ok(text.to_owned()));
        }
        for text in ["zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:nan", "Uniform"] {
            assert!(text.parse::<Skew>().is_err_and(|error| error.contains("zipf:1.1")), "{text}");
        }
    }

    #[test]
    fn draws_fall_as_the_skew_says() {
        let mut rng = Rng::with_seed(1);
        let mut counts = |skew| {
            let draw = Draw::new(skew, 4);
            let mut counts = [0; 4];
            (0..100_000).for_each(|_| counts[draw.draw(&mut rng)] += 1);
            counts
        };
        assert_eq!(counts(Skew::Hot), [100_000, 0, 0, 0]);
        // 1 : 1/2 : 1/3 : 1/4 are 48, 24, 16 and 12 in 100.
        for (skew, shares) in [(Skew::Zipf(1.0), [48.0, 24.0, 16.0, 12.0]), (Skew::Uniform, [25.0; 4])] {
            for (count, share) in counts(skew).into_iter().zip(shares) {
                assert!((f64::from(count) / 1000.0 - share).abs() < 1.0, "{skew}: {count}");
            }
        }
    }
}
