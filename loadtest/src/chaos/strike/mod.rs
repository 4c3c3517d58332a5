//! Carries out the strikes, one after the other, and measures how soon all goes on.

mod blow;
mod lines;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use settled_pipeline::labels::Outcome;
use settled_testkit::servers::PrivateServers;
use tokio::time::{Instant, sleep, timeout};

use super::fault::Fault;
use super::pulse::{self, Beat};
use super::record::Struck;
use super::schedule::Strike;
use super::upstream::Upstream;
use crate::broker::{self, TASKS_QUEUE};
use crate::rig::Fleet;
use crate::scenario::case::Case;
use crate::sink::Sink;
pub(super) use lines::Lines;

/// How long all may take to go on after a fault. It is far more than is promised: what takes longer
/// stands still.
const STANDSTILL: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(3);
/// While they have to show that they work, so many messages come early, for each daemon, so often.
const HURRY: (u64, Duration) = (16, Duration::from_millis(100));

pub(super) struct Storm<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) lines: &'a Lines,
    pub(super) fleet: &'a mut Fleet,
    pub(super) upstream: &'a Upstream,
    pub(super) sink: &'a Sink,
    /// How many tasks have to be in flight.
    pub(super) in_flight: u64,
}

/// A fault that is over.
struct Over {
    at: Instant,
    /// When events came again, if that was looked at already.
    events: Option<Instant>,
}

impl Over {
    const fn at(at: Instant) -> Self {
        Self { at, events: None }
    }
}

