//! SIGHUP under load: half of the configurations are invalid.

use std::time::Duration;

use rustix::process::Signal;
use settled_testkit::harness::{Daemon, SOON, World, within};

use crate::load::{Load, during};
use crate::reckoning::finish;
use crate::{QUICK, busy, draining, ordeal, turn};

/// Everybody may do everything.
const ALL: &str =
    "publisher = [{ name = '*', types = ['*'], debit = ['*'], credit = ['*'], accounts = ['*'], replies = ['*'] }]";

/// Nobody may do anything: what is taken under these rules becomes a dead letter.
const NOTHING: &str = "publisher = [{ name = 'nobody', types = ['transfer'] }]";

/// The versions of the configuration, of which every other one is invalid and would have tasks rejected.
fn version(number: usize) -> (Vec<String>, bool) {
    let liveness = format!("admin.liveness_timeout = '{}s'", 60 + number);
    let invalid = number % 2 == 1;
    let mut lines = vec![liveness];
    let more: &[&str] = match number % 8 {
        0 => &[ALL, "log.level = 'info'"],
        1 => &[NOTHING, "broker.prefetch = 5"],
        2 => &["retry = { initial = '1ms', max = '20ms' }", "payments.parking = '5m'"],
        3 => &[NOTHING, "log.level = 'inof'"],
        4 => &[ALL, "authority.verified = false", "log.level = 'warn'"],
        5 => &[NOTHING, "postgres.password_file = '/nowhere'"],
        6 => &["payments.currencies = ['BTC:8']", "authority.routing_key = 'require'"],
        _ => &[NOTHING, "retry = { initial = '1s', max = '1ms' }"],
    };
    lines.extend(more.iter().map(|line| (*line).to_owned()));
    (lines, invalid)
}

async fn liveness_timeout(daemon: &mut Daemon) -> f64 {
    let (_, body) = daemon.get("/livez").await;
    let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    report["liveness_timeout_seconds"].as_f64().expect("a number")
}

async fn reloads(daemon: &mut Daemon, result: &str) -> f64 {
    daemon.metric("settled_config_reloads_total", &[("result", result)]).await
}

#[tokio::test]
async fn a_hundred_reloads_under_load_of_which_half_are_invalid_lose_nothing() {
    const RELOADS: usize = 100;
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let mut in_effect = 60.0;
    let load = during(&world, 500, async {
        for number in 0..RELOADS {
            let (lines, invalid) = version(number);
            let lines: Vec<&str> = QUICK.iter().copied().chain(lines.iter().map(String::as_str)).collect();
            world.configure(&lines);
            daemon.signal(Signal::HUP);
            let result = if invalid { "failure" } else { "success" };
            let count = (number / 2 + 1) as f64;
            within(SOON, "the reload ends", async || reloads(&mut daemon, result).await == count).await;
            if !invalid {
                in_effect = 60.0 + number as f64;
            }
            assert_eq!(liveness_timeout(&mut daemon).await, in_effect, "after reload {number}");
        }
    })
    .await;
    assert_eq!(reloads(&mut daemon, "success").await + reloads(&mut daemon, "failure").await, RELOADS as f64);
    // For the audit, which reads it. No task was judged by rules of an invalid one: dead letters and rejections count.
    world.configure(&QUICK);
    finish("reloads", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_hangup_during_a_drain_changes_nothing() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let other = world.lock("LOCK TABLE account IN ACCESS EXCLUSIVE MODE").await;
    let load = Load::of(500).publish_now(&world).await;
    busy(&mut daemon, 1.0).await;
    daemon.signal(Signal::TERM);
    draining(&mut daemon).await;
    world.configure(&[&QUICK[..], &["admin.liveness_timeout = '99s'"]].concat());
    for _ in 0..10 {
        daemon.signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    within(SOON, "it is told", async || daemon.log().contains("not reloaded: the daemon stops")).await;
    assert_eq!(liveness_timeout(&mut daemon).await, 60.0);
    other.batch_execute("ROLLBACK").await.expect("unlocked");
    daemon.exits(0).await;
    let daemon = world.daemon().await;
    finish("hangups during a drain", &world, &load, &archive, daemon).await;
}
