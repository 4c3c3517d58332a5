//! `settled-defective`: the daemon as it is shipped, with one seeded defect. It tests the checks that have to find
//! the defect.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, ValueEnum};
use settled::cli::{Cli, Exit};
use settled_testkit::defects::{Defect, seed};

/// The environment variable that names the defect.
const VARIABLE: &str = "SETTLED_DEFECT";

fn main() -> ExitCode {
    let version = concat!(env!("CARGO_PKG_VERSION"), "+defective");
    let matches = Cli::command().name("settled-defective").version(version).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let name = std::env::var(VARIABLE).ok();
    let Some(defect) = name.as_deref().and_then(|name| Defect::from_str(name, false).ok()) else {
        let known = Defect::value_variants().iter().map(Defect::to_string).collect::<Vec<_>>().join(", ");
        let found = name.map_or("nothing".to_owned(), |name| format!("`{name}`"));
        eprintln!("settled-defective: error: {VARIABLE}: found {found}, expected one of {known}");
        return Exit::BadConfig.into();
    };
    // In the format of the log, because it is the first line of it.
    eprintln!(r#"{{"level":"ERROR","message":"this daemon is defective on purpose","defect":"{defect}"}}"#);
    match cli.run_with(move |outside| seed(Some(defect), outside)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit().into()
        }
    }
}
