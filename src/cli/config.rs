//! `settled config`: the effective configuration, or the documented sample.

use serde_json::Value;

use super::output::{self, Table, Text};
use super::{Exit, Failure, Global};
use crate::config::{Described, sample};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the documented sample, with every key at its default
    #[arg(long)]
    sample: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    if args.sample {
        output::print_own(&sample())?;
        return Ok(Exit::Ok);
    }
    let described = global.load()?.describe();
    output::print(global.json, &described, || table(&described))?;
    Ok(Exit::Ok)
}

fn table(described: &[Described]) -> Text {
    let mut table = Table::new(["KEY", "VALUE", "ORIGIN"]);
    for Described { key, value, origin } in described {
        let value = match value {
            Value::Null => "-".to_owned(),
            value => value.to_string(),
        };
        table.row([key.clone(), value, origin.to_string()]);
    }
    table.into()
}
