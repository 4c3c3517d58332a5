//! A command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::Parser;
use settled::cli::Cli;

/// The arguments, one a line.
pub fn check(data: &[u8]) {
    let arguments = data.split(|byte| *byte == b'\n').map(|argument| OsString::from_vec(argument.to_vec()));
    match Cli::try_parse_from(std::iter::once("settled".into()).chain(arguments)) {
        Ok(cli) => drop(format!("{cli:?}")),
        Err(error) => assert!(!error.to_string().is_empty(), "somebody is told why"),
    }
}
