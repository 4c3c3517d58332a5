//! One server process as the guardian's child: started, awaited, stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::error::{Context, DevError};

/// How long a server may take to become ready. It takes seconds; this is for a machine that
/// compiles at the same time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long one look at whether a server is ready may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// The pause between two looks.
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// How much of its log an error quotes.
const TAIL_LINES: usize = 20;

/// A server: at most one process at a time, with its output in one file.
pub struct Server {
    name: &'static str,
    log: PathBuf,
    /// The length of the log when the present process was started, in bytes.
    log_start: u64,
    child: Option<Child>,
}

impl Server {
    pub(super) fn new(name: &'static str, log: PathBuf) -> Self {
        Self { name, log, log_start: 0, child: None }
    }

    /// Its process id, unless it was stopped or never started.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Whether its process is there; one that ended by itself is noticed here.
    pub(super) fn is_running(&mut self) -> bool {
        if self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            self.child = None;
        }
        self.child.is_some()
    }

    /// Starts the process, in its own group so that Ctrl-C in a terminal does not reach it.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn launch(&mut self, mut command: Command) -> Result<(), DevError> {
        let (log, start, copy) = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .and_then(|log| Ok((log.try_clone()?, log.metadata()?.len(), log)))
            .context(|| format!("write {}", self.log.display()))?;
        self.log_start = start;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context(|| format!("start {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until `probe` has something, or the process has ended, or the time is up.
    pub(super) async fn ready<T>(&mut self, mut probe: impl AsyncFnMut() -> Option<T>) -> Result<T, DevError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(Some(found)) = timeout(PROBE_LIMIT, probe()).await {
                return Ok(found);
            }
            if !self.is_running() {
                return Err(self.failure("ended while it was starting"));
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("was not ready within {START_LIMIT:?}")));
            }
            sleep(PROBE_PAUSE).await;
        }
    }

    /// Waits until the process ends by itself, which must be with success.
    ///
    /// # Errors
    /// If it fails or takes too long, with the end of its log.
    pub async fn finished(&mut self) -> Result<(), DevError> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let ended = timeout(START_LIMIT, child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => {
                self.child = None;
                Ok(())
            }
            Ok(Ok(status)) => Err(self.failure(&format!("failed with {status}"))),
            Ok(Err(error)) => Err(self.failure(&format!("cannot be waited for: {error}"))),
            Err(_) => Err(self.failure(&format!("did not finish within {START_LIMIT:?}"))),
        }
    }

    /// Sends `signal` and waits; a process that is still there after `patience` is killed.
    /// Stopping a server that does not run is no error.
    pub(super) async fn stop(&mut self, signal: Signal, patience: Duration) -> Result<(), DevError> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // The only failure is that it is gone already.
            let _ = kill_process(pid, signal);
        }
        let mut ended = timeout(patience, child.wait()).await;
        if ended.is_err() {
            ended = Ok(child.kill().await.and(child.wait().await));
        }
        if let Ok(result) = ended {
            result.context(|| format!("wait for {}", self.name))?;
        }
        self.child = None;
        Ok(())
    }

    /// Kills it. See [`Server::stop`].
    pub(super) async fn kill(&mut self) -> Result<(), DevError> {
        self.stop(Signal::KILL, START_LIMIT).await
    }

    /// What the present process, or the last one, has logged so far.
    pub(super) fn logged(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(&self.log)?;
            log.seek(SeekFrom::Start(self.log_start))?;
            let mut bytes = Vec::new();
            log.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // Only ever quoted in errors, which are not to be lost for the sake of a quotation.
        read().map_or_else(|error| error.to_string(), |b| String::from_utf8_lossy(&b).into_owned())
    }

    fn failure(&self, problem: &str) -> DevError {
        let logged = self.logged();
        let lines: Vec<&str> = logged.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        DevError::Server { server: self.name, problem: problem.into(), log: self.log.clone(), tail }
    }
}
