//! The command line.

use std::io;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::plan::{Mix, Shape, Skew};
use crate::rig::Setting;
use crate::sink::EventQueue;

/// Runs the real settled on private servers, under load, and judges what came of every message
#[derive(Debug, Parser)]
#[command(name = "settled-loadtest", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A run, under load.
    #[command(flatten)]
    Run(Run),
    /// Show the results of two runs side by side, with ratios
    Compare {
        /// The results folder of the first run
        #[arg(value_name = "A")]
        a: PathBuf,
        /// The results folder of the second run
        #[arg(value_name = "B")]
        b: PathBuf,
        /// Print the comparison as JSON
        #[arg(long)]
        json: bool,
    },
}

const AFTER_HELP: &str = "Exit codes: 0 passed, 1 failed, 2 usage, 130 interrupted.";

/// The runs there are.
#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// Publish tasks of every kind to a running daemon, and check what came of each
    Demo {
        /// How many messages to publish
        #[arg(long, default_value_t = 50_000, value_parser = at_least_one)]
        count: usize,
        /// What else there is beside good payments
        #[arg(long, value_enum, default_value_t = Mix::Faulty)]
        mix: Mix,
        #[command(flatten)]
        options: Options,
    },
    /// Publish a backlog while no daemon runs, then measure how fast one catches up
    Drain {
        /// How many messages to publish
        #[arg(long, default_value_t = 200_000, value_parser = at_least_one)]
        count: usize,
        /// What else there is beside good payments
        #[arg(long, value_enum, default_value_t = Mix::Plain)]
        mix: Mix,
        #[command(flatten)]
        options: Options,
    },
}

/// What all runs have in common.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many accounts pay; a tenth as many are paid
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    accounts: usize,
    /// Which accounts take part
    #[arg(long, value_enum, default_value_t = Skew::Uniform)]
    skew: Skew,
    /// The same seed gives the same messages, but for their ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The kind of queue that receives the events
    #[arg(long, value_enum, default_value_t = EventQueue::Classic)]
    pub(crate) event_queue: EventQueue,
    /// A setting of the daemon, such as pipeline.lanes=1; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) settings: Vec<Setting>,
    /// The settled to run [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report to FILE too, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

impl Run {
    /// What is to be published.
    pub(crate) fn shape(&self) -> Shape {
        let (Self::Demo { count, mix, options } | Self::Drain { count, mix, options }) = self;
        let Options { accounts, skew, seed, .. } = options;
        Shape { count: *count, customers: *accounts, skew: *skew, mix: *mix, seed: *seed }
    }

    /// What all runs have in common.
    pub(crate) fn options(&self) -> &Options {
        let (Self::Demo { options, .. } | Self::Drain { options, .. }) = self;
        options
    }

    /// Its name on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Demo { .. } => "demo",
            Self::Drain { .. } => "drain",
        }
    }
}

impl Options {
    /// The `settled` to run.
    pub(crate) fn binary(&self) -> io::Result<PathBuf> {
        match &self.daemon {
            Some(path) => std::path::absolute(path),
            None => Ok(std::env::current_exe()?.with_file_name("settled")),
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
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
