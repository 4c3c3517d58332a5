//! `settled config`: the effective configuration, or the documented sample.

use super::output::{self, Table};
use super::{Exit, Failure, Global};
use crate::config::{Config, ConfigError, Described, sample};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the documented sample, with every key at its default
    #[arg(long)]
    sample: bool,
}

/// Loads the configuration; without the service's secrets, and with a word about it, if they cannot be read.
fn load(global: &Global) -> Result<Config, Failure> {
    match Config::load(&global.sources(true)) {
        Err(error @ ConfigError::Secrets { .. }) => {
            let config = global.load()?;
            let problems = error.problems();
            output::note(&format!("settled: incomplete: {}", problems[0].to_string().replace('\n', " ")));
            Ok(config)
        }
        loaded => Ok(loaded?),
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    if args.sample {
        return output::print_own(&sample());
    }
    let described = load(global)?.describe();
    output::print(global.json, &described, || {
        let row = |Described { key, value, origin, .. }: &Described| {
            [key.clone(), if value.is_null() { "-".to_owned() } else { value.to_string() }, origin.to_string()]
        };
        Table::of(["KEY", "VALUE", "ORIGIN"], described.iter().map(row)).into()
    })
}
