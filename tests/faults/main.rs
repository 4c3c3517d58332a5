//! What each fault leads to: the real daemon on real servers that are broken under load. Every
//! run ends with a reckoning: each published id has exactly one outcome, each event arrived.

mod alarm;
mod broker_away;
mod consumer;
mod cuts;
mod database_away;
mod disk_full;
mod exchange;
mod failover;
mod frozen;
mod hosts;
mod kills;
mod load;
mod reckoning;
mod sessions;
mod standby;
mod start;
mod stopping;

use std::time::Duration;

use serde_json::Value;
use settled_testkit::harness::{Daemon, SOON, own_servers, within};
use settled_testkit::servers::PrivateServers;
use tokio::sync::{Mutex, MutexGuard, OnceCell, Semaphore, SemaphorePermit};

/// Settings that make waiting short: leases and heartbeats of a second.
const QUICK: [&str; 3] =
    ["events = { lease = \"1s\", retry_held = \"1s\" }", "broker.heartbeat = \"2s\"", "log.level = \"info\""];

/// Three ordeals at a time: each wants to see what the servers do, not who starves.
async fn turn() -> SemaphorePermit<'static> {
    static TURNS: Semaphore = Semaphore::const_new(3);
    TURNS.acquire().await.expect("never closed")
}

/// Servers to break, both running: one test at a time has them.
async fn breakable() -> MutexGuard<'static, PrivateServers> {
    static SERVERS: OnceCell<Mutex<PrivateServers>> = OnceCell::const_new();
    let servers = SERVERS.get_or_init(async || Mutex::new(own_servers().await)).await.lock().await;
    // A test that failed may have left them broken.
    servers.start_postgres().await.expect("PostgreSQL starts");
    servers.start_rabbitmq().await.expect("RabbitMQ starts");
    servers
}

/// Waits until `/readyz` is 503 and gives a reason for this dependency, and answers the reason.
async fn down(daemon: &mut Daemon, dependency: &str) -> String {
    let mut reason = None;
    within(SOON, &format!("{dependency} is seen to be down"), async || {
        let (status, report) = daemon.readiness().await;
        let states = report["dependencies"].as_array().expect("dependencies");
        let state = states.iter().find(|state| state["name"] == dependency).expect("the dependency");
        reason = state["reason"].as_str().map(ToOwned::to_owned);
        status == 503 && state["up"] == false && reason.is_some()
    })
    .await;
    reason.expect("a reason")
}

/// How many log lines have this message about this dependency.
fn told(daemon: &Daemon, message: &str, dependency: &str) -> usize {
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| names(line, message) && names(line, dependency)).count()
}

fn names(line: &Value, text: &str) -> bool {
    match line {
        Value::Object(fields) => fields.values().any(|field| names(field, text)),
        Value::String(field) => field == text,
        _ => false,
    }
}

/// Seconds, for the figures that a run prints.
fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
