//! What each fault leads to: the real daemon on real servers that are broken under load. Every
//! run ends with a reckoning: each published id has exactly one outcome, each event arrived.

mod alarm;
mod alerts;
mod away;
mod cluster;
mod cuts;
mod deleted;
mod healthy;
mod kills;
mod load;
mod reckoning;
mod reflexes;
mod reload;
mod sessions;
mod standby;
mod start;
mod stopping;
mod stream;

use std::time::Duration;

use serde_json::Value;
use settled_testkit::harness::{Daemon, SOON, World, own_servers, within};
use settled_testkit::servers::PrivateServers;
use tokio::sync::{Mutex, MutexGuard, OnceCell, Semaphore, SemaphorePermit};

use self::load::Load;
use self::reckoning::Archive;

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

/// Starts a daemon whose events are archived, and has it open and fund the accounts of every load.
async fn ordeal(world: World) -> (World, Archive, Daemon) {
    let archive = Archive::open(&world).await;
    let daemon = world.daemon().await;
    Load::prepare(&world).await;
    (world, archive, daemon)
}

/// Waits until the daemon has at least so many tasks in hand.
async fn busy(daemon: &mut Daemon, tasks: f64) {
    within(SOON, "it is busy", async || daemon.metric("settled_tasks_in_flight", &[]).await >= tasks).await;
}

async fn draining(daemon: &mut Daemon) {
    within(SOON, "it drains", async || daemon.readiness().await.1["status"] == "draining").await;
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
