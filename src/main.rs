//! The `settled` binary.

use std::path::PathBuf;
use std::process::ExitCode;

use settled::dev::{ServersOptions, guardian};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut options = ServersOptions::default();
    let mut arguments = std::env::args().skip(2);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--keep" => options.keep = true,
            "--dir" => options.dir = arguments.next().map(PathBuf::from),
            _ => return ExitCode::FAILURE,
        }
    }
    guardian::run(&options).await
}
