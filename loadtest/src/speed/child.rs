//! A run in a process of its own, as if it had been typed.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::Stop;
use crate::report::model::Results;
use crate::rig::tail;

/// Runs a command line of this program, with results in `out` and all that it says in a log
/// beside it; `None` if it was interrupted. To be called on the main thread: the kernel asks the
/// child to stop when the thread that started it ends.
///
/// # Errors
/// When it cannot be started, has not passed, or has left no results; with the end of its log.
pub(super) async fn results(line: &str, settled: &Path, out: &Path, stop: &mut Stop) -> Result<Option<Results>> {
    // Beside the folder, which takes results only.
    let log = out.with_extension("log");
    let log_file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(std::env::current_exe()?).args(line.split(' '));
    command.arg("--daemon").arg(settled).arg("--out").arg(out);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log_file.try_clone()?)
        .stderr(log_file)
        // Ctrl-C in a terminal reaches us alone, and is passed on once.
        .process_group(0)
        .spawn()
        .context("start setpriv (Debian package util-linux)")?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let status = tokio::select! {
        status = child.wait() => status?,
        () = stop.asked() => {
            if let Some(pid) = pid {
                kill_process(pid, Signal::TERM)?;
            }
            // It removes its servers first.
            child.wait().await?;
            return Ok(None);
        }
    };
    if !status.success() {
        bail!("{line}: {status}; the end of {}:\n{}", log.display(), tail(&log));
    }
    Results::read(out).map(Some)
}
