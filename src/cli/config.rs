//! `settled config`: the effective configuration, or the documented sample.

use super::output::{self, Table};
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
        return output::print_own(&sample());
    }
    let described = global.load()?.describe();
    output::print(global.json, &described, || {
        let row = |Described { key, value, origin, .. }: &Described| {
            [key.clone(), if value.is_null() { "-".to_owned() } else { value.to_string() }, origin.to_string()]
        };
        Table::of(["KEY", "VALUE", "ORIGIN"], described.iter().map(row)).into()
    })
}
