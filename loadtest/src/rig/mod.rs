//! What a run needs: servers, daemons and their configuration. All that was started goes in the
//! end, in whatever way the run ends.

pub(crate) mod admin;
mod daemon;
mod fleet;
pub(crate) mod process;
mod settings;
mod stream;
mod subject;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use settled_testkit::servers::{PrivateServers, ServersOptions};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::progress::Step;
use crate::report::model::Check;
use crate::stop::Stop;

pub(crate) use daemon::tail;
pub(crate) use fleet::{Fleet, FleetEnd, Pids};
pub(crate) use settings::Setting;
use stream::Stream;
pub(crate) use subject::Subject;

/// Private servers, or some that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Started for the run, on ports and in a directory of their own.
    Private,
    /// Somebody else's, with whatever else is in them.
    Given { amqp_uri: String, postgres_url: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Blueprint {
    pub(crate) place: Place,
    pub(crate) servers: ServersOptions,
    /// Where `settled` is.
    pub(crate) settled: PathBuf,
    pub(crate) subject: Subject,
    /// Its settings that are not at their defaults.
    pub(crate) settings: Vec<Setting>,
    pub(crate) crew: Crew,
    /// Whether events go to a stream.
    pub(crate) streams: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Crew {
    Ours(usize),
    /// Daemons that run already, by those of their admin addresses that are known.
    Theirs(Vec<SocketAddr>),
}

impl Blueprint {
    /// How many daemons consume, as far as that is known.
    pub(crate) fn daemons(&self) -> usize {
        match &self.crew {
            Crew::Ours(count) => *count,
            Crew::Theirs(admins) => admins.len(),
        }
    }
}

/// The servers, and how daemons are run on them.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) blueprint: Blueprint,
    /// `None` if the servers are somebody else's.
    pub(crate) private: Option<PrivateServers>,
    pub(crate) amqp_uri: String,
    pub(crate) postgres_url: String,
    /// Holds configurations and logs: that of the private servers, or one of its own.
    dir: PathBuf,
    own_dir: Option<TempDir>,
    audit_config: PathBuf,
    route: Option<Route>,
    /// Where events go, if not to the exchange.
    pub(crate) stream: Option<Stream>,
}

/// Where daemons find the servers, if there is something in between.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) amqp_uri: String,
    pub(crate) postgres_url: String,
    pub(crate) stream_port: Option<u16>,
}

/// What came of work on a rig.
pub(crate) struct Ended<T> {
    pub(crate) done: Result<T>,
    /// The end of every daemon's log, for an error that is to be understood.
    pub(crate) logs: String,
    pub(crate) cleanup: Result<()>,
}

impl<T> Ended<T> {
    /// Returns the check that nothing is left of the servers and daemons.
    pub(crate) fn left_nothing(&self) -> Check {
        let found = self.cleanup.as_ref().err().map(|error| format!("{error:#}"));
        Check { holds: "no process, directory or port is left behind".to_owned(), found }
    }
}

impl Rig {
    /// Starts private servers, or takes the given ones.
    async fn start(blueprint: Blueprint) -> Result<Self> {
        let (private, own_dir, amqp_uri, postgres_url) = match &blueprint.place {
            Place::Private => {
                let servers = PrivateServers::start(&std::env::current_exe()?, &blueprint.servers).await?;
                let (amqp_uri, postgres_url) = (servers.amqp_uri().to_owned(), servers.postgres_url().to_owned());
                (Some(servers), None, amqp_uri, postgres_url)
            }
            Place::Given { amqp_uri, postgres_url } => {
                let dir = tempfile::tempdir().context("a directory for the daemon's configuration")?;
                (None, Some(dir), amqp_uri.clone(), postgres_url.clone())
            }
        };
        let dir = private.as_ref().map(|servers| servers.dir()).or(own_dir.as_ref().map(TempDir::path));
        let dir = dir.context("a directory")?.to_owned();
        let audit_config = PathBuf::new();
        let stream = blueprint.streams.then(|| Stream::new(private.as_ref(), &blueprint.settings));
        let (route, config) = (None, audit_config);
        let mut rig =
            Self { blueprint, private, amqp_uri, postgres_url, dir, own_dir, audit_config: config, route, stream };
        (rig.audit_config, _) = rig.configure("audit", false)?;
        Ok(rig)
    }

