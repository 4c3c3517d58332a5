//! How soon the daemon is there: measured by this process itself, on servers of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use super::figures::Figure;
use super::rows::{KILLS, STARTS, Scale};
use crate::args::{Cli, Command};
use crate::rig::Rig;
use crate::scenario::{StartUp, start_up};

/// The times of all starts and kills, with the load and the daemon of the command line `line`.
pub(super) async fn figures(line: &str, scale: Scale, settled: &Path) -> Result<Vec<(Figure, f64)>> {
    let mut words: Vec<_> = std::iter::once("settled-loadtest").chain(line.split(' ')).map(Into::into).collect();
    words.extend(["--daemon".into(), settled.as_os_str().to_owned()]);
    let Command::Load(verb) = Cli::try_parse_from(words)?.command else { bail!("{line} is no run") };
    let job = verb.job()?;
    let rig = Rig::start(job.blueprint).await?;
    let times = start_up(&rig, &job.order, scale.count(STARTS), scale.count(KILLS)).await;
    let logs = rig.log_tails();
    rig.end().await?;
    let StartUp { ready, first_commit } = times.with_context(|| format!("the end of the daemon's log:\n{logs}"))?;
    let millis = |time: Duration| (Figure::Ready, time.as_secs_f64() * 1e3);
    let seconds = |time: Duration| (Figure::FirstCommit, time.as_secs_f64());
    Ok(ready.into_iter().map(millis).chain(first_commit.into_iter().map(seconds)).collect())
}
