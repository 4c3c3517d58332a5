//! Each alert of P0 and P1 fires after its fault in a real daemon, as a real Prometheus evaluates the rules as they are.
//! While both servers restart, none of P0 does.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use settled_testkit::harness::prometheus::{Alert, Prometheus};
use settled_testkit::harness::{self, Daemon, Publisher, World, own_servers, postgres_with, transfer, within};
use settled_testkit::servers::{PrivateServers, ServersOptions, StopMode};

use crate::reflexes::{REFUSE, data_directory, faketime, faketime_variables, leave_free};
use crate::{QUICK, seconds, turn};

pub(crate) const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/alerts.yml");

/// A minute is promised; twice that for a machine that compiles.
const PROMISED: Duration = Duration::from_secs(120);

/// When the fault of each alert began that has to fire. The instance is named like the alert.
struct Watch {
    prometheus: Prometheus,
    expected: BTreeMap<&'static str, Instant>,
    fired: BTreeMap<&'static str, Duration>,
}

impl Watch {
    async fn start() -> Self {
        let prometheus = Prometheus::start(Path::new(RULES)).await;
        Self { prometheus, expected: BTreeMap::new(), fired: BTreeMap::new() }
    }

    async fn scrape(&mut self, instance: &str, daemon: &mut Daemon) {
        self.prometheus.scrape(instance, daemon.admin().expect("it is ready"));
    }

    /// The fault that leads to this alert has just begun.
    fn expect(&mut self, alert: &'static str) {
        self.expected.insert(alert, Instant::now());
    }

    /// Waits until all that is expected fires, doing `meanwhile` again and again.
    async fn all_fire(&mut self, mut meanwhile: impl AsyncFnMut()) {
        let Self { prometheus, expected, fired } = self;
        let names: Vec<_> = expected.keys().copied().collect();
        within(PROMISED, &format!("{names:?} fire"), async || {
            meanwhile().await;
            for Alert { severity, name, instance } in prometheus.firing().await {
                let known = expected.get(name.as_str()).filter(|_| instance == name);
                if let (Some(began), Some(own)) = (known, names.iter().find(|own| **own == name)) {
                    fired.entry(own).or_insert_with(|| {
                        println!("{severity} {name}: fired {} after its fault", seconds(began.elapsed()));
                        began.elapsed()
                    });
                }
            }
            names.iter().all(|name| fired.contains_key(name))
        })
        .await;
    }
}

/// Returns the names of the alerts of P0 and P1 in the rules.
fn urgent() -> Vec<String> {
    let rules = std::fs::read_to_string(RULES).expect("the rules");
    let urgent = rules.split("- alert: ").skip(1).filter(|rule| !rule.contains("severity: P2"));
    urgent.filter_map(|rule| rule.lines().next()).map(str::to_owned).collect()
}

/// Restarts PostgreSQL and then RabbitMQ, and waits each time until the daemon is ready again.
pub(crate) async fn restart_both(servers: &PrivateServers, stop: StopMode, daemon: &mut Daemon) {
    servers.stop_postgres(stop).await.expect("it stops");
    servers.start_postgres().await.expect("it starts");
    daemon.ready().await;
    servers.stop_rabbitmq().await.expect("it stops");
    servers.start_rabbitmq().await.expect("it starts");
    daemon.ready().await;
}

async fn at_work(watch: &mut Watch, instance: &str, overrides: &[&str]) -> (World, Daemon) {
    let (world, mut daemon) = World::with_daemon(&[&QUICK[..], overrides].concat()).await;
    world.open_world_and_alice().await;
    watch.scrape(instance, &mut daemon).await;
    (world, daemon)
}

/// Makes each batch find that what it wrote is not there.
const BREAK: &str = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER lose BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION lose()";

