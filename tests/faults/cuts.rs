//! Connections that are cut where it hurts, through proxies that know the protocols.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use settled_testkit::harness::{SOON, World, within};
use settled_testkit::proxy::CutPoint::{AfterAck, AfterCommit, BeforeAck, BeforeCommit, BeforeConfirm};
use settled_testkit::proxy::{CutPoint, CuttingProxy, Protocol};

use crate::load::{self, Load};
use crate::reckoning::{finish, reckon};
use crate::{QUICK, down, ordeal, seconds, turn};

/// How often each point is cut.
const CUTS: u64 = 200;

/// Within this time a connection that carries nothing is found.
const FOUND: Duration = Duration::from_secs(20);

/// The proxies between a daemon and its servers.
struct Proxies {
    postgres: CuttingProxy,
    amqp: CuttingProxy,
}

impl Proxies {
    /// Leads the daemons of this world through proxies; everybody else goes straight.
    async fn before(world: &World, overrides: &[&str]) -> Self {
        let postgres = start(Protocol::Postgres, &world.postgres_url).await;
        let amqp = start(Protocol::Amqp, &world.amqp_uri).await;
        let url = format!("postgres.url = {:?}", through(&postgres, &world.postgres_url));
        let uris = format!("broker.uris = [{:?}]", through(&amqp, &world.amqp_uri));
        world.configure(&[overrides, &[&url, &uris]].concat());
        Self { postgres, amqp }
    }

    fn at(&self, point: CutPoint) -> &CuttingProxy {
        match point.protocol() {
            Protocol::Postgres => &self.postgres,
            Protocol::Amqp => &self.amqp,
            Protocol::Stream => panic!("no events go to a stream"),
        }
    }

    /// Cuts at these points in turn. Between two cuts the last of them is passed once: what never
    /// gets through is delivered again until the broker gives it up.
    async fn cut(&self, points: &[CutPoint]) {
        let last = points[points.len() - 1];
        let proxy = self.at(last);
        for cut in 1..=CUTS {
            for point in points {
                let done = async || proxy.cuts(*point) == cut;
                proxy.arm(*point);
                within(Duration::from_secs(30), &format!("cut {cut} at {point:?}"), done).await;
                let reached = proxy.reached(last);
                within(SOON, &format!("{last:?} is passed"), async || proxy.reached(last) > reached).await;
            }
        }
    }
}

/// The place of a server: what stands between the `@` and the path.
fn authority(url: &str) -> &str {
    let after = url.rsplit_once('@').expect("a user").1;
    after.split('/').next().expect("a host")
}

async fn start(protocol: Protocol, url: &str) -> CuttingProxy {
    let target: SocketAddr = authority(url).parse().expect("an address");
    CuttingProxy::start(protocol, target).await.expect("a proxy")
}

fn through(proxy: &CuttingProxy, url: &str) -> String {
    url.replace(authority(url), &proxy.local_addr().to_string())
}

#[tokio::test]
async fn cuts_around_commits_acks_and_confirms_lose_and_double_nothing() {
    let _turn = turn().await;
    let world = World::new(&[]).await;
    // A connection that lives for longer than the longest wait is no reason for the next one.
    let hurried = "retry = { initial = \"1ms\", max = \"20ms\" }";
    // Small batches: it is their number that matters.
    let small = ["pipeline = { lanes = 2, workers = 2, max_batch = 25 }", "broker.prefetch = 50"];
    let proxies = Proxies::before(&world, &[&QUICK[..], &[hurried], &small].concat()).await;
    let (world, archive, mut daemon) = ordeal(world).await;
    let began = Instant::now();
    let load = load::during(&world, 50, async {
        // After an ack something has been acknowledged: what is cut before is not the same for ever.
        let took = async |points: &[CutPoint]| {
            proxies.cut(points).await;
            println!("{points:?}: {CUTS} cuts each took {}", seconds(began.elapsed()));
        };
        tokio::join!(took(&[BeforeCommit, AfterCommit]), took(&[BeforeAck, AfterAck]), took(&[BeforeConfirm]));
    })
    .await;
    reckon(&world, &load, &archive).await;
    let points = CutPoint::ALL.into_iter().filter(|point| point.protocol() != Protocol::Stream);
    let counted: Vec<(CutPoint, u64)> = points.map(|point| (point, proxies.at(point).cuts(point))).collect();
    println!("cuts: {counted:?} in {}", seconds(began.elapsed()));
    assert!(counted.len() == 5 && counted.iter().all(|(_, cuts)| *cuts == CUTS));
    let unknown = daemon.metric("settled_unknown_commits_total", &[]).await;
    assert!(unknown >= (2 * CUTS) as f64, "{unknown} commits were unknown");
    let reconnected = daemon.metric("settled_reconnects_total", &[]).await;
    assert!(reconnected >= (3 * CUTS) as f64, "{reconnected} connections to the broker were opened again");
    daemon.stop().await;
}

