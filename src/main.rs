//! The `settled` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use settled::cli::Cli;

// The daemon makes many small allocations on several threads, which mimalloc is fast at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // mimalloc asks for huge pages (2 MB), of which a daemon this small fills few. Without them resident memory is
    // half as large, and no time is spent on clearing pages. If the kernel refuses, nothing else changes.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit().into()
        }
    }
}
