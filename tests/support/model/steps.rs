//! What happens, in which order: random tasks, in batches, and a clock.

use jiff::{SignedDuration, Timestamp};

use super::super::contract::Task;
use super::random::Random;

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These tasks arrive, in one batch.
    Arrive(Vec<Task>),
    /// So many seconds pass.
    Pass(i64),
    /// The holds that have run out are ended.
    Expire,
    /// What is due is done.
    Due,
}

/// `count` tasks that are the same for the same seed and prefix; none of them depends on a clock, as
/// long as they are done within minutes.
pub(crate) fn tasks(seed: u64, count: usize, prefix: &str) -> Vec<Task> {
    let mut random = Random::new(seed, prefix, None);
    (0..count).map(|_| random.task()).collect()
}

/// Tasks in batches, and a clock that moves on from `now`.
pub(crate) fn steps(seed: u64, count: usize, now: Timestamp) -> Vec<Step> {
    let mut random = Random::new(seed, "a", Some(now));
    let mut steps = vec![];
    let mut left = count;
    while left > 0 {
        let most = if random.chance(10) { 40 } else { 8 };
        let batch = (1 + random.below(most)).min(left);
        left -= batch;
        steps.push(Step::Arrive((0..batch).map(|_| random.task()).collect()));
        if random.chance(50) {
            let seconds = random.below(15) as i64;
            random.now = random.now.map(|now| now + SignedDuration::from_secs(seconds));
            steps.push(Step::Pass(seconds));
        }
        // Both are late at times.
        if random.chance(40) {
            steps.push(Step::Expire);
        }
        if random.chance(60) {
            steps.push(Step::Due);
        }
    }
    steps
}
