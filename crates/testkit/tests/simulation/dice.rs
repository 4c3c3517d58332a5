//! Random decisions that depend only on a seed.

use std::time::Duration;

use parking_lot::Mutex;

/// A stream of random numbers. Each part of the simulation has its own, so that an additional number in one part
/// changes nothing in another.
#[derive(Debug)]
pub(super) struct Dice(Mutex<fastrand::Rng>);

impl Dice {
    /// Creates the stream with this name.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let salt = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(Mutex::new(fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)))
    }

    /// Returns true with this probability.
    pub(super) fn chance(&self, probability: f64) -> bool {
        self.0.lock().f64() < probability
    }

    /// Returns a number from `low` to `high`, both included.
    pub(super) fn between(&self, low: usize, high: usize) -> usize {
        self.0.lock().usize(low..=high)
    }

    /// Returns one of `choices`.
    pub(super) fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.between(0, choices.len() - 1)]
    }

    /// Returns a duration up to `most`. Short ones are likelier.
    pub(super) fn span(&self, most: Duration) -> Duration {
        let share = self.0.lock().f64();
        most.mul_f64(share * share * share)
    }

    /// Returns 128 random bits.
    pub(super) fn bits(&self) -> u128 {
        self.0.lock().u128(..)
    }
}
