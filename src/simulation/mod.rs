//! The whole pipeline (intake, lanes, workers, acknowledgements, agenda, relay, keeper, drain) on a
//! paused clock, between a simulated broker and a simulated store whose faults come from a seed.
//!
//! Everything is the daemon's own but the two sides of its seams. A run is one thread, one clock and
//! one seed, and the same seed is the same run: what fails is printed with its seed, and
//! `SETTLED_SIM_SEED=<seed> cargo test --lib simulation -- --nocapture` tells it step by step.
//!
//! What is checked, at each step or in the end:
//! - nothing is acknowledged without an outcome that is durable, on a standby too where there is one, and
//!   no tag leaves its session;
//! - nothing is applied twice, and what repeats an id with other content is a dead letter;
//! - every event that was written to the outbox is published, and no other;
//! - every bound is kept;
//! - entries, balances, holds and limits of all accounts agree;
//! - with one daemon, what comes of the tasks is what comes of them one by one in their order;
//! - a drain ends in time when nothing is broken;
//! - once the faults stop, everything gets done.

mod author;
mod books;
mod broker;
mod crew;
mod dice;
mod exchange;
mod judge;
mod store;
#[cfg(test)]
mod tests;
mod weather;
mod workload;
mod world;

use std::time::Duration;

use self::crew::Crew;
use self::judge::Report;
use self::world::World;

/// How long everything may take once the faults have stopped, in the simulation's time.
const PATIENCE: Duration = Duration::from_secs(120);

/// One run; `tell` prints each step.
fn run(seed: u64, tell: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let world = World::new(seed, tell);
        let mut crew = Crew::muster(&world);
        let weather = world.weather.clone();
        let faults = async {
            for gust in weather.gusts() {
                tokio::time::sleep_until(world.start + gust.at).await;
                crew.suffer(&world, gust).await;
            }
        };
        let ((), ()) = tokio::join!(faults, workload::publish(&world));
        world.clear_up();
        let calm = tokio::time::Instant::now();
        while !judge::is_done(&world) && !world.journal.has_violations() {
            if calm.elapsed() > PATIENCE {
                world.journal.violation(format!("stuck after the faults: {}", judge::what_is_left(&world)));
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        crew.stop(&world).await;
        judge::report(&world)
    })
}
