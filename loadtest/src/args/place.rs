//! What it runs on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use settled_testkit::servers::ServersOptions;

use super::refuse;
use crate::rig::{Blueprint, Crew, Place, Setting, Subject};
use crate::scenario::{Order, Subscriber};
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
            streams: false,
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
    no_spawn: bool,
    /// The admin server of a daemon that runs already, for its counters; may be repeated
    #[arg(long, value_name = "URL", value_parser = values::address, requires = "no_spawn")]
    admin: Vec<SocketAddr>,
    /// What is under load
    #[arg(long, value_enum, default_value_t = Subject::Settled)]
    subject: Subject,
}

impl PlaceArgs {
    /// What the run needs for its subscriber; without one, daemons drop events that no queue takes.
    pub(super) fn blueprint(&self, subscriber: Subscriber) -> io::Result<Blueprint> {
        let streams = subscriber.reads_a_stream();
        let mut blueprint = Blueprint { subject: self.subject, streams, ..self.servers.blueprint()? };
        let quiet = subscriber == Subscriber::None && self.subject.keeps_the_contract();
        if self.no_spawn {
            blueprint.crew = Crew::Theirs(self.admin.clone());
        }
        if quiet {
            blueprint.settings.push(Setting::new("events", "unroutable", "discard"));
        }
        Ok(blueprint)
    }

    pub(super) const fn keeps_the_contract(&self) -> bool {
        self.subject.keeps_the_contract()
    }

    /// Ends the program with a message if these daemons, or what runs in their place, cannot do what is ordered.
    pub(super) fn refuse_what_it_cannot(&self, verb: &str, order: &Order, is_search: bool) {
        if self.no_spawn && (verb == "drain" || order.kills > 0 || self.subject != Subject::Settled) {
            refuse("--no-spawn: drain, --kill and --subject need daemons that this program starts itself");
        }
        if order.subscriber.reads_a_stream() && (self.no_spawn || is_search) {
            // A stream has the events of all steps, and daemons that run already have their own transport.
            refuse("--subscriber: find-max and --no-spawn have no stream of their own, expected live, late or none");
        }
        if is_search && self.subject != Subject::Settled {
            // Each step opens accounts of its own, with the daemons that run.
            refuse("--subject: find-max needs a subject that opens accounts, expected settled");
        }
        if self.subject != Subject::Settled && !order.shape.life.is_plain() {
            refuse("--subject: knows transfers for at once only, expected settled with --mix or --scheduled");
        }
    }
}

/// Whether the daemons are told to share the events among streams of which the subscriber would read one.
pub(super) fn has_partitions(blueprint: &Blueprint) -> bool {
    let partitions = Setting::of(&blueprint.settings, "events", "partitions");
    blueprint.streams && partitions.and_then(toml::Value::as_integer).is_some_and(|partitions| partitions != 1)
}

/// Ends the program with a message in that case.
pub(super) fn refuse_partitions(blueprint: &Blueprint) {
    if has_partitions(blueprint) {
        refuse(
            "--set events.partitions: a subscriber that reads a stream reads one, expected 1 or another --subscriber",
        );
    }
}

/// The `settled` to run: `path`, or else the one beside this program.
pub(crate) fn settled_path(path: Option<&Path>) -> io::Result<PathBuf> {
    match path {
        Some(path) => std::path::absolute(path),
        None => Ok(std::env::current_exe()?.with_file_name("settled")),
    }
}
