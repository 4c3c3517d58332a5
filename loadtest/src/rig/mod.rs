//! What a run needs: private servers, the daemon and its configuration. All of it goes in the
//! end, in whatever way the run ends.

pub(crate) mod admin;
mod daemon;
mod settings;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use settled::dev::{PrivateServers, ServersOptions};
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

pub(crate) use daemon::{Daemon, Ended, Usage};
pub(crate) use settings::Setting;

use crate::plan::Tally;

/// The servers, and how the daemon is run on them.
#[derive(Debug)]
pub(crate) struct Rig {
    servers: PrivateServers,
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
}

impl Rig {
    /// Starts the servers and writes the daemon's configuration beside their data.
    pub(crate) async fn start(binary: &Path, settings: &[Setting]) -> Result<Self> {
        let servers = PrivateServers::start(binary, &ServersOptions::default()).await?;
        let admin = free_port()?;
        let config = servers.dir().join("settled.toml");
        // It holds the database's password.
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&config)?;
        file.write_all(settings::text(&servers, admin, settings).as_bytes())?;
        let log = servers.dir().join("settled.log");
        Ok(Self { binary: binary.to_owned(), config, log, admin, servers })
    }

    /// Starts the daemon and waits until it is ready. To be called on the main thread.
    pub(crate) async fn daemon(&self) -> Result<Daemon> {
        Daemon::start(&self.binary, &self.config, &self.log, self.admin).await
    }

    /// What came of the deliveries of the daemon that runs.
    pub(crate) async fn outcomes(&self) -> Result<Tally> {
        let outcomes = admin::outcomes(self.admin).await;
        outcomes.with_context(|| format!("the daemon does not answer:\n{}", self.log_tail()))
    }

    /// The broker.
    pub(crate) fn amqp_uri(&self) -> &str {
        self.servers.amqp_uri()
    }

    /// A session of its own in the database.
    pub(crate) async fn database(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(self.servers.postgres_url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The verdict of `settled audit`, as it prints it for machines.
    pub(crate) async fn audit(&self) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.args(["audit", "--json", "--config"]).arg(&self.config).kill_on_drop(true);
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

    /// The end of the daemon's log.
    pub(crate) fn log_tail(&self) -> String {
        daemon::tail(&self.log)
    }

    /// Stops the servers and removes all their files, the daemon's included.
    pub(crate) async fn end(self) -> Result<()> {
        let dir = self.servers.dir().to_owned();
        self.servers.shutdown().await?;
        ensure!(!dir.exists(), "{} is left behind", dir.display());
        Ok(())
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
