//! What else a load has beside good payments, and in which order.

use std::collections::BTreeMap;

use clap::Args;
use fastrand::Rng;

use crate::values::share;

/// The share of each kind of message, from 0 to 1, where it is given; the rest are good payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Args)]
pub(crate) struct Mix {
    /// Messages that repeat an earlier one; a share such as 1% or 0.01, as all of these
    #[arg(long = "duplicates", value_name = "SHARE", value_parser = share)]
    pub(crate) duplicate: Option<f64>,
    /// Messages that repeat an earlier id with another amount
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) altered: Option<f64>,
    /// Messages that are no task
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) malformed: Option<f64>,
    /// Payments without the funds for it
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) insufficient: Option<f64>,
    /// Payments to an account that does not exist
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) unknown_account: Option<f64>,
    /// Payments in a currency that the accounts do not have
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) wrong_currency: Option<f64>,
}

/// What a message of the load is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Good,
    Duplicate,
    Altered,
    Malformed,
    Insufficient,
    UnknownAccount,
    WrongCurrency,
}

impl Mix {
    pub(crate) const FAULTY: Self = Self {
        duplicate: Some(0.01),
        altered: Some(0.002),
        malformed: Some(0.002),
        insufficient: Some(0.005),
        unknown_account: Some(0.001),
        wrong_currency: Some(0.001),
    };

    /// Returns these shares, and those of `usual` where none is given.
    pub(crate) fn or(self, usual: Self) -> Self {
        Self {
            duplicate: self.duplicate.or(usual.duplicate),
            altered: self.altered.or(usual.altered),
            malformed: self.malformed.or(usual.malformed),
            insufficient: self.insufficient.or(usual.insufficient),
            unknown_account: self.unknown_account.or(usual.unknown_account),
            wrong_currency: self.wrong_currency.or(usual.wrong_currency),
        }
    }

    fn shares(&self) -> [(Part, &'static str, f64); 6] {
        [
            (Part::Duplicate, "duplicates", self.duplicate),
            (Part::Altered, "altered", self.altered),
            (Part::Malformed, "malformed", self.malformed),
            (Part::Insufficient, "insufficient", self.insufficient),
            (Part::UnknownAccount, "unknown_account", self.unknown_account),
            (Part::WrongCurrency, "wrong_currency", self.wrong_currency),
        ]
        .map(|(part, name, share)| (part, name, share.unwrap_or_default()))
    }

    pub(crate) fn total(&self) -> f64 {
        self.shares().iter().map(|(.., share)| share).sum()
    }

    /// The shares by name, those of nothing left out.
    pub(crate) fn by_name(&self) -> BTreeMap<String, f64> {
        let shares = self.shares().into_iter().filter(|(.., share)| *share > 0.0);
        shares.map(|(_, name, share)| (name.to_owned(), share)).collect()
    }
}

/// Says what the next messages are to be.
#[derive(Debug)]
pub(super) struct Mixer {
    mix: Mix,
    made: usize,
    made_of_part: [usize; 6],
}

impl Mixer {
    pub(super) fn new(mix: Mix) -> Self {
        Self { mix, made: 0, made_of_part: [0; 6] }
    }

    /// The parts of the next `count` messages, mixed. Of all messages so far, however many, each
    /// part has its share, rounded down. The very first is a good payment, so that there is one to
    /// repeat.
    pub(super) fn parts(&mut self, count: usize, rng: &mut Rng) -> Vec<Part> {
        let first = self.made == 0;
        self.made += count;
        let mut parts = Vec::with_capacity(count);
        for ((part, _, share), made) in self.mix.shares().into_iter().zip(&mut self.made_of_part) {
            // Not 28 of 29 % of 100 because of the last binary digit.
            let due = (share * self.made as f64 + 1e-9) as usize;
            // What finds no room now is due the next time.
            let more = (due - *made).min(count - parts.len());
            parts.extend(std::iter::repeat_n(part, more));
            *made += more;
        }
        parts.resize(count, Part::Good);
        rng.shuffle(&mut parts);
        if first && let Some(good) = parts.iter().position(|part| *part == Part::Good) {
            parts.swap(0, good);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_share_in_whatever_blocks_it_is_made() {
        let mix = Mix { duplicate: Some(0.29), malformed: Some(0.0031), ..Mix::default() };
        for block in [1, 7, 100, 1000] {
            let (mut rng, mut mixer) = (Rng::with_seed(3), Mixer::new(mix));
            let blocks = (0..1000).step_by(block).map(|made| block.min(1000 - made));
            let parts: Vec<Part> = blocks.flat_map(|count| mixer.parts(count, &mut rng)).collect();
            let count = |part| parts.iter().filter(|other| **other == part).count();
            assert_eq!(parts[0], Part::Good);
            let counts = (count(Part::Duplicate), count(Part::Malformed), parts.len());
            assert_eq!(counts, (290, 3, 1000), "{block}");
        }
    }

    #[test]
    fn only_what_there_is_has_a_name() {
        let mix = Mix { altered: Some(0.5), ..Mix::default() };
        assert_eq!(mix.by_name(), BTreeMap::from([("altered".to_owned(), 0.5)]));
        assert!((Mix::FAULTY.total() - 0.021).abs() < 1e-12);
    }
}
