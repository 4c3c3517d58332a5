//! What it runs on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use settled::dev::ServersOptions;

use super::values;
use crate::rig::{Blueprint, Crew, Place, Setting, Subject};

/// Servers and daemons.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Servers and daemons")]
pub(crate) struct PlaceArgs {
    /// Start a PostgreSQL and a RabbitMQ for the run, and remove them in the end: the default
    #[arg(long, conflicts_with_all = ["amqp_uri", "postgres_url", "no_spawn"])]
    private: bool,
    /// A broker to use instead, such as amqp://user:password@host:5672/%2f
    #[arg(long, value_name = "URI", requires = "postgres_url")]
    amqp_uri: Option<String>,
    /// A database to use instead, as the daemon uses it
    #[arg(long, value_name = "URL", requires = "amqp_uri")]
    postgres_url: Option<String>,
    /// Start no daemon: one runs on these servers already
    #[arg(long, requires = "amqp_uri", conflicts_with_all = ["daemons", "settings"])]
    no_spawn: bool,
    /// The admin server of a daemon that runs already, for its counters; may be repeated
    #[arg(long, value_name = "URL", value_parser = values::address, requires = "no_spawn")]
    admin: Vec<SocketAddr>,
    /// What is under load
    #[arg(long, value_enum, default_value_t = Subject::Settled)]
    subject: Subject,
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

impl PlaceArgs {
    /// What is under load.
    pub(super) fn subject(&self) -> Subject {
        self.subject
    }

    /// Whether daemons are started.
    pub(super) fn spawns(&self) -> bool {
        !self.no_spawn
    }

    /// What the run needs; `quiet` daemons drop events that no queue takes.
    pub(super) fn blueprint(&self, quiet: bool) -> io::Result<Blueprint> {
        let settled = settled_path(self.daemon.as_deref())?;
        let place = Place::of(self.amqp_uri.as_deref(), self.postgres_url.as_deref());
        let crew = if self.no_spawn { Crew::Theirs(self.admin.clone()) } else { Crew::Ours(self.daemons) };
        let mut settings = self.settings.clone();
        if quiet {
            settings.push(Setting::text("events", "unroutable", "discard"));
        }
        let servers = ServersOptions::default();
        Ok(Blueprint { place, servers, settled, subject: self.subject, settings, crew })
    }
}

/// The `settled` to run: `path`, or else the one beside this program.
pub(crate) fn settled_path(path: Option<&Path>) -> io::Result<PathBuf> {
    match path {
        Some(path) => std::path::absolute(path),
        None => Ok(std::env::current_exe()?.with_file_name("settled")),
    }
}
