//! The real `settled run`, as a process of its own that cannot outlive this one.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::admin;
use super::process;
use super::subject::Program;
use crate::report::model::ProcessUse;

const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the end may take: more than any drain that a setting allows by default.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How much of its log is quoted when it does not do what it should.
const QUOTED_LINES: usize = 20;

/// A running daemon. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    pid: Pid,
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) after: Duration,
    pub(crate) used: ProcessUse,
}

impl Daemon {
    /// Starts it and waits until it is ready. To be called on the main thread: the kernel kills
    /// the daemon when the thread that started it ends.
    pub(crate) async fn start(program: &Program, config: &Path, log: &Path, admin: SocketAddr) -> Result<Self> {
        let log_file = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&program.path).args(&program.args);
        command.arg("run").arg("--config").arg(config);
        let mut child = super::without_overrides(&mut command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            // Ctrl-C in a terminal reaches us alone: the daemon is then stopped in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("start setpriv (Debian package util-linux)")?;
        if let Err(error) = await_ready(&mut child, admin).await {
            bail!("the daemon is not ready: {error:#}\n{}", tail(log));
        }
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the daemon has ended")?;
        Ok(Self { child, pid })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).context("the daemon has ended by itself")
    }

    /// Ends it with a signal. What a process that has ended used is gone: it is read before.
    pub(super) async fn end(mut self, signal: Signal) -> Result<Ended> {
        let used = process::of_process(self.pid()).context("the daemon has ended by itself")?;
        let told = Instant::now();
        self.signal(signal)?;
        let ended = timeout(STOP_LIMIT, self.child.wait()).await;
        let status = ended.with_context(|| format!("the daemon did not stop within {STOP_LIMIT:?}"))??;
        Ok(Ended { status, after: told.elapsed(), used })
    }
}

async fn await_ready(child: &mut Child, admin: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("it ended: {status}");
        }
        let last = match admin::ready(admin).await {
            Ok((true, _)) => return Ok(()),
            Ok((false, report)) => report,
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            bail!("not within {START_LIMIT:?}: {last}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}
