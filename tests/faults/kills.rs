//! SIGKILL, again and again.

use std::time::{Duration, Instant};

use crate::load::{self, Load};
use crate::reckoning::{Archive, reckon};
use crate::support::{World, within};
use crate::{QUICK, seconds, turn};

const KILLS: usize = 10;

/// The payments that are committed.
async fn committed(world: &World) -> usize {
    let count = world.rows("SELECT count(*) AS n FROM payment", &[]).await[0]["n"].as_u64();
    usize::try_from(count.expect("a count")).expect("few")
}

async fn committed_beyond(world: &World, count: usize) {
    within(Duration::from_secs(60), &format!("more than {count} payments"), async || committed(world).await > count)
        .await;
}

#[tokio::test]
async fn ten_kills_during_50_000_tasks_lose_and_double_nothing() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let began = Instant::now();
    let publishing = Load::of(50_000).publish(&world, Duration::ZERO);
    let mut back = Vec::new();
    for kill in 1..=KILLS {
        committed_beyond(&world, kill * 4_000).await;
        daemon.kill();
        let killed = jiff::Timestamp::now();
        daemon = world.starting_daemon();
        // Received by the new one: what the old one had under way may still be committed.
        let first = "SELECT extract(epoch FROM min(settled_at) - $1::timestamptz)::float8 AS seconds
                       FROM payment WHERE received_at > $1 HAVING count(*) > 0";
        let first = world.row("a commit of the new daemon", first, &[&killed]).await;
        back.push(first["seconds"].as_f64().expect("seconds"));
    }
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    let worst = back.iter().copied().fold(0.0, f64::max);
    println!(
        "ten kills: {reckoning:?} in {}; first commit after a restart: worst {worst:.2} s of {back:.2?}",
        seconds(began.elapsed())
    );
    daemon.stop().await;
}

#[tokio::test]
async fn two_daemons_on_one_queue_of_which_one_is_killed_again_and_again() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    load::declare(&world).await;
    let archive = Archive::open(&world).await;
    let steady = world.daemon().await;
    // Opened and funded by one: between two daemons nothing keeps the order of arrival.
    Load::prepare(&world).await;
    let mut other = world.daemon().await;
    let publishing = Load::of(20_000).publish(&world, Duration::ZERO);
    for kill in 1..=5 {
        committed_beyond(&world, kill * 3_000).await;
        other.kill();
        other = world.daemon().await;
    }
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    println!("two daemons: {reckoning:?}");
    other.stop().await;
    steady.stop().await;
}
