//! Runs the real `settled-loadtest` with the real `settled` beside it.

mod place;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use settled_testkit::harness::{built, settled};

pub(crate) use place::{Place, stream_port};

/// The daemon that belongs to this build. Cargo builds it for its own package's tests only.
pub(crate) static SETTLED: LazyLock<PathBuf> = LazyLock::new(|| {
    built("walls");
    settled()
});

/// How a command line ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// What it printed with `--json`.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The result of a run that has to have passed.
    #[track_caller]
    pub(crate) fn passed(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        let summary = self.json();
        assert_eq!(summary["passed"], true, "{summary:#}");
        assert_eq!((&summary["lost"], &summary["doubled"]), (&0.into(), &0.into()), "{summary:#}");
        summary
    }
}

/// Runs a command line to its end.
pub(crate) fn loadtest(line: &str) -> Ended {
    ended(&mut command(line, &SETTLED))
}

/// Runs a command line to its end, where it shares the servers with others.
pub(crate) fn loadtest_beside_others(line: &str) -> Ended {
    loadtest_at(&Place::new(), line)
}

/// The same, with daemons that append their events to a stream.
pub(crate) fn loadtest_with_a_stream(line: &str) -> Ended {
    loadtest_beside_others(&format!("{line} --set stream.port={}", stream_port()))
}

/// Runs a command line to its end, at a place that others may use before and after.
pub(crate) fn loadtest_at(place: &Place, line: &str) -> Ended {
    ended(command(line, &SETTLED).args(place.arguments()))
}

/// A command line that puts `daemon` under load.
pub(crate) fn command(line: &str, daemon: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_settled-loadtest"));
    command.args(line.split_whitespace()).arg("--daemon").arg(daemon);
    command
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}
