//! SIGKILL, again and again.

use std::time::Duration;

use settled_testkit::harness::{World, within};

use crate::load::{self, Load};
use crate::reckoning::finish;
use crate::{QUICK, ordeal, turn};

const KILLS: usize = 25;

/// What a kill has to interrupt, or it proves little.
const LEAST_RATE: f64 = 500.0;
const LEAST_IN_FLIGHT: f64 = 50.0;

/// The payments that are committed.
pub(crate) async fn committed(world: &World) -> usize {
    usize::try_from(world.count("payment").await).expect("few")
}

async fn committed_beyond(world: &World, count: usize) {
    within(Duration::from_secs(60), &format!("more than {count} payments"), async || committed(world).await > count)
        .await;
}

/// Of what a daemon has received from a moment on, as the database tells: how many payments, from
/// the moment until the first one was committed, and until the last one.
async fn life(world: &World, from: jiff::Timestamp) -> (f64, f64, f64) {
    let query = "SELECT count(*)::float8 AS n, extract(epoch FROM min(settled_at) - $1::timestamptz)::float8 AS first,
                        extract(epoch FROM max(settled_at) - $1::timestamptz)::float8 AS last
                   FROM payment WHERE received_at > $1 HAVING count(*) > 0";
    let life = world.row("a commit of the new daemon", query, &[&from]).await;
    let number = |name: &str| life[name].as_f64().expect("a number");
    (number("n"), number("first"), number("last"))
}

#[tokio::test]
async fn twenty_five_kills_under_load_lose_and_double_nothing() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let mut since = jiff::Timestamp::now();
    let publishing = Load::of(20_000).publish(&world, Duration::ZERO);
    let (mut in_flight, mut back, mut payments, mut busy) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for kill in 1..=KILLS {
        committed_beyond(&world, kill * 600).await;
        in_flight.push(0.0);
        within(Duration::from_secs(60), "it is busy", async || {
            let tasks = daemon.metric("settled_tasks_in_flight", &[]).await;
            in_flight[kill - 1] = tasks;
            tasks >= LEAST_IN_FLIGHT
        })
        .await;
        daemon.kill();
        let killed = jiff::Timestamp::now();
        let (count, first, last) = life(&world, since).await;
        (payments, busy) = (payments + count, busy + last - first);
        since = killed;
        daemon = world.starting_daemon();
        // Received by the new one: what the old one had under way may still be committed.
        back.push(life(&world, since).await.1);
    }
    let load = publishing.done().await;
    let (rate, worst) = (payments / busy, back.iter().copied().fold(0.0, f64::max));
    println!(
        "{KILLS} kills at {rate:.0}/s with {in_flight:?} in flight; first commit after a kill and a start: worst \
          {worst:.2} s of {back:.2?}",
    );
    assert!(rate >= LEAST_RATE, "{rate}/s: the load was none");
    // Two seconds, on a machine with nothing else to do.
    assert!(worst < 10.0, "{back:?}");
    finish("kills", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn two_daemons_on_one_queue_of_which_one_is_killed_again_and_again() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    load::declare(&world).await;
    // Opened and funded by one: between two daemons nothing keeps the order of arrival.
    let (world, archive, steady) = ordeal(world).await;
    let mut other = world.daemon().await;
    let publishing = Load::of(10_000).publish(&world, Duration::ZERO);
    for kill in 1..=5 {
        committed_beyond(&world, kill * 1_500).await;
        other.kill();
        other = world.daemon().await;
    }
    let load = publishing.done().await;
    finish("two daemons", &world, &load, &archive, other).await;
    steady.stop().await;
}
