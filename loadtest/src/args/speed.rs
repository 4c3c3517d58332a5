//! `speed` and `floor`.

use std::path::PathBuf;

use clap::Args;

use crate::values::{self, at_least_one};

#[derive(Debug, Args)]
pub(crate) struct SpeedArgs {
    /// How often each run is done; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Only these rows, with what they are compared with: r1, r2 (references), single, single-live, batch, stream,
    /// discard, hot, mix, latency, stream-latency, memory, grown, start
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// The row of the grown ledger, too: some minutes and ten gigabytes
    #[arg(long)]
    pub(crate) grown: bool,
    /// How often the grown ledger is measured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) grown_rounds: usize,
    /// A tenth of the load: shows that all of it works, not how fast it is
    #[arg(long)]
    pub(crate) quick: bool,
    /// The part of the usual load
    #[arg(long, value_name = "SHARE", hide = true, conflicts_with = "quick", value_parser = values::scale)]
    pub(crate) scale: Option<f64>,
    /// The settled to measure [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) daemon: Option<PathBuf>,
    /// Keep the table and the results of every run in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// How many payments to commit
    #[arg(long, default_value_t = 200_000, value_parser = at_least_one)]
    pub(crate) count: usize,
    /// How many payments to commit in one transaction
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// How many accounts take part
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    pub(crate) accounts: usize,
    /// How many connections commit at the same time, each between accounts of its own
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) connections: usize,
    /// The same seed gives the same payments, but for their ids
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Accepted as by the other verbs: PostgreSQL is measured without a daemon
    #[arg(long, value_name = "PATH", hide = true)]
    daemon: Option<PathBuf>,
    /// What to call it in the results
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the results into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
