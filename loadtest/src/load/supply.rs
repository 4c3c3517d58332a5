//! What a publisher publishes next, and when: by a schedule, or as fast as confirms come in.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::clock::now_micros;
use super::script::{Due, Script};

/// The most messages that are given to lapin at once: it writes them together.
const TOGETHER: usize = 256;
/// How often a waiting publisher looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Where more than a few thousand messages per second are due, those of this time are sent
/// together, in microseconds: else each would cost several switches between threads.
const GAP: i64 = 400;
/// So many within [`DENSE_MICROS`] are more than a few thousand per second.
const DENSE: usize = 4;
const DENSE_MICROS: u64 = 1000;

pub(super) enum Supply {
    /// Every message at its time, whatever became of those before it.
    Scheduled {
        script: Arc<Script>,
        /// When each message is due, in microseconds from the start.
        offsets: Arc<Vec<u64>>,
        /// The start, in microseconds since 1970.
        start: i64,
        next: usize,
        publishers: usize,
    },
    /// As many as may wait for their confirm.
    Windowed {
        script: Arc<Script>,
        window: Arc<Semaphore>,
        /// The first message that nobody has taken yet, of all publishers together.
        next: Arc<Mutex<usize>>,
        end: End,
    },
}

/// Where a load that follows its confirms ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Count(usize),
    /// At that time, in microseconds since 1970.
    Time(i64),
}

impl Supply {
    /// Waits for the next messages and returns them; none at the end. To be called on a thread
    /// that may sleep: a timer of tokio's is only good to a millisecond or two.
    pub(super) fn next(&mut self, runtime: &Handle) -> Vec<Due> {
        match self {
            Self::Scheduled { script, offsets, start, next, publishers } => {
                scheduled(script, offsets, *start, next, *publishers)
            }
            Self::Windowed { script, window, next, end } => windowed(script, window, next, *end, runtime),
        }
    }
}

fn scheduled(script: &Script, offsets: &[u64], start: i64, next: &mut usize, publishers: usize) -> Vec<Due> {
    let due = |index: usize| offsets.get(index).map(|offset| start + offset.cast_signed());
    let Some(first) = due(*next) else { return Vec::new() };
    let dense = offsets.get(*next + DENSE * publishers).is_some_and(|later| later - offsets[*next] < DENSE_MICROS);
    let wake = if dense { first + GAP } else { first };
    loop {
        if script.stopped() {
            return Vec::new();
        }
        let wait = u64::try_from(wake - now_micros()).unwrap_or_default();
        if wait == 0 {
            break;
        }
        thread::sleep(Duration::from_micros(wait).min(LOOK));
    }
    let now = now_micros();
    script.with(|lines| {
        let mut taken = Vec::new();
        while taken.len() < TOGETHER
            && let Some(at) = due(*next).filter(|at| *at <= now)
        {
            taken.push(lines.due(*next, at));
            *next += publishers;
        }
        taken
    })
}

fn windowed(script: &Script, window: &Semaphore, next: &Mutex<usize>, end: End, runtime: &Handle) -> Vec<Due> {
    loop {
        let ended = match end {
            End::Count(_) => false,
            End::Time(end) => now_micros() >= end,
        };
        // A case that was begun is published to its end.
        if script.stopped() || ended && is_all_taken(script, next) {
            return Vec::new();
        }
        // All that is free, and at least one: given back by whoever awaits the confirms.
        let free = runtime.block_on(async { timeout(LOOK, window.acquire()).await });
        let Ok(Ok(one)) = free else { continue };
        let more = window.available_permits().min(TOGETHER - 1);
        let more = window.try_acquire_many(more as u32).ok();
        let room = 1 + more.as_ref().map_or(0, tokio::sync::SemaphorePermit::num_permits);
        let taken = take(script, next, (end, ended), room);
        for permit in [Some(one), more].into_iter().flatten() {
            permit.forget();
        }
        window.add_permits(room - taken.len());
        return taken;
    }
}

/// Whether all of the load that is there is taken.
fn is_all_taken(script: &Script, next: &Mutex<usize>) -> bool {
    let next = *next.lock().unwrap_or_else(PoisonError::into_inner);
    script.with(|lines| lines.plan.load.len() <= next)
}

/// The next messages of the load, at most so many. The load grows as it is needed, until it is to end.
fn take(script: &Script, next: &Mutex<usize>, (end, ended): (End, bool), room: usize) -> Vec<Due> {
    let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
    script.with(|lines| {
        let there = lines.plan.load.len();
        let (until, most) = match end {
            End::Count(count) => (count.min(*next + room), Some(count)),
            End::Time(_) if ended => (there.min(*next + room), None),
            End::Time(_) => (*next + room, None),
        };
        if there < until {
            lines.plan.reach(until, most);
        }
        let now = now_micros();
        let taken: Vec<Due> = (*next..until).map(|index| lines.due(index, now)).collect();
        *next = until;
        taken
    })
}
