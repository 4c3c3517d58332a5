//! How far a load has come, for those who watch while it goes on. What it is judged by is
//! recorded message by message elsewhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::progress;
use crate::report::model::empty_histogram;
use crate::report::numbers::count;

/// Counters since the start, and the latencies since somebody last looked.
#[derive(Debug)]
pub(super) struct Gauges {
    published: AtomicU64,
    confirmed: AtomicU64,
    blocked: AtomicBool,
    confirm: Mutex<Histogram<u64>>,
}

impl Gauges {
    pub(super) fn new() -> Self {
        Self {
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            confirm: Mutex::new(empty_histogram()),
        }
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.published.load(Ordering::Relaxed), self.confirmed.load(Ordering::Relaxed))
    }

    /// The times to the confirm since this was last asked, in microseconds.
    pub(super) fn take_confirm(&self) -> Histogram<u64> {
        std::mem::replace(&mut *self.confirm.lock().unwrap_or_else(PoisonError::into_inner), empty_histogram())
    }

    pub(super) fn published(&self, count: usize) {
        self.published.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn confirmed(&self, micros: i64) {
        self.confirmed.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(micros).unwrap_or_default();
        self.confirm.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// Says, once, that a publisher waits because so many of its messages wait for their confirm.
    pub(super) fn blocked(&self, unconfirmed: usize) {
        if !self.blocked.swap(true, Ordering::Relaxed) {
            let unconfirmed = count(unconfirmed as u64);
            progress::say(&format!(
                "  ! {unconfirmed} messages wait for their confirm: publishing waits for the broker"
            ));
        }
    }
}
