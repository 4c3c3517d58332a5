//! The real `settled run`, as a process of its own that cannot outlive this one.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::admin;

/// How long the start may take.
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

/// What a daemon used until it was asked to stop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    /// User and system time of all threads.
    pub(crate) cpu_seconds: f64,
    /// The most memory it ever had.
    pub(crate) max_rss_bytes: u64,
}

/// A daemon that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How.
    pub(crate) status: ExitStatus,
    /// What it had used.
    pub(crate) usage: Usage,
}

impl Daemon {
    /// Starts it and waits until it is ready. To be called on the main thread: the kernel kills
    /// the daemon when the thread that started it ends.
    pub(crate) async fn start(binary: &Path, config: &Path, log: &Path, admin: SocketAddr) -> Result<Self> {
        let log_file = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(binary).arg("run").arg("--config").arg(config);
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

    /// Asks it to stop, with SIGTERM, and waits for its end.
    pub(crate) async fn stop(mut self) -> Result<Ended> {
        let usage = usage(self.pid).context("read what the daemon used: it has ended by itself")?;
        kill_process(self.pid, Signal::TERM).context("the daemon has ended by itself")?;
        let ended = timeout(STOP_LIMIT, self.child.wait()).await;
        let status = ended.with_context(|| format!("the daemon did not stop within {STOP_LIMIT:?}"))??;
        Ok(Ended { status, usage })
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

/// From `/proc`, because the figures of a process that has ended are gone.
fn usage(pid: Pid) -> Result<Usage> {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(format!("{process}/stat"))?;
    // The name, in brackets, may hold spaces; user and system time are the 14th and 15th field.
    let (_, fields) = stat.rsplit_once(") ").context("an unknown format of /proc")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let status = std::fs::read_to_string(format!("{process}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("an unknown format of /proc")?;
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Usage { cpu_seconds: ticks as f64 / per_second as f64, max_rss_bytes: kibibytes * 1024 })
}

/// The end of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}
