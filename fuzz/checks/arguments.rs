//! A command line.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Command, CommandFactory, FromArgMatches};
use settled::cli::Cli;

thread_local! {
    /// Built once: that takes longer than reading a command line.
    static COMMAND: RefCell<Command> = RefCell::new(Cli::command());
}

/// The arguments, one a line.
pub fn check(data: &[u8]) {
    read(data.split(|byte| *byte == b'\n').map(|argument| OsString::from_vec(argument.to_vec())));
}

/// Reads a command line; whoever wrote one that is none is told why.
pub(super) fn read(arguments: impl Iterator<Item = OsString>) {
    let line = std::iter::once("settled".into()).chain(arguments);
    let read = COMMAND.with_borrow_mut(|command| command.try_get_matches_from_mut(line));
    match read.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => drop(format!("{cli:?}")),
        Err(error) => assert!(!error.to_string().is_empty(), "somebody is told why"),
    }
}
