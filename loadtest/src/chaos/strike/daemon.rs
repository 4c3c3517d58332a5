//! Faults of a daemon: it is killed, stands still, or is asked to end.

use anyhow::Result;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{Blow, Storm};
use crate::chaos::fault::Fault;
use crate::chaos::pulse::Beat;
use crate::chaos::record::Exit;
use crate::chaos::schedule::Strike;

impl Storm<'_> {
    pub(super) async fn strike_daemon(&mut self, strike: &Strike, victim: usize) -> Result<Blow> {
        if strike.fault == Fault::Freeze {
            self.fleet.signal(victim, Signal::STOP)?;
            sleep(strike.hold).await;
            self.fleet.signal(victim, Signal::CONT)?;
            return Ok(Blow::now(""));
        }
        let killed = strike.fault == Fault::Kill;
        let told = Instant::now();
        let (status, after) = self.fleet.end_one(victim, if killed { Signal::KILL } else { Signal::TERM }).await?;
        let over = if killed { told } else { told + after };
        self.fleet.launch(victim).await?;
        let exit = (!killed).then(|| Exit { after_s: after.as_secs_f64(), code: status.code() });
        // The next one counts from nothing.
        let before = Some(vec![Beat::default()]);
        Ok(Blow { over, before, exit, ..Blow::now("") })
    }
}
