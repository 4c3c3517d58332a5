//! Where the daemons are, and their metrics.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use settled_store::Client;
use settled_store::queries::instance::{self, GONE, Instance};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::samples::{Pair, Samples};
use crate::config::Config;
use crate::http;
use crate::lifecycle::host_name;

/// How long a daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// A daemon, and what it said last.
#[derive(Debug)]
pub(super) struct Daemon {
    /// Address of its admin server.
    pub(super) admin: String,
    /// Its row in the registry, unless it was named by its address.
    pub(super) instance: Option<Instance>,
    pub(super) metrics: Pair,
    scraped: Option<Instant>,
    /// Why there are no metrics.
    pub(super) error: Option<String>,
}

/// Where the daemons are found.
#[derive(Debug)]
pub(super) enum Source {
    /// At these addresses of admin servers.
    Named(Vec<String>),
    /// In the registry of the database.
    Registry(Box<Registry>),
}

#[derive(Debug)]
pub(super) struct Registry {
    config: Config,
    client: Option<Client>,
}

impl Source {
    pub(super) fn new(config: Config, named: Vec<String>) -> Self {
        if !named.is_empty() {
            return Self::Named(named);
        }
        Self::Registry(Box::new(Registry { config, client: None }))
    }

    /// Finds the daemons and scrapes them. `known` are those of the last time. Returns them, and why the registry could
    /// not be read; the daemon of the configuration is looked at then.
    pub(super) async fn look(&mut self, known: Vec<Daemon>) -> (Vec<Daemon>, Option<String>) {
        let (found, error) = match self {
            Self::Named(named) => (named.iter().map(|admin| (admin.clone(), None)).collect(), None),
            Self::Registry(registry) => match timeout(LIMIT, registry.read()).await {
                Ok(Ok(instances)) => (instances, None),
                Ok(Err(error)) => (vec![registry.fallback()], Some(format!("{error:#}"))),
                Err(_) => (vec![registry.fallback()], Some("PostgreSQL doesn't answer".to_owned())),
            },
        };
        (scrape_all(found, known).await, error)
    }
}

type Found = (String, Option<Instance>);

impl Registry {
    async fn read(&mut self) -> anyhow::Result<Vec<Found>> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => settled_store::connect(&self.config.postgres).await?,
        };
        let instances = instance::list(&client).await?;
        self.client = Some(client);
        Ok(instances.into_iter().map(|found| (found.admin.clone(), Some(found))).collect())
    }

    fn fallback(&self) -> Found {
        (self.config.admin.listen.to_string(), None)
    }
}

async fn scrape_all(found: Vec<Found>, mut known: Vec<Daemon>) -> Vec<Daemon> {
    let host = host_name();
    let mut scrapes = JoinSet::new();
    let mut daemons: Vec<Daemon> = Vec::new();
    for (place, (admin, instance)) in found.into_iter().enumerate() {
        let id = |instance: &Option<Instance>| instance.as_ref().map(|found| found.id);
        let before = known.iter().position(|daemon| daemon.admin == admin && id(&daemon.instance) == id(&instance));
        let mut daemon = match before {
            Some(before) => known.swap_remove(before),
            None => Daemon { admin, instance: None, metrics: Pair::default(), scraped: None, error: None },
        };
        daemon.instance = instance;
        match reachable(&daemon, &host) {
            Ok(address) => drop(scrapes.spawn(async move { (place, scrape(&address).await) })),
            Err(reason) => daemon.error = Some(reason),
        }
        daemons.push(daemon);
    }
    while let Some(scraped) = scrapes.join_next().await {
        let Ok((place, scraped)) = scraped else { continue };
        daemons[place].takes(scraped);
    }
    daemons
}

impl Daemon {
    fn takes(&mut self, scraped: anyhow::Result<String>) {
        let text = match scraped {
            Ok(text) => text,
            Err(error) => {
                self.error = Some(format!("{error:#}"));
                return;
            }
        };
        let (now, at) = (Samples::parse(&text), Instant::now());
        let seconds = self.scraped.map_or(0.0, |before| at.duration_since(before).as_secs_f64());
        // The first time nothing has happened in between.
        let before = match self.scraped {
            Some(_) => std::mem::take(&mut self.metrics.now),
            None => Samples::parse(&text),
        };
        self.metrics = Pair { before, now, seconds };
        (self.scraped, self.error) = (Some(at), None);
    }
}

/// Returns the address to connect to, or why there is none: a loopback address is another one on another machine.
fn reachable(daemon: &Daemon, host: &str) -> Result<String, String> {
    let Some(instance) = &daemon.instance else { return Ok(daemon.admin.clone()) };
    if instance.state == GONE {
        return Err("gone".to_owned());
    }
    let is_here = instance.host == host;
    match instance.admin.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() && is_here => {
            let loopback: IpAddr =
                if address.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() };
            Ok(SocketAddr::new(loopback, address.port()).to_string())
        }
        Ok(address) if address.ip().is_unspecified() => Ok(format!("{}:{}", instance.host, address.port())),
        Ok(address) if address.ip().is_loopback() && !is_here => {
            Err(format!("its admin server listens on {} only; look from there", instance.host))
        }
        _ => Ok(instance.admin.clone()),
    }
}

async fn scrape(address: &str) -> anyhow::Result<String> {
    let answered = timeout(LIMIT, get(address, "/metrics")).await;
    answered.map_err(|_| anyhow!("{address} doesn't answer within {} s", LIMIT.as_secs()))?
}

async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await.with_context(|| address.to_owned())?;
    let (status, body) = http::get(stream, address, path).await?;
    if status.is_success() {
        Ok(String::from_utf8_lossy(&body).into_owned())
    } else {
        Err(anyhow!("{address} answers {status}"))
    }
}
