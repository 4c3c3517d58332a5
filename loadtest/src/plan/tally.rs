//! How many messages came to what.

use std::ops::Sub;

use settled_pipeline::labels::Outcome;

/// Returns the outcome with that name and reason.
pub(crate) fn outcome_named(name: &str, reason: &str) -> Option<Outcome> {
    Outcome::all().find(|outcome| outcome.name() == name && outcome.reason() == reason)
}

/// A number for each outcome, reasons told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally([u64; Outcome::COUNT]);

impl Tally {
    /// Adds `count` messages of one outcome.
    pub(crate) fn add(&mut self, outcome: Outcome, count: u64) {
        self.0[outcome.index()] += count;
    }

    pub(crate) fn plus(mut self, other: Self) -> Self {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
        self
    }

    pub(crate) fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome.index()]
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::all().map(|outcome| (outcome, self.get(outcome))).filter(|(_, count)| *count > 0)
    }

    /// How many came to an outcome of that name, whatever the reason.
    pub(crate) fn named(&self, name: &str) -> u64 {
        self.entries().filter(|(outcome, _)| outcome.name() == name).map(|(_, count)| count).sum()
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self([0; Outcome::COUNT])
    }
}

impl FromIterator<Outcome> for Tally {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            tally.add(outcome, 1);
        }
        tally
    }
}

impl Sub for Tally {
    type Output = Self;

    /// What was added since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        let mut difference = self;
        for (count, before) in difference.0.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(before);
        }
        difference
    }
}
