//! The daemons under load: started, counted, killed and stopped together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::daemon::{Daemon, Ended, tail};
use super::subject::Program;
use super::{Rig, admin};
use crate::plan::Tally;
use crate::report::model::ProcessUse;

/// The processes of the daemons that run, for those who watch.
pub(crate) type Pids = Arc<Mutex<Vec<u32>>>;

/// All daemons on the queue that this program knows of.
#[derive(Debug)]
pub(crate) struct Fleet {
    program: Program,
    members: Vec<Member>,
    pids: Pids,
    next_to_kill: usize,
}

#[derive(Debug)]
struct Member {
    config: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
    /// `None` if somebody else started it.
    daemon: Option<Daemon>,
    /// What killed predecessors had counted when it was last looked.
    counted_before: Tally,
    seen: Tally,
    killed: Vec<Ended>,
}

#[derive(Debug, Default)]
pub(crate) struct FleetEnd {
    pub(crate) stopped: Vec<Ended>,
    /// What all of them used, the killed ones too.
    pub(crate) used: ProcessUse,
}

impl Fleet {
    /// Starts `count` daemons and waits until each is ready. To be called on the main thread.
    pub(super) async fn start(rig: &Rig, program: Program, name: &str, count: usize, quiet: bool) -> Result<Self> {
        let mut fleet = Self { program, members: Vec::new(), pids: Arc::default(), next_to_kill: 0 };
        for number in 0..count {
            let (config, admin) = rig.configure(&format!("{name}-{number}"), quiet)?;
            let log = config.with_extension("log");
            fleet.members.push(Member::new(config, log, admin));
            fleet.launch(number).await?;
        }
        Ok(fleet)
    }

    /// Daemons that run already, by their admin addresses.
    pub(super) fn foreign(program: Program, admins: &[SocketAddr]) -> Self {
        let members = admins.iter().map(|admin| Member::new(PathBuf::new(), PathBuf::new(), *admin)).collect();
        Self { program, members, pids: Arc::default(), next_to_kill: 0 }
    }

    pub(crate) fn pids(&self) -> Pids {
        Arc::clone(&self.pids)
    }

    /// Whether all daemons on the queue were started by this program.
    pub(crate) fn is_ours(&self) -> bool {
        !self.members.is_empty() && self.members.iter().all(|member| member.daemon.is_some())
    }

    /// What came of all their deliveries since they were started; `None` if there is nobody to be
    /// asked. What a killed daemon had counted since it was last asked is missing.
    pub(crate) async fn outcomes(&mut self) -> Result<Option<Tally>> {
        let mut total: Option<Tally> = None;
        for member in &mut self.members {
            let metrics = admin::metrics(member.admin).await;
            let metrics = metrics.with_context(|| format!("a daemon does not answer:\n{}", tail(&member.log)))?;
            member.seen = metrics.outcomes();
            total = Some(total.unwrap_or_default().plus(member.counted_before).plus(member.seen));
        }
        Ok(total)
    }

    /// Kills one of them, each in turn, and starts another one in its place at once. To be called
    /// on the main thread.
    pub(crate) async fn kill_one(&mut self) -> Result<()> {
        let number = self.next_to_kill % self.members.len().max(1);
        self.next_to_kill += 1;
        self.end_one(number, Signal::KILL).await?;
        self.launch(number).await
    }

    /// Ends one of them with a signal; how, and how long after it. Nothing takes its place yet.
    pub(crate) async fn end_one(&mut self, number: usize, signal: Signal) -> Result<(ExitStatus, Duration)> {
        let member = &mut self.members[number];
        let daemon = member.daemon.take().context("it was not started by this program")?;
        let ended = daemon.end(signal).await.with_context(|| tail(&member.log))?;
        let how = (ended.status, ended.after);
        member.killed.push(ended);
        member.counted_before = member.counted_before.plus(std::mem::take(&mut member.seen));
        Ok(how)
    }

    /// Sends a signal to one of them that it survives.
    pub(crate) fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        let member = &self.members[number];
        let daemon = member.daemon.as_ref().context("it was not started by this program")?;
        daemon.signal(signal).with_context(|| tail(&member.log))
    }

    pub(crate) fn admins(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.admin).collect()
    }

    /// Stops all of them and waits for their ends.
    pub(crate) async fn stop(self) -> Result<FleetEnd> {
        let mut end = FleetEnd::default();
        for mut member in self.members {
            let mut peak = 0;
            let stopped = match member.daemon.take() {
                Some(daemon) => Some(daemon.end(Signal::TERM).await.with_context(|| tail(&member.log))?),
                None => None,
            };
            for ended in stopped.iter().chain(&member.killed) {
                end.used.cpu_seconds += ended.used.cpu_seconds;
                peak = peak.max(ended.used.max_rss_bytes);
            }
            // They run side by side, but those that replaced each other did not.
            end.used.max_rss_bytes += peak;
            end.used.restarts += member.killed.len() as u32;
            end.stopped.extend(stopped);
        }
        Ok(end)
    }

    /// Starts one in the place of one that has ended, and waits until it is ready. To be called on
    /// the main thread.
    pub(crate) async fn launch(&mut self, number: usize) -> Result<()> {
        let member = &mut self.members[number];
        member.daemon = Some(Daemon::start(&self.program, &member.config, &member.log, member.admin).await?);
        let running = self.members.iter().filter_map(|member| Some(member.daemon.as_ref()?.pid())).collect();
        *self.pids.lock().unwrap_or_else(PoisonError::into_inner) = running;
        Ok(())
    }
}

impl Member {
    fn new(config: PathBuf, log: PathBuf, admin: SocketAddr) -> Self {
        let (counted_before, seen) = (Tally::default(), Tally::default());
        Self { config, log, admin, daemon: None, counted_before, seen, killed: Vec::new() }
    }
}
