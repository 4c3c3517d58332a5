//! `settled config`: the effective configuration, or the documented sample.

use serde_json::Value;

use super::{Exit, Failure, Global, output};
use crate::config::{Described, sample};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the documented sample, with every key at its default
    #[arg(long)]
    sample: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    if args.sample {
        output::print_text(&sample())?;
        return Ok(Exit::Ok);
    }
    let described = global.load()?.describe();
    output::print(global.json, &described, || table(&described))?;
    Ok(Exit::Ok)
}

fn table(described: &[Described]) -> String {
    let mut table = output::table(["KEY", "VALUE", "ORIGIN"]);
    for Described { key, value, origin } in described {
        let value = match value {
            Value::Null => "-".to_owned(),
            value => value.to_string(),
        };
        table.add_row([key.clone(), value, origin.to_string()]);
    }
    table.to_string()
}
