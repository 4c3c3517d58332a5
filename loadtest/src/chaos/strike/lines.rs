//! Faults between the daemons and the servers. This program itself goes to the servers directly.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lapin::uri::AMQPUri;
use settled_testkit::proxy::{CutPoint, CuttingProxy, Protocol};
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep};

use super::{LOOK, STANDSTILL, Storm};
use crate::chaos::pulse;
use crate::chaos::record::Struck;
use crate::chaos::schedule::Strike;
use crate::rig::{Rig, Route};

/// How long it may take until a connection comes to the point where it is cut.
const CUT_LIMIT: Duration = Duration::from_secs(20);
/// How much longer everything takes, in milliseconds, at the least and at the most.
const DELAYS: [u64; 2] = [20, 300];

pub(crate) struct Lines {
    broker: CuttingProxy,
    /// One for each server: there are two if there is a standby.
    databases: Vec<CuttingProxy>,
    /// Of the stream, if events go to one.
    stream: Vec<CuttingProxy>,
}

impl Lines {
    /// Opens them; daemons that are started with the route go through them.
    pub(crate) async fn open(rig: &Rig) -> Result<(Self, Route)> {
        let (mut amqp_uri, mut postgres_url) = (rig.amqp_uri.clone(), rig.postgres_url.clone());
        let broker = through(Protocol::Amqp, &mut amqp_uri).await?;
        let databases = through(Protocol::Postgres, &mut postgres_url).await?;
        let broker = broker.into_iter().next().context("a URI without an address")?;
        let stream = match &rig.stream {
            Some(stream) => vec![to_stream(&rig.amqp_uri, stream.port).await?],
            None => Vec::new(),
        };
        let stream_port = stream.first().map(|proxy| proxy.local_addr().port());
        Ok((Self { broker, databases, stream }, Route { amqp_uri, postgres_url, stream_port }))
    }

    /// Cuts one connection at a point, the next that comes there.
    pub(super) async fn cut(&self, point: CutPoint) -> Result<String> {
        let proxies = match point.protocol() {
            Protocol::Postgres => self.databases.as_slice(),
            Protocol::Amqp => std::slice::from_ref(&self.broker),
            Protocol::Stream => self.stream.as_slice(),
        };
        let cuts = || proxies.iter().map(|proxy| proxy.cuts(point)).sum::<u64>();
        let before = cuts();
        // The standby's is not armed: nobody commits there.
        let proxy = proxies.iter().max_by_key(|proxy| proxy.connections()).context("no proxy")?;
        proxy.arm(point);
        let since = Instant::now();
        while cuts() == before {
            ensure!(since.elapsed() < CUT_LIMIT, "no connection came to {point:?} within {CUT_LIMIT:?}");
            sleep(LOOK).await;
        }
        Ok(format!("cut after {:.0} ms", since.elapsed().as_secs_f64() * 1e3))
    }

    pub(super) fn cut_database(&self) -> Result<String> {
        let cut: usize = self.databases.iter().map(CuttingProxy::cut_all).sum();
        ensure!(cut > 0, "there was no connection to cut");
        Ok(format!("{cut} connections cut"))
    }

    /// Has nothing go to or from the stream.
    pub(super) fn hold_stream(&self, on: bool) {
        self.stream.iter().for_each(|proxy| proxy.half_open(on));
    }

    pub(super) fn cut_stream(&self) -> usize {
        self.stream.iter().map(CuttingProxy::cut_all).sum()
    }

    /// Everything to and from a server takes longer for a while.
    pub(super) async fn delay(&self, strike: &Strike) -> Result<String> {
        let [least, most] = DELAYS;
        let by = Duration::from_millis(least + u64::from(strike.draw) % (most - least));
        let (name, proxies) = self.of(strike);
        proxies.iter().for_each(|proxy| proxy.delay(by));
        sleep(strike.hold).await;
        proxies.iter().for_each(|proxy| proxy.delay(Duration::ZERO));
        Ok(format!("{} ms to and from {name}", by.as_millis()))
    }

    pub(super) fn calm(&self) {
        for proxy in self.databases.iter().chain([&self.broker]).chain(&self.stream) {
            proxy.delay(Duration::ZERO);
            proxy.half_open(false);
        }
    }

    /// The server that a strike is about: its name, and its proxies.
    fn of(&self, strike: &Strike) -> (&'static str, Vec<&CuttingProxy>) {
        match strike.draw.is_multiple_of(2) {
            true => ("PostgreSQL", self.databases.iter().collect()),
            false => ("RabbitMQ", [&self.broker].into_iter().chain(&self.stream).collect()),
        }
    }
}

impl Storm<'_> {
    pub(super) async fn half_open(&self, strike: &Strike, struck: &mut Struck) -> Result<()> {
        let (name, proxies) = self.lines.of(strike);
        let is_database = strike.draw.is_multiple_of(2);
        let admins = self.fleet.admins();
        proxies.iter().for_each(|proxy| proxy.half_open(true));
        let since = Instant::now();
        let found = loop {
            let beats = pulse::all(&admins).await;
            if beats.iter().all(|beat| !if is_database { beat.database_is_up } else { beat.broker_is_up }) {
                break Ok(since.elapsed());
            }
            if since.elapsed() > STANDSTILL {
                break Err(anyhow!("not every daemon noticed within {STANDSTILL:?}"));
            }
            // Whoever has nothing to say does not hear that nobody answers.
            self.upstream.hurry(admins.len() as u64);
            sleep(10 * LOOK).await;
        };
        proxies.iter().for_each(|proxy| proxy.half_open(false));
        struck.found_s = Some(found?.as_secs_f64());
        struck.what = name.to_owned();
        Ok(())
    }
}

/// Starts a proxy for the stream's port, which is at the broker's address.
async fn to_stream(amqp_uri: &str, port: u16) -> Result<CuttingProxy> {
    let uri: AMQPUri = amqp_uri.parse().map_err(|error| anyhow!("{amqp_uri}: {error}"))?;
    let host = uri.authority.host;
    let target = lookup_host((host.as_str(), port)).await.with_context(|| format!("`{host}` is no host"))?.next();
    Ok(CuttingProxy::start(Protocol::Stream, target.with_context(|| format!("`{host}` has no address"))?).await?)
}

/// Starts a proxy for each address in a URI, and puts the proxies' addresses in their places.
async fn through(protocol: Protocol, uri: &mut String) -> Result<Vec<CuttingProxy>> {
    let authority = uri.split_once("://").context("no URI")?.1;
    let hosts = authority.split('/').next().unwrap_or(authority).rsplit('@').next().unwrap_or(authority).to_owned();
    let mut proxies = Vec::new();
    for host in hosts.split(',') {
        let found = lookup_host(host).await.with_context(|| format!("`{host}`: expected a host and a port"))?;
        let target = found.into_iter().next().with_context(|| format!("`{host}` has no address"))?;
        let proxy = CuttingProxy::start(protocol, target).await?;
        *uri = uri.replacen(host, &proxy.local_addr().to_string(), 1);
        proxies.push(proxy);
    }
    Ok(proxies)
}