#[tokio::test]
#[ignore = "minutes long, and what it waits for has the pace of the alerts: make alerts"]
async fn each_alert_of_p0_and_p1_fires_after_its_fault() {
    if !geteuid().is_root() {
        println!("skipped: only root can give PostgreSQL a disk that is full soon");
        return;
    }
    let _turn = turn().await;
    let watch = &mut Watch::start().await;

    // The daemons, and who does nothing wrong.
    let (_well, _healthy) = at_work(watch, "healthy", &[]).await;
    let (disagrees, _disagreeing) = at_work(watch, "SettledUnprocessable", &[]).await;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let listen = format!("admin.listen = \"{port}\"");
    let (broken, mut crashing) = at_work(watch, "SettledCrashLoop", &[&listen]).await;
    let clock = World::new(&QUICK).await;
    let (time, library) = (clock.file("time"), faketime());
    std::fs::write(&time, "+0").expect("written");
    let mut back = clock.starting_daemon_with(&faketime_variables(&library, &time));
    back.ready().await;
    watch.scrape("SettledClockBack", &mut back).await;
    let (differs, other_time) = (World::new(&QUICK).await, broken.file("other-time"));
    std::fs::write(&other_time, "+0").expect("written");
    let mut ahead = differs.starting_daemon_with(&faketime_variables(&library, &other_time));
    ahead.ready().await;
    watch.scrape("SettledClocksDiffer", &mut ahead).await;
    let (_away, mut gone) = at_work(watch, "SettledAway", &[]).await;
    let (paused, _pausing) = at_work(watch, "SettledPaused", &[]).await;
    let patient = "postgres = { lock_timeout = \"100s\", statement_timeout = \"110s\" }";
    let liveness = "admin.liveness_timeout = \"120s\"";
    let (locked, _stuck) = at_work(watch, "SettledNoProgress", &[patient, liveness]).await;
    let (late, mut scheduling) = at_work(watch, "SettledSchedulerLate", &[]).await;
    let (rubbish, _reading) = at_work(watch, "SettledPublisherRubbish", &[]).await;
    let (acts, _acting) = at_work(watch, "SettledReflex", &["reflexes.invariant = \"act\""]).await;
    let servers = postgres_with(ServersOptions { postgres_space: Some(320 << 20), ..ServersOptions::default() }).await;
    let full = World::between(harness::servers().await, &servers, &QUICK).await;
    let directory = data_directory(&full).await;
    let disk = format!("reflexes.disk_paths = [{:?}]", directory.display().to_string());
    full.configure(&[&QUICK[..], &[&disk]].concat());
    let mut filling = full.daemon().await;
    watch.scrape("SettledDiskLow", &mut filling).await;
    watch.scrape("SettledDependencyDown", &mut filling).await;
    watch.prometheus.scraped().await;

    // Their faults.
    for (world, alert) in [(&disagrees, "SettledUnprocessable"), (&acts, "SettledReflex")] {
        world.sql().await.batch_execute(REFUSE).await.expect("a constraint");
        world.publisher().await.publish(&transfer("world", "alice", 1).with("reference", "poison")).await;
        watch.expect(alert);
    }
    broken.sql().await.batch_execute(BREAK).await.expect("a trigger");
    watch.expect("SettledCrashLoop");
    std::fs::write(&time, "-3600").expect("written");
    watch.expect("SettledClockBack");
    std::fs::write(&other_time, "+600").expect("written");
    watch.expect("SettledClocksDiffer");
    gone.kill();
    watch.expect("SettledAway");
    paused.sql().await.batch_execute("ALTER TABLE outbox RENAME TO elsewhere").await.expect("renamed");
    paused.publisher().await.publish(&transfer("world", "alice", 1)).await;
    watch.expect("SettledPaused");
    let _lock = locked.lock("SELECT FROM account FOR UPDATE").await;
    locked.publisher().await.publish(&transfer("world", "alice", 1)).await;
    watch.expect("SettledNoProgress");
    // Late enough to be scheduled and not done at once, however slow the machine is.
    let (soon, due) = (Duration::from_secs(15), Instant::now() + Duration::from_secs(15));
    let soon = format!("{:.3}", jiff::Timestamp::now() + soon);
    late.publisher().await.publish(&transfer("world", "alice", 1).with("execute_at", soon)).await;
    scheduling.counts("settled_outcomes_total", &[("outcome", "scheduled")], 1).await;
    let _later = late.lock("LOCK TABLE agenda IN SHARE ROW EXCLUSIVE MODE").await;
    watch.expected.insert("SettledSchedulerLate", due);
    let publisher = rubbish.publisher().await;
    for number in 0..150 {
        publisher.raw("task.transfer", format!("{{\"nonsense\": {number}}}").as_bytes(), Default::default()).await;
    }
    watch.expect("SettledPublisherRubbish");
    leave_free(&directory.join("ballast-of-a-test"), 0.03);
    watch.expect("SettledDiskLow");
    servers.stop_postgres(StopMode::Fast).await.expect("it stops");
    watch.expect("SettledDependencyDown");

    // As systemd does it, and somebody publishes all the time.
    let sender: Publisher = broken.publisher().await;
    watch
        .all_fire(async || {
            if !crashing.is_running() {
                assert!(crashing.log().contains("an invariant doesn't hold"), "{}", crashing.tail());
                tokio::time::sleep(Duration::from_millis(500)).await;
                crashing = broken.starting_daemon();
            }
            sender.publish(&transfer("world", "alice", 1)).await;
        })
        .await;
    let others: Vec<_> =
        watch.prometheus.firing().await.into_iter().filter(|alert| alert.instance == "healthy").collect();
    assert!(others.is_empty(), "{others:?}");

    // All but those that take a broker of their own.
    let unfired: Vec<_> = urgent().into_iter().filter(|name| !watch.fired.contains_key(name.as_str())).collect();
    assert_eq!(unfired, ["SettledBrokerBlocked", "SettledOutboxOld"]);
    servers.shutdown().await.expect("nothing is left");
}

