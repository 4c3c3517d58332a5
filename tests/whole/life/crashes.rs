//! SIGKILL in the middle of legs, expiries and schedules.

use std::time::{Duration, Instant};

use settled_testkit::harness::{Task, authorize, split, transfer, within};

use super::{soon, with_accounts};

const KILLS: usize = 20;
/// Of each kind, at a time.
const EACH: usize = 40;
/// When it was all too late.
const AGAIN: Duration = Duration::from_secs(6);

const DONE: &str = "SELECT count(*) FILTER (WHERE cause IS NULL) AS expired,
                           count(*) FILTER (WHERE from_state = 'scheduled') AS due
                      FROM transition";

/// Some of everything that a crash could tear apart: legs, holds that run out and payments that
/// fall due while daemons come and go.
fn work(published: usize) -> Vec<Task> {
    (0..EACH)
        .flat_map(|nth| {
            let due = soon((nth * 61 % 2_900) as i64 + 100);
            let legs = [("alice", "shop", 3), ("alice", "fee", 2), ("bob", "tax", 1), ("bob", "fee", 4)];
            [
                split(&legs),
                authorize("alice", "shop", 5).with("expires_in", 1 + (published / (EACH * 4) + nth) % 2),
                transfer("bob", "shop", 7).with("execute_at", due.clone()),
                split(&legs).with("execute_at", due),
            ]
        })
        .collect()
}

#[tokio::test]
async fn twenty_kills_leave_nothing_partial_and_nothing_twice() {
    let (world, mut daemon) = with_accounts(
        &["pipeline.max_batch = 20", "broker.prefetch = 80"],
        &[("alice", 10_000_000), ("bob", 10_000_000), ("shop", 0), ("fee", 0), ("tax", 0)],
    )
    .await;
    let publisher = world.publisher().await;
    let (mut all, mut seen) = (Vec::new(), (0, 0));
    for _ in 0..KILLS {
        daemon.ready().await;
        // Not before this life has seen some of each: it dies in the middle of it. However slow the
        // machine is: what falls due in a moment has to come before that, or there is more of it.
        let mut published = Instant::now() - AGAIN;
        within(Duration::from_secs(60), "holds run out and payments fall due", async || {
            if published.elapsed() >= AGAIN && world.waiting().await == 0 {
                let tasks = work(all.len());
                publisher.publish_all(&tasks).await;
                all.extend(tasks);
                published = Instant::now();
            }
            let row = world.rows(DONE, &[]).await.remove(0);
            let now = (row["expired"].as_u64().expect("a count"), row["due"].as_u64().expect("a count"));
            let moved = now.0 > seen.0 && now.1 > seen.1;
            if moved {
                seen = now;
            }
            moved
        })
        .await;
        daemon.kill();
        daemon = world.starting_daemon();
    }
    daemon.ready().await;
    let (holds, rest): (Vec<Task>, Vec<Task>) = all.into_iter().partition(|task| task.json["type"] == "authorize");
    world.become_all("settled", &rest).await;
    world.become_all("expired", &holds).await;
    world.nothing_waits().await;
    let each = holds.len() as i64;
    assert_eq!(super::balance(&world, "alice").await, (10_000_000 - 2 * each * 5, 0));
    assert_eq!(super::balance(&world, "bob").await, (10_000_000 - 2 * each * 5 - each * 7, 0));
    assert_eq!(super::balance(&world, "fee").await, (2 * each * 6, 0));
    let entries = "SELECT count(*) AS n FROM (SELECT payment_id FROM entry JOIN payment p ON p.id = payment_id
                    WHERE p.legs = 4 GROUP BY payment_id HAVING count(*) <> 8) AS partial";
    assert_eq!(world.rows(entries, &[]).await[0]["n"], 0, "all legs or none");
    let expired = world.count("transition WHERE cause IS NULL").await;
    assert_eq!(expired, holds.len() as u64, "each hold ran out once");
    super::reckon(&world).await;
}
