//! Random sequences of events: batches of tasks, and a clock.

use jiff::{SignedDuration, Timestamp};

use super::super::contract::Task;
use super::random::Random;

/// One event of a sequence.
#[derive(Clone, Debug)]
pub enum Step {
    /// These tasks arrive, in one batch.
    Arrive(Vec<Task>),
    /// This many seconds pass.
    Pass(i64),
    /// Expired holds are ended.
    Expire,
    /// Due tasks are processed.
    Due,
}

/// Returns `count` tasks that depend only on the seed and the prefix. Their outcomes don't depend on the clock if all
/// are processed within minutes.
pub fn tasks(seed: u64, count: usize, prefix: &str) -> Vec<Task> {
    let mut random = Random::new(seed, prefix, None);
    (0..count).map(|_| random.task()).collect()
}

/// Returns random tasks in batches, with a clock that starts at `now`.
pub fn steps(seed: u64, count: usize, now: Timestamp) -> Vec<Step> {
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
        // Both sometimes happen late.
        if random.chance(40) {
            steps.push(Step::Expire);
        }
        if random.chance(60) {
            steps.push(Step::Due);
        }
    }
    steps
}
