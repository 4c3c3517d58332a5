//! Publishes a load: open, by a schedule that waits for nothing, or closed, by a window of
//! confirms.
//!
//! Latencies count from the time at which a message was to be published. A publisher that is late,
//! for whatever reason, sends at once and makes up for it, so what it was late by is in the figures
//! (no coordinated omission).

pub(crate) mod clock;
mod gauges;
mod publisher;
mod publishing;
pub(crate) mod schedule;
mod script;
mod supply;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use clock::now_micros;
use gauges::Gauges;
pub(crate) use publisher::{Confirmed, Sent, send};
use publisher::{Desk, Publisher, is_taken};
pub(crate) use publishing::Publishing;
use schedule::{Arrival, Curve, Limit};
pub(crate) use script::{Due, Lines, Script};
use supply::{End, Supply};

/// How long a run may make no progress at all, unless something waits for its time.
pub(crate) const STALLED: Duration = Duration::from_secs(30);
/// From the order to publish to the first scheduled message: enough for the threads to be there.
const LEAD: i64 = 50_000;
/// Accounts are opened with so many messages unconfirmed: it is not measured.
const OPENED_TOGETHER: usize = 4000;

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
    /// Connects publishers, of whose messages a share is sampled.
    pub(crate) async fn connect(
        uri: &str,
        script: Arc<Script>,
        (publishers, sampled): (usize, f64),
        (pace, limit, seed): (Pace, Limit, u64),
    ) -> Result<Self> {
        let app_id = script.mark().to_string();
        let publishers = try_join_all((0..publishers).map(|_| Publisher::connect(uri, &app_id, sampled))).await?;
        Ok(Self { script, publishers, pace, limit, seed })
    }

    /// Begins to publish everything. The clock of the load runs from here on.
    pub(crate) fn start(self) -> Publishing {
        let Self { script, publishers, pace, limit, seed } = self;
        let (offsets, window) = match pace {
            Pace::Open { curve, arrival } => (schedule::offsets(curve, arrival, limit, seed).collect(), 0),
            Pace::Closed { window } => (Vec::new(), window),
        };
        script.with(|lines| lines.plan.grow(offsets.len()));
        let (offsets, window, next) = (Arc::new(offsets), Arc::new(Semaphore::new(window)), Arc::default());
        let start = now_micros() + LEAD;
        let supply = |number| match pace {
            Pace::Open { .. } => Supply::Scheduled {
                script: Arc::clone(&script),
                offsets: Arc::clone(&offsets),
                start,
                next: number,
                publishers: publishers.len(),
            },
            Pace::Closed { .. } => Supply::Windowed {
                script: Arc::clone(&script),
                window: Arc::clone(&window),
                next: Arc::clone(&next),
                end: match limit {
                    Limit::Count(count) => End::Count(count),
                    Limit::Time(time) => End::Time(start + i64::try_from(time.as_micros()).unwrap_or(i64::MAX)),
                },
            },
        };
        let supplies: Vec<Supply> = (0..publishers.len()).map(supply).collect();
        let accounts = script.with(|lines| Arc::clone(&lines.plan.accounts));
        let gauges = Arc::new(Gauges::new());
        let desk = Desk { accounts, gauges: Arc::clone(&gauges), window };
        let publish = async move {
            let publishing = publishers.into_iter().zip(supplies);
            let publishing = publishing.map(|(publisher, supply)| publisher.publish(supply, desk.clone()));
            let mut flights = Flights { start, ..Flights::default() };
            for (sent, confirmed) in try_join_all(publishing).await? {
                flights.sent.extend(sent);
                flights.confirmed.extend(confirmed);
            }
            Ok(flights)
        };
        Publishing { task: tokio::spawn(publish), script, began: Instant::now(), gauges, flights: None, is_live: true }
    }
}

/// Publishes the messages that open the accounts, and waits for the last confirm.
pub(crate) async fn open_accounts(uri: &str, script: &Script) -> Result<()> {
    let publisher = Publisher::connect(uri, &script.mark().to_string(), 0.0).await?;
    let (accounts, count) = script.with(|lines| (Arc::clone(&lines.plan.accounts), lines.plan.opening.len()));
    for from in (0..count).step_by(OPENED_TOGETHER) {
        let places = from..count.min(from + OPENED_TOGETHER);
        let opening = |lines: &mut Lines| {
            places.map(|place| lines.due_message(lines.plan.opening[place], place, now_micros())).collect::<Vec<_>>()
        };
        for confirm in publisher.send_all(&accounts, &script.with(opening)).await? {
            is_taken(&confirm.await?)?;
        }
    }
    Ok(())
}
