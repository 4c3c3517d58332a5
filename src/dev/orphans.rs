//! Processes that the servers have started and left behind. The guardian is their parent then, and reaps them.
//!
//! RabbitMQ's name service (epmd) and Erlang's resolver start such helpers every minute or so.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::error::{Context, DevError};

/// How long the processes that the servers started may take to follow them.
const LIMIT: Duration = Duration::from_secs(10);

/// Makes this process the parent of what its children leave behind. Returns the signal that one of them has ended.
///
/// # Errors
/// If the system refuses it.
pub(super) fn adopt() -> Result<Signal, DevError> {
    set_child_subreaper(Some(getpid())).context(|| "become the parent of orphans".into())?;
    signal(SignalKind::child()).context(|| "notice the end of orphans".into())
}

/// Reaps those that have ended. `servers` are the ids of our own children, which tokio waits for: there must be no
/// others, or tokio would wait in vain.
pub(super) fn reap(servers: &[u32]) {
    for child in ended_children().into_iter().filter(|child| !servers.contains(child)) {
        // The only failure is that it is gone already.
        let _ = Pid::from_raw(child.cast_signed()).map(|child| waitpid(Some(child), WaitOptions::NOHANG));
    }
}

/// Waits until there is no child left. The servers have been waited for; this is about what they had started: sessions
/// of PostgreSQL, helpers of Erlang.
///
/// # Errors
/// If one of them doesn't end.
pub(super) async fn all_ended() -> Result<(), DevError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return Ok(()),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
            Ok(None) => {
                let problem = io::Error::other("a process of theirs does not end");
                return Err(problem).context(|| "end the servers".into());
            }
            Err(error) => return Err(error).context(|| "wait for the servers' processes".into()),
        }
    }
}

/// Process ids of the children that have ended and were not waited for.
fn ended_children() -> Vec<u32> {
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    ids.filter(|pid| {
        // "pid (name) state parent …"; the name can have blanks and brackets.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        fields.next() == Some("Z") && fields.next().and_then(|parent| parent.parse().ok()) == Some(own)
    })
    .collect()
}
