//! An upstream system as the README asks for one: it publishes with confirms, `mandatory`, and what
//! is not confirmed, or comes back, it publishes again, the same bytes, after whatever happened to
//! the broker, for ever. To the daemon a message that is published twice is a repetition.
//!
//! Messages come in bursts, so that there are moments at which many are in flight at any rate.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Confirmation, Connection, ConnectionStatus};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::broker;
use crate::load::clock::now_micros;
use crate::load::{Confirmed, Due, Flights, Script, Sent, send};
use crate::plan::{Accounts, body};
use crate::values;

/// The most messages that wait for their confirm.
const WINDOW: usize = 2000;
/// From one attempt to connect to the next, and before what came back is published again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the broker may take for the next confirm, unless it blocks publishing. Of what is on its way
/// to a queue that is deleted meanwhile no confirm ever comes.
const NO_CONFIRM: Duration = Duration::from_secs(5);
/// How often it is looked whether more is due.
const TICK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct Tempo {
    /// Messages per second, in the long run
    #[arg(long, value_name = "N", default_value = "600", value_parser = values::rate_per_second)]
    pub(crate) rate: f64,
    /// From one burst of messages to the next: the longer, the more are in flight at times
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = values::duration)]
    pub(crate) burst: Duration,
}

impl Tempo {
    /// How many messages are due after that time.
    fn due(self, elapsed: Duration) -> usize {
        let bursts = elapsed.as_nanos() / self.burst.as_nanos().max(1) + 1;
        (bursts as f64 * self.burst.as_secs_f64() * self.rate) as usize
    }
}

/// What others may know of it, and ask of it.
pub(super) struct Shared {
    script: Arc<Script>,
    began: Instant,
    ended: AtomicBool,
    published: AtomicU64,
    confirmed: AtomicU64,
    connections: AtomicU64,
    tempo: Tempo,
    /// Messages that are to come before their time.
    ahead: AtomicU64,
    /// Messages that are to be published once more.
    again: Mutex<Vec<usize>>,
    status: Mutex<Option<ConnectionStatus>>,
}

impl Shared {
    fn due(&self) -> usize {
        self.tempo.due(self.began.elapsed()) + self.ahead.load(Ordering::Relaxed) as usize
    }
}

pub(super) struct Upstream {
    shared: Arc<Shared>,
    publishing: JoinHandle<Flights>,
}

