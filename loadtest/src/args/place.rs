//! What it runs on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use settled_testkit::servers::ServersOptions;

use crate::rig::{Blueprint, Crew, Place, Setting, Subject};
use crate::values;

/// Servers and daemons of every run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Servers and daemons")]
pub(crate) struct ServersArgs {
    /// A broker to use instead of one of its own, such as amqp://user:password@host:5672/%2f
    #[arg(long, value_name = "URI", requires = "postgres_url")]
    amqp_uri: Option<String>,
    /// A database to use instead of one of its own, as the daemon uses it, without TLS
    #[arg(long, value_name = "URL", requires = "amqp_uri")]
    postgres_url: Option<String>,
    /// The settled to run [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// How many daemons share the queue
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::at_least_one)]
    daemons: usize,
    /// A setting of the daemon, such as pipeline.lanes=1; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<Setting>,
}

impl ServersArgs {
    /// Returns what daemons of this program run on.
    pub(super) fn blueprint(&self) -> io::Result<Blueprint> {
        let given = self.amqp_uri.clone().zip(self.postgres_url.clone());
        Ok(Blueprint {
            place: given.map_or(Place::Private, |(amqp_uri, postgres_url)| Place::Given { amqp_uri, postgres_url }),
            servers: ServersOptions::default(),
            settled: settled_path(self.daemon.as_deref())?,
            subject: Subject::Settled,
            settings: self.settings.clone(),
            crew: Crew::Ours(self.daemons),
        })
    }
}

/// What a run puts under load.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Servers and daemons")]
pub(crate) struct PlaceArgs {
    /// Start a PostgreSQL and a RabbitMQ for the run, and remove them in the end: the default
    #[arg(long, conflicts_with_all = ["amqp_uri", "postgres_url", "no_spawn"])]
    private: bool,
    #[command(flatten)]
    servers: ServersArgs,
    /// Start no daemon: one runs on these servers already
    #[arg(long, requires = "amqp_uri", conflicts_with_all = ["daemons", "settings"])]
    pub(super) no_spawn: bool,
    /// The admin server of a daemon that runs already, for its counters; may be repeated
    #[arg(long, value_name = "URL", value_parser = values::address, requires = "no_spawn")]
    admin: Vec<SocketAddr>,
    /// What is under load
    #[arg(long, value_enum, default_value_t = Subject::Settled)]
    pub(super) subject: Subject,
}

impl PlaceArgs {
    /// What the run needs; `quiet` daemons drop events that no queue takes.
    pub(super) fn blueprint(&self, quiet: bool) -> io::Result<Blueprint> {
        let mut blueprint = Blueprint { subject: self.subject, ..self.servers.blueprint()? };
        if self.no_spawn {
            blueprint.crew = Crew::Theirs(self.admin.clone());
        }
        if quiet {
            blueprint.settings.push(Setting::new("events", "unroutable", "discard"));
        }
        Ok(blueprint)
    }
}

/// The `settled` to run: `path`, or else the one beside this program.
pub(crate) fn settled_path(path: Option<&Path>) -> io::Result<PathBuf> {
    match path {
        Some(path) => std::path::absolute(path),
        None => Ok(std::env::current_exe()?.with_file_name("settled")),
    }
}
