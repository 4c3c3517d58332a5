//! Publishes a load: open, by a schedule that waits for nothing, or closed, by a window of
//! confirms.
//!
//! Latencies count from the time at which a message was to be published. A publisher that is late,
//! for whatever reason, sends at once and makes up for it, so what it was late by is in the figures
//! (no coordinated omission).

pub(crate) mod clock;
mod gauges;
mod publisher;
pub(crate) mod schedule;
mod script;
mod supply;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use clock::now_micros;
pub(crate) use gauges::Gauges;
pub(crate) use publisher::{Confirmed, Sent, send};
use publisher::{Desk, Publisher};
use schedule::{Arrival, Curve, Limit};
pub(crate) use script::{Due, Lines, Part, Script};
use supply::{End, Supply};

/// From the order to publish to the first scheduled message: enough for the threads to be there.
const LEAD: i64 = 50_000;
/// Accounts are opened with so many messages unconfirmed: it is not measured.
const OPENING_WINDOW: usize = 4000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    Open {
        /// How many per second.
        curve: Curve,
        arrival: Arrival,
    },
    Closed {
        window: usize,
    },
}

impl Pace {
    /// So many per second, all the time.
    pub(crate) const fn constant(rate: f64) -> Self {
        Self::Open { curve: Curve::Constant(rate), arrival: Arrival::Constant }
    }
}

/// A load that is ready to be published.
pub(crate) struct Generator {
    script: Arc<Script>,
    publishers: Vec<Arc<Publisher>>,
    pace: Pace,
    limit: Limit,
    seed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Flights {
    /// When it began, in microseconds since 1970.
    pub(crate) start: i64,
    /// Every message that was published, of each publisher in order.
    pub(crate) sent: Vec<Sent>,
    pub(crate) confirmed: Vec<Confirmed>,
}

impl Generator {
    /// Connects `publishers` publishers.
    pub(crate) async fn connect(
        uri: &str,
        script: Arc<Script>,
        publishers: usize,
        (pace, limit, seed): (Pace, Limit, u64),
    ) -> Result<Self> {
        let app_id = script.mark().to_string();
        let publishers = try_join_all((0..publishers).map(|_| Publisher::connect(uri, &app_id))).await?;
        Ok(Self { script, publishers, pace, limit, seed })
    }

    /// Publishes everything and waits for the last confirm. `started` is called when the clock of
    /// the load begins to run.
    pub(crate) async fn publish(self, gauges: Arc<Gauges>, started: impl FnOnce()) -> Result<Flights> {
        let Self { script, publishers, pace, limit, seed } = self;
        let count = publishers.len();
        let accounts = script.with(|lines| Arc::clone(&lines.plan.accounts));
        let mut window = None;
        let supply: Box<dyn Fn(i64, usize) -> Supply + Send> = match pace {
            Pace::Open { curve, arrival } => {
                let offsets: Arc<Vec<u64>> = Arc::new(schedule::offsets(curve, arrival, limit, seed).collect());
                script.with(|lines| lines.plan.grow(offsets.len()));
                let script = Arc::clone(&script);
                Box::new(move |start, next| {
                    let (script, offsets) = (Arc::clone(&script), Arc::clone(&offsets));
                    Supply::Scheduled { script, offsets, start, next, publishers: count }
                })
            }
            Pace::Closed { window: size } => {
                let semaphore = Arc::new(Semaphore::new(size));
                window = Some(Arc::clone(&semaphore));
                let (script, next) = (Arc::clone(&script), Arc::new(Mutex::new(0)));
                Box::new(move |start, _| Supply::Windowed {
                    script: Arc::clone(&script),
                    part: Part::Load,
                    window: Arc::clone(&semaphore),
                    next: Arc::clone(&next),
                    end: end(limit, start),
                })
            }
        };
        let desk = Desk { accounts, gauges, window };
        let start = now_micros() + LEAD;
        started();
        let publishing = publishers.into_iter().enumerate();
        let publishing = publishing.map(|(number, publisher)| publisher.publish(supply(start, number), desk.clone()));
        let mut flights = Flights { start, ..Flights::default() };
        for (sent, confirmed) in try_join_all(publishing).await? {
            flights.sent.extend(sent);
            flights.confirmed.extend(confirmed);
        }
        Ok(flights)
    }
}

fn end(limit: Limit, start: i64) -> End {
    match limit {
        Limit::Count(count) => End::Count(count),
        Limit::Time(time) => End::Time(start + micros(time)),
    }
}

/// Publishes the messages that open the accounts, and waits for the last confirm.
pub(crate) async fn open_accounts(uri: &str, script: &Arc<Script>) -> Result<()> {
    let publisher = Publisher::connect(uri, &script.mark().to_string()).await?;
    let window = Arc::new(Semaphore::new(OPENING_WINDOW));
    let (accounts, count) = script.with(|lines| (Arc::clone(&lines.plan.accounts), lines.plan.opening.len()));
    let supply = Supply::Windowed {
        script: Arc::clone(script),
        part: Part::Opening,
        window: Arc::clone(&window),
        next: Arc::new(Mutex::new(0)),
        end: End::Count(count),
    };
    let desk = Desk { accounts, gauges: Arc::new(Gauges::new()), window: Some(window) };
    publisher.publish(supply, desk).await?;
    Ok(())
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