impl<'a> Storm<'a> {
    fn own_servers(&self) -> Result<&'a PrivateServers> {
        self.case.rig.private.as_ref().context("servers of our own are needed for it")
    }

    /// Strikes once, and waits until all goes on. To be called on the main thread.
    pub(super) async fn strike(&mut self, strike: &Strike) -> Struck {
        let victim = strike.draw as usize % self.fleet.admins().len();
        let is_of_a_daemon = matches!(strike.fault, Fault::Kill | Fault::Freeze | Fault::Term);
        let mut struck = Struck::new(strike, self.upstream.elapsed(), is_of_a_daemon.then_some(victim));
        if let Err(error) = self.carry_out(strike, victim, &mut struck).await {
            struck.failure = Some(format!("{error:#}"));
        }
        struck
    }

    async fn carry_out(&mut self, strike: &Strike, victim: usize, struck: &mut Struck) -> Result<()> {
        let admins = self.fleet.admins();
        let watched: Vec<SocketAddr> = if struck.daemon.is_some() { vec![admins[victim]] } else { admins };
        let began = self.await_flights(&watched).await?;
        let rss = |beats: &[Beat]| beats.iter().map(|beat| beat.rss).sum::<u64>();
        struck.at_s = self.upstream.elapsed().as_secs_f64();
        struck.in_flight = in_flight(&began);
        struck.rss = [rss(&began); 2];
        let events = self.sink.unique();
        let over = self.blow(strike, victim, struck).await?;
        struck.held_s = strike.hold.as_secs_f64();
        // A daemon that was started meanwhile counts from nothing.
        let is_another = matches!(strike.fault, Fault::Kill | Fault::Term);
        let after = if strike.fault.is_told_by_events() {
            let came = match over.events {
                Some(came) => came,
                None => self.events_beyond(events.max(self.sink.unique())).await?,
            };
            came.saturating_duration_since(over.at)
        } else {
            let before = if is_another { vec![Beat::default()] } else { pulse::all(&watched).await };
            let commits = self.commits_beyond(&watched, &before, over.at);
            if matches!(strike.fault, Fault::BrokerKill | Fault::BrokerRestart) {
                let (commits, served) = tokio::join!(commits, self.queue_answers(over.at));
                struck.served_s = Some(served?.as_secs_f64());
                commits?
            } else {
                commits.await?
            }
        };
        struck.recovered_s = Some(after.as_secs_f64());
        let ended = pulse::all(&watched).await;
        struck.rss[1] = struck.rss[1].max(rss(&ended));
        let counted = |figure: fn(&Beat) -> u64| {
            let of = |beats: &[Beat]| beats.iter().map(figure).sum::<u64>();
            of(&ended).saturating_sub(if is_another { 0 } else { of(&began) })
        };
        (struck.repeated, struck.looked_up) = (counted(|beat| beat.repeated), counted(|beat| beat.looked_up));
        self.clear_up(strike.fault).await
    }

    /// Sets right what a strike that failed may have left behind, as far as that can be done.
    pub(super) async fn calm(&mut self) {
        self.lines.calm();
        for daemon in 0..self.fleet.admins().len() {
            let _ = self.fleet.signal(daemon, Signal::CONT);
        }
        if let Ok(servers) = self.own_servers() {
            let _ = servers.start_postgres().await;
            let _ = servers.start_rabbitmq().await;
            let _ = self.quiet_alarm().await;
        }
        let _ = self.sink.rebind().await;
    }

    /// Waits until enough is in flight, and returns how all of them stand then.
    async fn await_flights(&self, admins: &[SocketAddr]) -> Result<Vec<Beat>> {
        let (mut most, since) = (0, Instant::now());
        loop {
            let beats = pulse::all(admins).await;
            let now = in_flight(&beats);
            if now >= self.in_flight.max(1) {
                return Ok(beats);
            }
            most = now.max(most);
            let (wanted, patience) = (self.in_flight, self.case.order.patience);
            ensure!(since.elapsed() < patience, "not {wanted} in flight within {patience:?}, at most {most}");
            sleep(LOOK).await;
        }
    }

    /// Lets a fault last; the most memory that the daemons had meanwhile is noted.
    async fn hold(&self, time: Duration, struck: &mut Struck) {
        let (until, second) = (Instant::now() + time, Duration::from_secs(1));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(second)).await;
            if time > second {
                let rss = pulse::all(&self.fleet.admins()).await.iter().map(|beat| beat.rss).sum();
                struck.rss[1] = struck.rss[1].max(rss);
            }
        }
    }

    /// After which time each of them has committed something new.
    async fn commits_beyond(&self, admins: &[SocketAddr], before: &[Beat], since: Instant) -> Result<Duration> {
        let mut hurried = Instant::now() - HURRY.1;
        loop {
            let now = pulse::all(admins).await;
            let waits = now.iter().zip(before).filter(|(now, before)| now.committed <= before.committed).count();
            if waits == 0 {
                return Ok(since.elapsed());
            }
            if since.elapsed() > STANDSTILL {
                let logs = self.case.rig.log_tails();
                return Err(anyhow!("{waits} daemons committed nothing for {STANDSTILL:?} after it:\n{logs}"));
            }
            if hurried.elapsed() >= HURRY.1 {
                self.upstream.hurry(HURRY.0 * admins.len() as u64);
                hurried = Instant::now();
            }
            sleep(LOOK).await;
        }
    }

    /// After which time the broker answers whoever asks for the queue of tasks.
    async fn queue_answers(&self, since: Instant) -> Result<Duration> {
        let asked = async {
            let (_connection, channel) = broker::channel(&self.case.rig.amqp_uri, "settled-loadtest").await?;
            broker::waiting(&channel, TASKS_QUEUE).await
        };
        timeout(STANDSTILL, asked).await.context("the broker does not answer for its queue")??;
        Ok(since.elapsed())
    }

    async fn events_beyond(&self, events: u64) -> Result<Instant> {
        let since = Instant::now();
        while self.sink.unique() <= events {
            ensure!(since.elapsed() < STANDSTILL, "no event came for {STANDSTILL:?} after it");
            sleep(LOOK).await;
        }
        Ok(Instant::now())
    }

    /// What has to be done before the next strike.
    async fn clear_up(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::QueueDelete => self.publish_what_is_gone().await,
            // The one that was stopped becomes the standby of the other.
            Fault::DbPromote => Ok(self.own_servers()?.rebuild_standby().await?),
            _ => Ok(()),
        }
    }

    /// What was in a queue when it was deleted is gone, and that is nobody's fault: whoever published
    /// it and hears of no outcome publishes it again.
    async fn publish_what_is_gone(&self) -> Result<()> {
        let books = self.case.run.read_outcomes(&self.case.rig.database().await?).await?;
        let mut dead = vec![false; books.payments.len()];
        for number in books.dead_letters.iter().filter_map(|letter| letter.number) {
            dead.resize(dead.len().max(number + 1), false);
            dead[number] = true;
        }
        let published = self.upstream.counts().0 as usize;
        let gone = self.case.script.with(|lines| {
            let load = lines.plan.load.iter().take(published).enumerate();
            let altered = lines.plan.in_two_versions();
            let gone = load.filter(|(_, message)| {
                let is_dead = dead.get(message.id).copied().unwrap_or_default();
                let is_decided = books.payments.get(message.id).is_some_and(Option::is_some);
                // Of two that contradict each other both are needed, or neither is refused.
                let dies = matches!(message.outcome, Outcome::DeadLettered(_)) || altered.contains(&message.id);
                if dies { !is_dead } else { !is_decided }
            });
            gone.map(|(place, _)| place).collect()
        });
        self.upstream.again(gone);
        Ok(())
    }
}

fn in_flight(beats: &[Beat]) -> u64 {
    beats.iter().map(|beat| beat.in_flight).sum()
}
