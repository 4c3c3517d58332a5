//! The `settled-sabotaged` binary: the daemon with a defect, for testing what has to find it.

use std::process::ExitCode;

use clap::Parser;
use settled::cli::{Cli, Exit, Failure};
use settled::config;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit().into()
        }
    }
}

/// Does nothing at all before it is said what is to be wrong.
fn run(cli: Cli) -> Result<Exit, Failure> {
    config::sabotage()?;
    cli.run()
}
