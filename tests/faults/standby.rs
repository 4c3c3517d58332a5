//! Replication is cut, so that commits wait for the standby. Something ends their wait, so that they
//! can be seen on the primary, and then the primary is lost: whatever was acknowledged or told by
//! then has to be on the standby.

use std::time::Duration;

use settled_testkit::harness::{self, Daemon, World, eventually, postgres_with, transfer, within};
use settled_testkit::servers::{PrivateServers, ServersOptions, StopMode};

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, turn};

const PAYMENTS: usize = 50;

/// A commit is given up after 6 seconds.
const LIMITS: [&str; 2] = ["postgres.statement_timeout = \"1s\"", "postgres.lock_timeout = \"500ms\""];

/// How long a step may take: a commit that waits may have to be given up before the next one waits.
const STEP: Duration = Duration::from_secs(60);

/// How often what waits is disturbed.
const ROUNDS: usize = 4;

/// What ends the wait of a commit for the standby.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    /// The primary is restarted: what it has committed can be seen.
    Restart,
    /// `pg_terminate_backend`: PostgreSQL warns and closes the connection.
    Terminate,
    /// `pg_cancel_backend`: PostgreSQL warns, and COMMIT succeeds.
    Cancel,
}

impl Disturbance {
    async fn strike(self, world: &World, servers: &PrivateServers) {
        let end = |how: &str| format!("SELECT {how}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
        match self {
            Self::Restart => {
                servers.stop_postgres(StopMode::Fast).await.expect("it stops");
                servers.start_postgres().await.expect("it starts");
            }
            Self::Terminate => drop(world.sql().await.query(&end("pg_terminate_backend"), &[]).await.expect("ended")),
            Self::Cancel => drop(world.sql().await.query(&end("pg_cancel_backend"), &[]).await.expect("ended")),
        }
    }
}

/// Daemons on a pair of servers whose replication is cut, with payments that wait for it.
struct Ordeal {
    world: World,
    servers: PrivateServers,
    daemons: Vec<Daemon>,
    archive: Archive,
    load: Load,
    /// How many events there were before.
    events: u32,
}

impl Ordeal {
    async fn begin(daemons: usize) -> Self {
        let mut ordeal = Self::cut_off(daemons).await;
        ordeal.load = Load::of(PAYMENTS).publish_now(&ordeal.world).await;
        eventually("commits wait for the standby", async || ordeal.waiters().await > 0).await;
        ordeal
    }

    /// Nothing is published yet.
    async fn cut_off(daemons: usize) -> Self {
        let servers = postgres_with(ServersOptions { standby: true, ..ServersOptions::default() }).await;
        let world = World::between(harness::servers().await, &servers, &[&QUICK[..], &LIMITS].concat()).await;
        let archive = Archive::open(&world).await;
        let mut crew = Vec::new();
        for _ in 0..daemons {
            crew.push(world.daemon().await);
        }
        Load::prepare(&world).await;
        crew[0].empties_the_outbox().await;
        let events = archive.count(&world).await;
        servers.cut_standby().await.expect("replication is cut");
        Self { world, servers, daemons: crew, archive, load: Load::default(), events }
    }

    async fn waiters(&self) -> u64 {
        let query = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let rows = self.world.try_rows(query, &[]).await;
        rows.and_then(|rows| rows[0]["n"].as_u64()).unwrap_or(0)
    }

    /// How many tasks the daemons hold.
    async fn in_flight(&mut self) -> f64 {
        let mut sum = 0.0;
        for daemon in &mut self.daemons {
            sum += daemon.metric("settled_tasks_in_flight", &[]).await;
        }
        sum
    }

    /// Ends what waits, again and again: whoever takes that for a commit acknowledges all of it.
    async fn suffers(&mut self, disturbance: Disturbance) {
        for _ in 0..ROUNDS {
            within(STEP, "a commit waits for the standby, or there is no more", async || {
                self.waiters().await > 0 || self.in_flight().await == 0.0
            })
            .await;
            disturbance.strike(&self.world, &self.servers).await;
        }
    }

    /// The primary is lost, and everything has to be on the standby.
    async fn fail_over(self) {
        let told = self.archive.count(&self.world).await - self.events;
        self.servers.promote().await.expect("the standby takes over");
        reckon(&self.world, &self.load, &self.archive).await;
        assert_eq!(told, 0, "events were told of what nobody but the lost primary knew");
        self.end().await;
    }

