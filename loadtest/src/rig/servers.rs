//! The broker and the database: private ones, or some that are there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use settled::dev::{PrivateServers, ServersOptions};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Started for the run, on ports and in a directory of their own.
    Private,
    /// Somebody else's, with whatever else is in them.
    Given {
        /// The broker.
        amqp_uri: String,
        /// The database, as the daemon uses it.
        postgres_url: String,
    },
}

impl Place {
    /// The given ones, if both are.
    pub(crate) fn of(amqp_uri: Option<&str>, postgres_url: Option<&str>) -> Self {
        let given = amqp_uri.map(str::to_owned).zip(postgres_url.map(str::to_owned));
        given.map_or(Self::Private, |(amqp_uri, postgres_url)| Self::Given { amqp_uri, postgres_url })
    }
}

/// Servers to run on.
#[derive(Debug)]
pub(crate) enum Servers {
    /// Nobody else uses them.
    Private(PrivateServers),
    /// Others may.
    Given {
        /// The broker.
        amqp_uri: String,
        /// The database.
        postgres_url: String,
        /// For configurations and logs.
        dir: TempDir,
    },
}

impl Servers {
    /// Starts private servers, or looks for the given ones.
    pub(crate) async fn start(place: &Place, options: &ServersOptions, settled: &Path) -> Result<Self> {
        Ok(match place {
            Place::Private => Self::Private(PrivateServers::start(settled, options).await?),
            Place::Given { amqp_uri, postgres_url } => Self::Given {
                amqp_uri: amqp_uri.clone(),
                postgres_url: postgres_url.clone(),
                dir: tempfile::tempdir().context("a directory for the daemon's configuration")?,
            },
        })
    }

    /// Whether nobody else uses them.
    pub(crate) const fn are_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }

    /// The broker.
    pub(crate) fn amqp_uri(&self) -> &str {
        match self {
            Self::Private(servers) => servers.amqp_uri(),
            Self::Given { amqp_uri, .. } => amqp_uri,
        }
    }

    /// The database.
    pub(crate) fn postgres_url(&self) -> &str {
        match self {
            Self::Private(servers) => servers.postgres_url(),
            Self::Given { postgres_url, .. } => postgres_url,
        }
    }

    /// A session of its own in the database.
    pub(crate) async fn database(&self) -> Result<Client> {
        let connected = tokio_postgres::connect(self.postgres_url(), NoTls).await;
        let (client, connection) = connected.context("connect to PostgreSQL (the load test itself: without TLS)")?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// For configurations and logs.
    pub(crate) fn dir(&self) -> &Path {
        match self {
            Self::Private(servers) => servers.dir(),
            Self::Given { dir, .. } => dir.path(),
        }
    }

    /// The process of PostgreSQL and that of RabbitMQ, where they are ours.
    pub(crate) fn pids(&self) -> (Option<u32>, Option<u32>) {
        match self {
            Self::Private(servers) => (servers.postgres_pid(), servers.rabbitmq_pid()),
            Self::Given { .. } => (None, None),
        }
    }

    /// Stops what was started and removes all its files.
    pub(crate) async fn end(self) -> Result<()> {
        let left: PathBuf = self.dir().to_owned();
        match self {
            Self::Private(servers) => servers.shutdown().await?,
            Self::Given { dir, .. } => dir.close()?,
        }
        ensure!(!left.exists(), "{} is left behind", left.display());
        Ok(())
    }
}