    /// Carries out `work` on servers that are started for it, and removes them in whatever way it ends. Returns `None` if
    /// it was interrupted. To be called on the main thread: it starts daemons.
    pub(crate) async fn during<T>(
        blueprint: Blueprint,
        stop: &mut Stop,
        keep_logs: Option<&Path>,
        work: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<Ended<T>>> {
        let step = Step::begin();
        let mut rig = Self::start(blueprint).await?;
        step.done(if rig.is_private() { "PostgreSQL and RabbitMQ of our own" } else { "servers as given" });
        let done = tokio::select! {
            done = work(&mut rig) => Some(done),
            () = stop.asked() => None,
        };
        let logs = format!("the end of the daemon's log:\n{}", rig.log_tails());
        let kept = keep_logs.map_or(Ok(()), |folder| rig.keep_logs(folder));
        let cleanup = rig.end().await;
        let Some(done) = done else { return cleanup.map(|()| None) };
        Ok(Some(Ended { done: done.and_then(|done| kept.map(|()| done)), logs, cleanup }))
    }

    /// Has daemons that are started from here on go through what is between them and the servers.
    pub(crate) fn route(&mut self, route: Route) {
        self.route = Some(route);
    }

    /// The daemons that are to be under load, each ready. To be called on the main thread.
    pub(crate) async fn crew(&self) -> Result<Fleet> {
        let program = self.blueprint.subject.program(&self.blueprint.settled)?;
        match &self.blueprint.crew {
            Crew::Ours(count) => Fleet::start(self, program, "daemon", *count, false).await,
            Crew::Theirs(admins) => Ok(Fleet::foreign(program, admins)),
        }
    }

    /// A daemon that opens accounts, whose events nobody needs, before the load; `None` if the
    /// daemons are not ours. To be called on the main thread.
    pub(crate) async fn opener(&self) -> Result<Option<Fleet>> {
        let program = Subject::Settled.program(&self.blueprint.settled)?;
        match &self.blueprint.crew {
            Crew::Ours(_) => Ok(Some(Fleet::start(self, program, "opener", 1, true).await?)),
            Crew::Theirs(_) => Ok(None),
        }
    }

    /// Whether messages are applied in the order in which they came, as far as that is known.
    pub(crate) fn keeps_order(&self) -> bool {
        self.blueprint.crew == Crew::Ours(1) && self.blueprint.subject.keeps_the_contract()
    }

    /// Whether nobody else uses the servers.
    pub(crate) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// A session of its own in the database.
    pub(crate) async fn database(&self) -> Result<Client> {
        let connected = tokio_postgres::connect(&self.postgres_url, NoTls).await;
        let (client, connection) = connected.context("connect to PostgreSQL (the load test itself: without TLS)")?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The process of PostgreSQL and that of RabbitMQ, where they are ours.
    pub(crate) fn server_pids(&self) -> [Option<u32>; 2] {
        self.private.as_ref().map_or([None; 2], |servers| [servers.postgres_pid(), servers.rabbitmq_pid()])
    }

    /// The verdict of `settled audit`, as it prints it for machines.
    pub(crate) async fn audit(&self) -> Result<Value> {
        let mut command = Command::new(&self.blueprint.settled);
        command.args(["audit", "--json", "--config"]).arg(&self.audit_config).kill_on_drop(true);
        let output = without_overrides(&mut command).output().await?;
        // 1 is "done, and the answer is no".
        ensure!(
            matches!(output.status.code(), Some(0 | 1)) && !output.stdout.is_empty(),
            "settled audit ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The end of the log of every daemon.
    pub(crate) fn log_tails(&self) -> String {
        self.logs().map(|log| format!("{}\n", daemon::tail(&log))).collect()
    }

    /// Copies the log of every daemon into a folder.
    fn keep_logs(&self, folder: &Path) -> Result<()> {
        for log in self.logs() {
            let copy = folder.join(log.file_name().unwrap_or_default());
            std::fs::copy(&log, &copy).with_context(|| format!("write {}", copy.display()))?;
        }
        Ok(())
    }

    fn logs(&self) -> impl Iterator<Item = PathBuf> {
        let logs = std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_daemon =
            |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("daemon-"));
        logs.filter(move |path| is_daemon(path) && path.extension().is_some_and(|extension| extension == "log"))
    }

    /// Stops the servers that were started and removes all files, the daemons' included.
    async fn end(self) -> Result<()> {
        if let Some(servers) = self.private {
            servers.shutdown().await?;
        }
        self.own_dir.map_or(Ok(()), TempDir::close)?;
        ensure!(!self.dir.exists(), "{} is left behind", self.dir.display());
        Ok(())
    }

    /// Writes a configuration; returns where it is and the admin address in it. A `quiet` daemon
    /// drops events that no queue takes.
    fn configure(&self, name: &str, quiet: bool) -> Result<(PathBuf, SocketAddr)> {
        let admin = free_port()?;
        let (amqp_uri, postgres_url) = match &self.route {
            Some(route) => (route.amqp_uri.as_str(), route.postgres_url.as_str()),
            None => (self.amqp_uri.as_str(), self.postgres_url.as_str()),
        };
        let own = [
            Setting::new("broker", "uris", vec![amqp_uri]),
            Setting::new("postgres", "url", postgres_url),
            Setting::new("admin", "listen", admin.to_string()),
        ];
        let unheard = quiet.then(|| Setting::new("events", "unroutable", "discard"));
        // Where nobody reads them, events may go out in the form that is cheapest.
        let cheap = (quiet && self.is_private()).then(|| Setting::new("events", "format", "batch"));
        // What opens accounts tells nobody.
        let stream = self.stream.as_ref().filter(|_| !quiet);
        let port = self.route.as_ref().and_then(|route| route.stream_port);
        let streamed = stream.map(|stream| stream.settings(port)).into_iter().flatten().collect::<Vec<_>>();
        let path = self.dir.join(format!("{name}.toml"));
        // It holds the database's password.
        let file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut file = file.with_context(|| format!("write {}", path.display()))?;
        file.write_all(
            settings::text(own.iter().chain(&self.blueprint.settings).chain(&unheard).chain(&cheap).chain(&streamed))
                .as_bytes(),
        )?;
        Ok((path, admin))
    }
}

/// Keeps from a command what could change its servers, or who hears of it, behind the back of
/// the configuration.
fn without_overrides(command: &mut Command) -> &mut Command {
    for variable in ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

/// A loopback port that nobody listens on at the moment.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