impl Upstream {
    pub(super) fn start(uri: &str, script: &Arc<Script>, tempo: Tempo) -> Self {
        let shared = Arc::new(Shared {
            script: Arc::clone(script),
            began: Instant::now(),
            tempo,
            ended: AtomicBool::new(false),
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            ahead: AtomicU64::new(0),
            again: Mutex::default(),
            status: Mutex::default(),
        });
        let publisher = Publisher {
            uri: uri.to_owned(),
            app_id: script.mark().to_string(),
            accounts: script.with(|lines| Arc::clone(&lines.plan.accounts)),
            shared: Arc::clone(&shared),
            next: 0,
            open: BTreeMap::new(),
            known: Vec::new(),
            flights: Flights { start: now_micros(), ..Flights::default() },
        };
        Self { shared, publishing: tokio::spawn(publisher.publish()) }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Messages published, and messages confirmed; each counts once.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.shared.published.load(Ordering::Relaxed), self.shared.confirmed.load(Ordering::Relaxed))
    }

    /// Whether it has published all that is due, but for the last second: it is behind when the broker
    /// was not there.
    pub(super) fn is_on_time(&self) -> bool {
        let second = self.shared.tempo.rate as u64;
        self.counts().0 + second >= self.shared.due() as u64
    }

    pub(super) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Publishes so many messages before their time: for daemons that have to show that they work.
    pub(super) fn hurry(&self, count: u64) {
        self.shared.ahead.fetch_add(count, Ordering::Relaxed);
    }

    /// Publishes these messages once more, whether they are confirmed or not.
    pub(super) fn again(&self, places: Vec<usize>) {
        self.shared.again.lock().unwrap_or_else(PoisonError::into_inner).extend(places);
    }

    /// Whether the broker says that it takes nothing from it.
    pub(super) fn is_blocked(&self) -> bool {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.as_ref().is_some_and(ConnectionStatus::blocked)
    }

    /// Publishes nothing new but the rest of what was begun.
    pub(super) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_done(&self) -> bool {
        self.publishing.is_finished()
    }

    pub(super) async fn finish(mut self) -> Result<Flights> {
        self.end();
        Ok((&mut self.publishing).await?)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

/// What a message came to, by its place.
type Answered = (usize, lapin::Result<Confirmation>);
type Confirms = FuturesUnordered<BoxFuture<'static, Answered>>;

struct Publisher {
    uri: String,
    app_id: String,
    accounts: Arc<Accounts>,
    shared: Arc<Shared>,
    next: usize,
    open: BTreeMap<usize, Due>,
    /// Whether a message was confirmed, by its place.
    known: Vec<bool>,
    flights: Flights,
}

impl Publisher {
    async fn publish(mut self) -> Flights {
        // Why a connection ends does not matter: what is open is published again on the next one.
        while self.session().await.is_err() {
            sleep(AGAIN).await;
        }
        self.flights
    }

    /// Until all is published and confirmed, or the connection is lost.
    async fn session(&mut self) -> Result<()> {
        let (connection, channel) = timeout(CONNECT, self.connect()).await??;
        let mut confirms = Confirms::new();
        // What is to be published now: at first all that is open. Then what came back, after a while.
        let mut now: Vec<Due> = self.open.values().copied().collect();
        let (mut returned, mut again, mut heard) = (Vec::new(), Instant::now(), Instant::now());
        loop {
            let ended = self.shared.ended.load(Ordering::Relaxed);
            let new = self.take(ended);
            // First of all: what is taken is published, whatever becomes of this connection.
            self.open.extend(new.iter().map(|due| (due.index, *due)));
            now.extend(new);
            if Instant::now() >= again {
                now.append(&mut returned);
            }
            for due in now.drain(..) {
                self.send(&channel, due, &mut confirms).await?;
            }
            if ended && self.open.is_empty() && self.is_all_taken() {
                return Ok(());
            }
            tokio::select! {
                Some((place, confirm)) = confirms.next() => {
                    heard = Instant::now();
                    if !self.is_taken(place, &confirm?)? {
                        again = Instant::now() + AGAIN;
                        returned.extend(self.open.get(&place));
                    }
                }
                () = sleep(TICK) => {}
            }
            if confirms.is_empty() || connection.status().blocked() {
                heard = Instant::now();
            }
            ensure!(heard.elapsed() < NO_CONFIRM, "the broker confirms nothing");
        }
    }

    async fn connect(&self) -> Result<(Connection, Channel)> {
        let (connection, channel) = broker::channel(&self.uri, "settled-loadtest upstream").await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let mut status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        *status = Some(connection.status().clone());
        drop(status);
        Ok((connection, channel))
    }

    async fn send(&self, channel: &Channel, due: Due, confirms: &mut Confirms) -> Result<()> {
        let body = body(&self.accounts, &due.message, due.ids)?;
        let confirm = send(channel, &due, &body, (&self.app_id, 0.0)).await?;
        confirms.push(Box::pin(async move { (due.index, confirm.await) }));
        Ok(())
    }

    /// Whether the broker has taken a message. It did not if there was no queue for it.
    fn is_taken(&mut self, place: usize, confirm: &Confirmation) -> Result<bool> {
        match confirm {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(_)) | Confirmation::Nack(_) => return Ok(false),
            Confirmation::NotRequested => bail!("the broker was not asked for confirms"),
        }
        self.open.remove(&place);
        if let Some(known @ false) = self.known.get_mut(place) {
            *known = true;
            self.flights.confirmed.push(Confirmed { index: place, at: now_micros() });
            self.shared.confirmed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(true)
    }

    fn is_all_taken(&self) -> bool {
        let again = self.shared.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.is_empty() && self.shared.script.with(|lines| lines.plan.load.len() <= self.next)
    }

    /// What is due and finds room. After the end only what was begun: no case is left unfinished.
    fn take(&mut self, ended: bool) -> Vec<Due> {
        let mut room = WINDOW.saturating_sub(self.open.len());
        let now = now_micros();
        let shared = Arc::clone(&self.shared);
        let mut again = shared.again.lock().unwrap_or_else(PoisonError::into_inner);
        let left = again.len().saturating_sub(room);
        let repeated = again.split_off(left);
        room -= repeated.len();
        let due = shared.due();
        let from = self.next;
        let new = shared.script.with(|lines| {
            let there = lines.plan.load.len();
            let until = if ended { there } else { due }.min(from + room).max(from);
            if there < until {
                lines.plan.reach(until, None);
            }
            let places = repeated.into_iter().chain(from..until);
            places.map(|place| lines.due(place, now)).collect::<Vec<_>>()
        });
        for due in new.iter().filter(|due| due.index >= from) {
            self.next = due.index + 1;
            self.flights.sent.push(Sent { index: due.index, scheduled: now, at: now });
        }
        self.known.resize(self.next, false);
        self.shared.published.store(self.next as u64, Ordering::Relaxed);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_in_bursts_and_at_the_rate_in_the_long_run() {
        let tempo = Tempo { rate: 600.0, burst: Duration::from_millis(500) };
        let due = [0, 499, 500, 999, 60_000].map(|millis| tempo.due(Duration::from_millis(millis)));
        assert_eq!(due, [300, 300, 600, 600, 36_300]);
    }
}
