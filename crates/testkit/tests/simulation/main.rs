//! Simulates the whole pipeline (intake, lanes, workers, acknowledgements, scheduler, relay, outbox sweeper, drain)
//! on a paused clock. The broker and the store are simulated, and their faults depend on a seed.
//!
//! Everything else is the daemon's own code. A run has one thread, one clock and one seed, and the same seed gives
//! the same run. A failure is reported with its seed, and `SETTLED_SIM_SEED=<seed> cargo test --test simulation --
//! --nocapture` prints the run step by step.
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
mod journal;
mod judge;
mod message;
mod queue;
mod settings;
mod sink;
mod store;
mod sweeper;
mod tests;
mod weather;
mod worker;
mod workload;
mod world;

use std::sync::Arc;
use std::time::Duration;

use self::crew::Crew;
use self::judge::Report;
use self::world::{Flaw, World};

/// Limit, in simulated time, for finishing all work after the faults have stopped.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs one simulation. With `tell`, each step is recorded.
fn run(seed: u64, flaw: Flaw, tell: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let world = World::new(seed, flaw, tell);
        let crew = Crew::muster(&world);
        let faults = async {
            for gust in &world.weather.gusts {
                tokio::time::sleep_until(world.start + gust.at).await;
                crew.suffer(&world, gust.fault);
            }
        };
        let ((), ()) = tokio::join!(faults, publish(&world));
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

/// Publishes each message of the load at its time.
async fn publish(world: &Arc<World>) {
    for (number, sent) in world.load.messages.iter().enumerate() {
        tokio::time::sleep_until(world.start + sent.at).await;
        world.journal.note(|| format!("message {number}, {:?}: {}", sent.kind, sent.body));
        world.queue.lock().publish(number);
    }
    tokio::time::sleep_until(world.start + world.weather.length).await;
}