    async fn end(self) {
        for mut daemon in self.daemons {
            daemon.ready().await;
            daemon.stop().await;
        }
        self.servers.shutdown().await.expect("nothing is left");
    }
}

async fn survive(disturbance: Disturbance) {
    let _turn = turn().await;
    let mut ordeal = Ordeal::begin(1).await;
    ordeal.suffers(disturbance).await;
    ordeal.fail_over().await;
}

#[tokio::test]
async fn what_is_acknowledged_after_a_restart_of_the_primary_is_on_the_standby() {
    survive(Disturbance::Restart).await;
}

#[tokio::test]
async fn what_is_acknowledged_after_waiting_sessions_were_terminated_is_on_the_standby() {
    survive(Disturbance::Terminate).await;
}

#[tokio::test]
async fn what_is_acknowledged_after_waiting_commits_were_cancelled_is_on_the_standby() {
    survive(Disturbance::Cancel).await;
}

#[tokio::test]
async fn what_another_daemon_finds_committed_is_not_acknowledged_before_it_is_on_the_standby() {
    let _turn = turn().await;
    let mut ordeal = Ordeal::begin(2).await;
    Disturbance::Restart.strike(&ordeal.world, &ordeal.servers).await;
    // What it had goes to the other one, which finds some of it.
    ordeal.daemons.remove(0).kill();
    ordeal.suffers(Disturbance::Cancel).await;
    ordeal.fail_over().await;
}

#[tokio::test]
async fn who_waits_for_an_outcome_is_not_told_of_one_that_may_be_lost() {
    let _turn = turn().await;
    let mut ordeal = Ordeal::cut_off(1).await;
    let (file, task) = (tempfile::NamedTempFile::new().expect("a file"), transfer("world", "rich:0", 7));
    std::fs::write(file.path(), task.body()).expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    let publish = ["publish", &path, "--wait", "--timeout", "15s"];
    let disturbed = async {
        let seen = "SELECT 1 FROM payment WHERE id = $1";
        within(STEP, "its row can be seen", async || {
            Disturbance::Cancel.strike(&ordeal.world, &ordeal.servers).await;
            ordeal.world.try_rows(seen, &[&task.id]).await.is_some_and(|rows| !rows.is_empty())
        })
        .await;
    };
    let (told, ()) = tokio::join!(ordeal.world.run(&publish), disturbed);
    assert_eq!(told.code, 69, "{told:?}");
    ordeal.load.add(&task);
    ordeal.fail_over().await;
}

#[tokio::test]
async fn intake_goes_on_by_itself_once_the_standby_is_back() {
    let _turn = turn().await;
    let mut ordeal = Ordeal::begin(1).await;
    Disturbance::Cancel.strike(&ordeal.world, &ordeal.servers).await;
    ordeal.daemons[0].pauses("synchronous").await;
    let sessions = async |ordeal: &Ordeal| {
        let query = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'settled'";
        ordeal.world.rows(query, &[]).await[0]["n"].as_u64().expect("a count")
    };
    // It doesn't leave one waiting session after another behind.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (kept, waiting) = (sessions(&ordeal).await, ordeal.waiters().await);
    assert!(kept <= 16 && waiting <= 8, "{kept} sessions, {waiting} of them wait");
    assert!(ordeal.daemons[0].metric("settled_tasks_in_flight", &[]).await > 0.0, "nothing may be acknowledged yet");
    ordeal.servers.rejoin_standby().await.expect("the standby is back");
    ordeal.daemons[0].ready().await;
    reckon(&ordeal.world, &ordeal.load, &ordeal.archive).await;
    ordeal.end().await;
}

#[tokio::test]
async fn an_audit_on_the_standby_passes_and_finds_what_is_wrong() {
    let _turn = turn().await;
    let servers = postgres_with(ServersOptions { standby: true, ..ServersOptions::default() }).await;
    let world = World::between(harness::servers().await, &servers, &QUICK).await;
    let daemon = world.daemon().await;
    Load::prepare(&world).await;
    daemon.stop().await;
    let url = world.postgres_url.split('?').next().expect("a URL");
    let standby = format!("postgres.url = \"{url}?target_session_attrs=read-only\"");
    world.configure(&[&QUICK[..], &[&standby]].concat());
    eventually("the standby has replayed what it has", async || world.run(&["audit", "--json"]).await.code == 0).await;
    let report = world.audit().await;
    assert_eq!(report["is_standby"], true, "{report}");
    assert!(report["replayed_until"].is_string(), "{report}");

    // Two accounts, so that the currency still sums to zero.
    let break_it = "UPDATE account SET posted = posted + CASE name WHEN 'rich:0' THEN 1 ELSE -1 END
                     WHERE name IN ('rich:0', 'rich:1')";
    world.sql().await.batch_execute(break_it).await.expect("broken");
    eventually("it is found on the standby", async || world.run(&["audit"]).await.code == 1).await;
    assert!(world.broken("account_posted").await.len() == 2, "both accounts");
    let mut found = 0;
    for part in ["1/2", "2/2"] {
        let report = world.run(&["audit", "--json", "--part", part]).await.json();
        let checks = report["checks"].as_array().expect("checks");
        let posted = checks.iter().find(|check| check["name"] == "account_posted").expect("the check");
        found += posted["violations"].as_u64().expect("a number");
    }
    assert_eq!(found, 2, "each in one part");
    servers.shutdown().await.expect("nothing is left");
}
