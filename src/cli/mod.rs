//! The command line: one file per verb.

mod account;
mod audit;
mod check;
mod completions;
mod config;
mod dead_letters;
mod dev;
pub mod exit;
mod global;
mod human;
mod instances;
mod ledger;
mod migrate;
mod outbox;
mod outcome;
pub mod output;
mod payment;
mod profile;
mod progress;
mod publish;
mod reflexes;
mod run;
mod top;

use clap::{Parser, Subcommand};
use settled_pipeline::intake::Source;
use settled_pipeline::machine::Outside;
use settled_pipeline::outbox::Sink;
use settled_pipeline::store::{BatchStore, OutboxStore};

pub use self::exit::{Exit, Failure};
use self::global::Session;
pub use self::global::{Global, block_on};
use crate::daemon::Servers;
use crate::dev::ServersOptions;

/// Payment tasks from RabbitMQ to a double-entry ledger in PostgreSQL, exactly once.
#[derive(Debug, Parser)]
#[command(name = "settled", version = crate::VERSION, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Environment: SETTLED_AMQP_URI, SETTLED_POSTGRES_URL and SETTLED_ADMIN_LISTEN override the file.
Exit codes: 0 done, 1 failed or the answer is no, 2 usage, 69 a server cannot be reached, \
78 bad configuration, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon
    Run,
    /// Run the daemon with a PostgreSQL and a RabbitMQ of its own
    Dev(dev::Args),
    /// Bring the database's schema up to date
    Migrate(migrate::Args),
    /// Publish tasks from a file, with confirms
    Publish(publish::Args),
    /// Look accounts up, and open them
    #[command(subcommand)]
    Account(account::Command),
    /// Look payments up
    #[command(subcommand)]
    Payment(payment::Command),
    /// Look at messages that could not become a payment, and deal with them
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Look at events that are held, and deal with them
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Say which ledger this is, and after a restore that it is another one
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// List the daemons that use the database, and what they do
    Instances,
    /// List what daemons did by themselves when something was wrong, and what they would have done
    Reflexes(reflexes::Args),
    /// Watch what the daemons do
    Top(top::Args),
    /// Find out where the CPU time and the memory of a running daemon go
    Profile(profile::Args),
    /// Have daemons take no more tasks, finish those in hand, and wait
    Drain(instances::DrainArgs),
    /// Have drained daemons take tasks again
    Resume(instances::Selection),
    /// Check every invariant of the ledger
    Audit(audit::Args),
    /// Check the configuration, and whether the servers can be reached
    Check(check::Args),
    /// Print the effective configuration and where each value comes from
    Config(config::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// The servers behind `dev`
    #[command(name = "dev-servers", hide = true)]
    DevServers(ServersOptions),
}

impl Cli {
    /// Runs the verb. Errors are returned, not printed.
    pub fn run(self) -> Result<Exit, Failure> {
        self.run_with(|servers| servers)
    }

    /// Like [`run`](Self::run), but the daemon of `settled run` uses the wrappers that `wrap` returns for its servers.
    pub fn run_with<S: BatchStore, O: OutboxStore, I: Source, E: Sink>(
        self,
        wrap: impl FnOnce(Servers) -> Outside<S, O, I, E> + Send + 'static,
    ) -> Result<Exit, Failure> {
        let Self { global, verb } = self;
        match verb {
            Verb::Run => run::run(&global, wrap),
            Verb::Dev(args) => dev::run(&global, &args),
            Verb::Migrate(args) => migrate::run(&global, &args),
            Verb::DevServers(options) => dev::servers(&options),
            Verb::Publish(args) => publish::run(&global, &args),
            Verb::Account(command) => account::run(&global, command),
            Verb::Payment(command) => payment::run(&global, command),
            Verb::DeadLetters(command) => dead_letters::run(&global, command),
            Verb::Outbox(command) => outbox::run(&global, command),
            Verb::Ledger(command) => ledger::run(&global, command),
            Verb::Instances => instances::list(&global),
            Verb::Reflexes(args) => reflexes::list(&global, &args),
            Verb::Top(args) => top::run(&global, args),
            Verb::Profile(args) => profile::run(&global, args),
            Verb::Drain(args) => instances::drain(&global, args),
            Verb::Resume(args) => instances::resume(&global, args),
            Verb::Audit(args) => audit::run(&global, &args),
            Verb::Check(args) => check::run(&global, &args),
            Verb::Config(args) => config::run(&global, &args),
            Verb::Completions(args) => completions::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
