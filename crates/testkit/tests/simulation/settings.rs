//! Random configurations for the daemons.

use std::time::Duration;

use settled::config::Config;
use settled_pipeline::outbox::EventFormat;

use super::dice::Dice;

/// Returns the configuration of a daemon. Sizes are small, so that every limit is reached.
pub(super) fn configure(seed: u64, number: usize) -> Config {
    let dice = Dice::new(seed, &format!("daemon {number}"));
    let mut config = Config::default();
    let pipeline = &mut config.pipeline;
    pipeline.lanes = dice.between(1, 4);
    pipeline.workers = dice.between(1, pipeline.lanes);
    pipeline.max_batch = dice.one_of(&[1, 2, 5, 30]);
    pipeline.lane_capacity = pipeline.max_batch + dice.one_of(&[0, 1, 10]);
    pipeline.max_transactions = dice.between(1, 3);
    config.broker.prefetch = dice.one_of(&[1, 2, 5, 20, 100]);
    config.events.publishers = dice.between(1, 3);
    config.events.handover = dice.one_of(&[1, 5, 50, 1000]);
    config.events.format = dice.one_of(&[EventFormat::Single, EventFormat::Batch]);
    config.events.batch_events = dice.one_of(&[1, 3, 100]);
    config.events.lease = Duration::from_secs(dice.between(1, 5) as u64);
    config.events.retry_held = Duration::from_secs(1);
    // Jitter uses random numbers that don't depend on the seed.
    config.retry.jitter = 0.0;
    config.retry.conflict_attempts = dice.one_of(&[1, 20]);
    config
}