#[tokio::test]
async fn connections_that_are_reset_and_slow_ones_lose_and_double_nothing() {
    let _turn = turn().await;
    let world = World::new(&[]).await;
    let proxies = Proxies::before(&world, &QUICK).await;
    let (world, archive, mut daemon) = ordeal(world).await;
    let mut resets = 0;
    let load = load::during(&world, 50, async {
        for round in 0..10 {
            proxies.postgres.delay(Duration::from_millis(round % 3 * 5));
            proxies.amqp.delay(Duration::from_millis(round % 2 * 10));
            let acks = proxies.amqp.reached(AfterAck);
            within(SOON, "something is acknowledged", async || proxies.amqp.reached(AfterAck) > acks).await;
            // Half of the time one of them alone.
            if round % 4 != 1 {
                resets += proxies.postgres.cut_all();
            }
            if round % 4 != 3 {
                resets += proxies.amqp.cut_all();
            }
        }
    })
    .await;
    for proxy in [&proxies.postgres, &proxies.amqp] {
        proxy.delay(Duration::ZERO);
    }
    assert!(resets >= 30, "{resets}");
    daemon.ready().await;
    finish(&format!("{resets} connections reset"), &world, &load, &archive, daemon).await;
}

/// Has a connection carry nothing until the daemon says that this dependency is down; it goes on
/// by itself when there is a way again. With the settings that everybody has, and out of turn: it is
/// mostly waiting.
async fn half_open(dependency: &str, proxy: impl Fn(&Proxies) -> &CuttingProxy) {
    let world = World::new(&[]).await;
    let proxies = Proxies::before(&world, &["log.level = \"info\""]).await;
    let (world, archive, mut daemon) = ordeal(world).await;
    let proxy = proxy(&proxies);
    let mut found = Duration::ZERO;
    let load = load::during(&world, 50, async {
        let began = Instant::now();
        proxy.half_open(true);
        let reason = down(&mut daemon, dependency).await;
        found = began.elapsed();
        println!("half-open: {dependency} found down after {}: {reason}", seconds(found));
        proxy.half_open(false);
        let back = Instant::now();
        daemon.ready().await;
        println!("half-open: {dependency} ready again {} after there was a way", seconds(back.elapsed()));
    })
    .await;
    assert!(found <= FOUND, "found after {found:?}");
    finish(&format!("half-open, {dependency}"), &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_half_open_connection_to_the_database_is_found() {
    half_open("postgres", |proxies| &proxies.postgres).await;
}

#[tokio::test]
async fn a_half_open_connection_to_the_broker_is_found() {
    half_open("broker_intake", |proxies| &proxies.amqp).await;
}

#[tokio::test]
async fn database_connections_that_a_firewall_forgot_are_replaced() {
    let world = World::new(&[]).await;
    let proxies = Proxies::before(&world, &["log.level = \"info\""]).await;
    let (world, archive, daemon) = ordeal(world).await;
    let publishing = Load::of(2_000).publish(&world, Duration::from_millis(20));
    within(SOON, "it is at work", async || proxies.postgres.reached(AfterCommit) > 5).await;
    let forgotten = proxies.postgres.forget_all();
    let (began, commits) = (Instant::now(), proxies.postgres.reached(AfterCommit));
    let committed = async || proxies.postgres.reached(AfterCommit) > commits;
    within(FOUND, "a batch is committed on a new connection", committed).await;
    println!("{forgotten} forgotten connections: a commit after {}", seconds(began.elapsed()));
    let load = publishing.done().await;
    // None of them is left for somebody else to wait for.
    finish("forgotten connections", &world, &load, &archive, daemon).await;
}
