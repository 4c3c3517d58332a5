//! The `settled` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use settled::cli::Cli;

/// Many small allocations from several threads: what mimalloc is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit().into()
        }
    }
}
