//! The command line: one file a verb.

mod account;
mod audit;
mod check;
mod completions;
mod config;
mod dead_letters;
mod dev;
pub mod exit;
mod human;
mod ledger;
mod migrate;
mod outbox;
mod outcome;
pub mod output;
mod payment;
mod publish;
pub mod publisher;
mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use self::exit::{Exit, Failure};
use crate::config::Config;

/// Payment tasks from RabbitMQ to a double-entry ledger in PostgreSQL, exactly once.
#[derive(Debug, Parser)]
#[command(name = "settled", version = crate::VERSION, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What every verb has in common.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The configuration file [default: /etc/settled/settled.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// The effective configuration.
    ///
    /// # Errors
    /// With exit code 78 and every problem there is.
    pub fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(self.config.as_deref())?)
    }
}

const AFTER_HELP: &str = "\
Environment: SETTLED_AMQP_URI, SETTLED_POSTGRES_URL and SETTLED_ADMIN_LISTEN override the file.
Exit codes: 0 done, 1 failed or the answer is no, 2 usage, 69 a server cannot be reached, \
78 bad configuration.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon
    Run(run::Args),
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
    DevServers(dev::ServersArgs),
}

impl Cli {
    /// Does what was asked for. Errors are returned, not printed.
    ///
    /// # Errors
    /// With the exit code and, where there is one, a hint for the user.
    pub fn run(self) -> Result<Exit, Failure> {
        let Self { global, verb } = self;
        match verb {
            Verb::Run(args) => run::run(&global, &args),
            Verb::Dev(args) => dev::run(&global, &args),
            Verb::Migrate(args) => migrate::run(&global, &args),
            Verb::DevServers(args) => dev::servers(args),
            Verb::Publish(args) => publish::run(&global, &args),
            Verb::Account(command) => account::run(&global, command),
            Verb::Payment(command) => payment::run(&global, command),
            Verb::DeadLetters(command) => dead_letters::run(&global, command),
            Verb::Outbox(command) => outbox::run(&global, command),
            Verb::Ledger(command) => ledger::run(&global, command),
            Verb::Audit(args) => audit::run(&global, args),
            Verb::Check(args) => check::run(&global, &args),
            Verb::Config(args) => config::run(&global, &args),
            Verb::Completions(args) => completions::run(&args),
        }
    }
}

/// Runs the asynchronous part of a short-lived verb on a runtime of its own.
///
/// # Errors
/// When the system refuses the runtime, or as the future does.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
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
