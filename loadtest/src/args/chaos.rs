//! `chaos`: which faults strike, and under which load.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use settled::dev::ServersOptions;

use super::load::LoadArgs;
use super::{refuse, settled_path, values};
use crate::chaos::{Job, Tempo, Wanted};
use crate::load::Pace;
use crate::load::schedule::Limit;
use crate::plan::Mix;
use crate::rig::{Blueprint, Crew, Place, Setting, Subject};
use crate::scenario::Subscriber;

/// `chaos`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChaosArgs {
    /// What strikes: names of faults, each perhaps with a colon and how often, or all
    ///
    /// Of the daemon: kill, freeze, term. Of the broker: broker-kill, broker-restart, broker-close,
    /// broker-alarm, queue-delete, events-unbind, events-delete. Of PostgreSQL: db-stop, db-terminate,
    /// db-cut, db-full, db-read-only, db-lock, db-slow, db-promote. Between them: cut-before-commit,
    /// cut-after-commit, cut-before-ack, cut-after-ack, cut-before-confirm, delay, half-open. The
    /// manual, docs/loadtest.md, says what each does.
    #[arg(long, value_name = "FAULT[:COUNT],…", value_delimiter = ',', default_value = "all")]
    faults: Vec<Wanted>,
    /// For how long; the strikes are spread over it. Longer if they need longer
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    duration: Duration,
    /// How often each fault strikes that has no count of its own [default: as often as there is time]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    count_per_fault: Option<usize>,
    /// How long each fault lasts that has a length, such as 10m [default: drawn for each strike]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    hold: Option<Duration>,
    /// Messages per second, in the long run
    #[arg(long, value_name = "N", default_value = "600", value_parser = values::rate_per_second, help_heading = "Load")]
    rate: f64,
    /// From one burst of messages to the next: the longer, the more are in flight at times
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = values::duration, help_heading = "Load")]
    burst: Duration,
    /// Strike only when so many tasks are in flight, at the daemon that is struck or at all together
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Load")]
    in_flight: u64,
    #[command(flatten)]
    load: LoadArgs,
    /// A broker to use instead of one of its own, such as amqp://user:password@host:5672/%2f
    ///
    /// What strikes the servers themselves is not for those of somebody else: broker-kill,
    /// broker-restart, broker-close, broker-alarm, db-stop, db-full, db-read-only, db-promote.
    #[arg(long, value_name = "URI", requires = "postgres_url", help_heading = "Servers and daemons")]
    amqp_uri: Option<String>,
    /// A database to use instead of one of its own, empty, as the daemon uses it, without TLS
    #[arg(long, value_name = "URL", requires = "amqp_uri", help_heading = "Servers and daemons")]
    postgres_url: Option<String>,
    /// The settled to run [default: the one beside this program]
    #[arg(long, value_name = "PATH", help_heading = "Servers and daemons")]
    daemon: Option<PathBuf>,
    /// How many daemons share the queue
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::at_least_one, help_heading = "Servers and daemons")]
    daemons: usize,
    /// A setting of the daemon, such as pipeline.lanes=1; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", help_heading = "Servers and daemons")]
    settings: Vec<Setting>,
    /// Fail if anything takes longer to go on than the project promises, not only show it
    #[arg(long, help_heading = "Result")]
    goals: bool,
    /// Print the result as JSON
    #[arg(long, help_heading = "Result")]
    json: bool,
    /// Keep the result and the logs of all daemons in this folder
    #[arg(long, value_name = "DIR", help_heading = "Result")]
    out: Option<PathBuf>,
}

impl ChaosArgs {
    /// What it asks for; ends the program with a message where that makes no sense.
    pub(crate) fn job(&self) -> io::Result<Job> {
        let pace = (Pace::constant(self.rate), Limit::Time(self.duration), 0);
        let order = self.load.order(Mix::FAULTY, pace, Subscriber::Live).unwrap_or_else(|error| refuse(&error));
        if order.publishers != 1 {
            refuse("--publishers: one system publishes here, expected 1");
        }
        let place = Place::of(self.amqp_uri.as_deref(), self.postgres_url.as_deref());
        let struck = self.faults.iter().find_map(|wanted| wanted.is_of_own_servers());
        if let Some(fault) = struck.filter(|_| place != Place::Private) {
            refuse(&format!("--faults {fault}: strikes servers that are somebody else's, expected no --amqp-uri"));
        }
        let blueprint = Blueprint {
            place,
            servers: ServersOptions::default(),
            settled: settled_path(self.daemon.as_deref())?,
            subject: Subject::Settled,
            settings: self.settings.clone(),
            crew: Crew::Ours(self.daemons),
        };
        Ok(Job {
            faults: self.faults.clone(),
            duration: self.duration,
            usual: self.count_per_fault,
            hold: self.hold,
            tempo: Tempo { rate: self.rate, burst: self.burst },
            in_flight: self.in_flight,
            goals: self.goals,
            json: self.json,
            out: self.out.clone(),
            order,
            blueprint,
        })
    }
}
