//! PostgreSQL is there, but ends sessions, keeps locks, or takes no writes.

use std::time::Duration;

use settled_testkit::harness::{SOON, World, eventually, within};

use crate::load::Load;
use crate::reckoning::{finish, settled};
use crate::{QUICK, down, ordeal, told, turn};

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'settled'";

#[tokio::test]
async fn sessions_that_are_ended_in_the_middle_of_a_batch_lose_and_double_nothing() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let admin = world.sql().await;
    let publishing = Load::of(15_000).publish(&world, Duration::ZERO);
    let mut ended = 0;
    while !publishing.is_done() || daemon.metric("settled_tasks_in_flight", &[]).await > 0.0 {
        ended += admin.query(TERMINATE, &[]).await.expect("terminated").len();
        tokio::time::sleep(Duration::from_millis(37)).await;
        // In the end it must get through.
        if ended > 400 {
            break;
        }
    }
    let load = publishing.done().await;
    let unknown = daemon.metric("settled_unknown_commits_total", &[]).await;
    println!("ended sessions: {ended}, unknown commits: {unknown}");
    finish("ended sessions", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_lock_held_longer_than_its_timeout_pauses_intake_and_dead_letters_nothing() {
    let _turn = turn().await;
    // Longer than lanes wait for each other, on a machine that compiles as well.
    let (world, archive, mut daemon) =
        ordeal(World::new(&[&QUICK[..], &["postgres = { lock_timeout = \"1s\" }"]].concat()).await).await;
    let other = world.sql().await;
    let locks =
        ["LOCK TABLE account IN ACCESS EXCLUSIVE MODE", "SELECT 1 FROM account WHERE name = 'rich:3' FOR UPDATE"];
    let mut pauses = 0;
    for lock in locks {
        other.batch_execute(&format!("BEGIN; {lock}")).await.expect("locked");
        let load = Load::of(2_000).publish_now(&world).await;
        daemon.pauses("lock").await;
        // Several times the timeout, so that every lane has met it again and again.
        let retries = daemon.metric("settled_retries_total", &[]).await;
        within(SOON, "more attempts", async || daemon.metric("settled_retries_total", &[]).await > retries + 4.0).await;
        assert_eq!(daemon.get("/livez").await.0, 200);
        other.batch_execute("ROLLBACK").await.expect("unlocked");
        daemon.ready().await;
        settled(&world, &load).await;
        let again = told(&daemon, "intake is paused", "settled_pipeline::health");
        assert_eq!(again, pauses + 1, "said once for each lock\n{}", daemon.tail());
        pauses = again;
        // Each load counts its own dead letters.
        world.sql().await.batch_execute("DELETE FROM dead_letter").await.expect("deleted");
    }
    assert_eq!(told(&daemon, "dependency is down", "postgres"), 0, "it answered all the time\n{}", daemon.tail());
    let load = Load::of(500).publish_now(&world).await;
    finish("locks", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_database_that_turns_read_only_is_waited_for() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let admin = world.sql().await;
    let read_only = |value| format!("ALTER DATABASE {} SET default_transaction_read_only = {value}", world.name);
    admin.batch_execute(&read_only("on")).await.expect("altered");
    admin.batch_execute(TERMINATE).await.expect("terminated");
    let load = Load::of(1_000).publish_now(&world).await;
    // The connections that were there have ended, which may be noticed first.
    eventually("that it takes no writes is seen", async || {
        let reason = down(&mut daemon, "postgres").await;
        reason.contains("writ") || reason.contains("read")
    })
    .await;
    admin.batch_execute(&read_only("off")).await.expect("altered");
    daemon.ready().await;
    finish("read-only", &world, &load, &archive, daemon).await;
}