#[tokio::test]
#[ignore = "minutes long, and what it waits for has the pace of the alerts: make alerts"]
async fn late_events_fire_an_alert_and_restarts_of_both_servers_none_of_p0() {
    let _turn = turn().await;
    let watch = &mut Watch::start().await;
    let servers = own_servers().await;
    let world = World::on(&servers, &QUICK).await;
    let mut daemon = world.daemon().await;
    world.open_world_and_alice().await;
    for alert in ["SettledBrokerBlocked", "SettledOutboxOld"] {
        watch.scrape(alert, &mut daemon).await;
    }
    // Who publishes does so before the alarm, because nobody can then.
    {
        let gate = world.lock("SELECT FROM account FOR UPDATE").await;
        let publisher = world.publisher().await;
        for _ in 0..50 {
            publisher.publish(&transfer("world", "alice", 1)).await;
        }
        servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]).await.expect("it obeys");
        daemon.reaches("settled_broker_blocked", 1.0).await;
        gate.batch_execute("COMMIT").await.expect("open");
    }
    watch.expect("SettledBrokerBlocked");
    watch.expect("SettledOutboxOld");
    watch.all_fire(async || ()).await;
    servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]).await.expect("it obeys");
    daemon.reaches("settled_broker_blocked", 0.0).await;

    for stop in [StopMode::Fast, StopMode::Kill] {
        restart_both(&servers, stop, &mut daemon).await;
        world.settle(&[transfer("world", "alice", 1)]).await;
        watch.prometheus.evaluated().await;
    }
    println!("P1 of these minutes: {:?}", watch.prometheus.ever("P1").await);
    let seen = watch.prometheus.ever("P0").await;
    assert!(seen.is_empty(), "{seen:?}");
    daemon.stop().await;
    servers.shutdown().await.expect("nothing is left");
}
