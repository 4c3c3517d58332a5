//! The `settled` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use settled::cli::Cli;

/// Many small allocations from several threads: what mimalloc is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for pages of 2 MB, of which a daemon this small never fills many: without
    // them it has half the resident memory and spends no time on clearing them. A kernel that
    // cannot do that runs it all the same.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit().into()
        }
    }
}
