//! Bounded queues between the sources of tasks and the workers. The account selects the lane, and a lane has at most
//! one worker at a time.
//!
//! Invariants: tasks that debit the same account are in the same lane and leave it in the order of arrival. A task
//! keeps its slot until it is done, so that a lane never has more tasks than its capacity, deferred ones and those of
//! a worker included. A full lane makes its sources wait and gives slots to them in the order in which they asked.
//!
//! A lane with tasks is in the ready queue once. The ready queue and the queue of each lane are `ArrayQueue`s with a
//! semaphore that counts their items: no call blocks, and no wake-up is lost.

mod in_flight;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use in_flight::{InFlight, Keys, Register, Undecided};

/// The lanes and the queue of those that are ready.
pub struct Lanes<T> {
    lanes: Box<[Lane<T>]>,
    ready: ArrayQueue<usize>,
    ready_count: Semaphore,
}

struct Lane<T> {
    queue: ArrayQueue<T>,
    free: Semaphore,
    /// Whether the lane is in the ready queue or has a worker.
    scheduled: AtomicBool,
    /// Deferred tasks, in order. They come before all tasks in `queue`.
    aside: Mutex<VecDeque<T>>,
    aside_count: AtomicUsize,
    /// When the oldest task was taken that the lane's worker holds.
    since: Mutex<Option<Instant>>,
}

impl<T> Lanes<T> {
    /// Creates `count` lanes of `capacity` tasks each.
    pub fn new(count: usize, capacity: usize) -> Self {
        let lane = || Lane {
            queue: ArrayQueue::new(capacity),
            free: Semaphore::new(capacity),
            scheduled: AtomicBool::new(false),
            aside: Mutex::new(VecDeque::new()),
            aside_count: AtomicUsize::new(0),
            since: Mutex::new(None),
        };
        Self {
            lanes: (0..count).map(|_| lane()).collect(),
            ready: ArrayQueue::new(count),
            ready_count: Semaphore::new(0),
        }
    }

    /// Returns the number of lanes.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Returns the number of tasks that wait in a lane, deferred ones included.
    pub fn depth(&self, lane: usize) -> usize {
        self.lanes[lane].queue.len() + self.lanes[lane].aside_count.load(Ordering::Relaxed)
    }

    /// Returns when the oldest task was taken that a lane's worker holds, if it has one.
    pub fn since(&self, lane: usize) -> Option<Instant> {
        *self.lanes[lane].since.lock()
    }

    /// Returns the number of deferred tasks in all lanes.
    pub fn deferred(&self) -> usize {
        self.lanes.iter().map(|lane| lane.aside_count.load(Ordering::Relaxed)).sum()
    }

    /// Reserves a free slot of a lane. Returns `None` if the lane is full or another source is waiting for a slot.
    pub fn try_reserve(&self, lane: usize) -> Option<Slot<'_, T>> {
        let permit = self.lanes[lane].free.try_acquire().ok()?;
        Some(Slot { lane: &self.lanes[lane], permit })
    }

    /// Waits for a free slot of a lane. Slots are given in the order of the calls.
    pub async fn reserve(&self, lane: usize) -> Slot<'_, T> {
        let permit = self.lanes[lane].free.acquire().await.expect("this semaphore is never closed");
        Slot { lane: &self.lanes[lane], permit }
    }

    /// Puts the lane into the ready queue, as when the tasks that its tasks wait for are committed.
    pub fn wake(&self, lane: usize) {
        if !self.lanes[lane].scheduled.swap(true, Ordering::SeqCst) {
            let pushed = self.ready.push(lane);
            assert!(pushed.is_ok(), "a lane stands in the ready queue once");
            self.ready_count.add_permits(1);
        }
    }

    /// Waits for the next lane that has tasks. Returns `None` after [`Lanes::close`].
    pub async fn next(&self) -> Option<LaneGuard<'_, T>> {
        self.ready_count.acquire().await.ok()?.forget();
        self.ready.pop().map(|ix| LaneGuard { lanes: self, ix })
    }

    /// Returns true if a lane is ready and has no worker.
    pub fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Ends the workers: [`Lanes::next`] returns `None` from now on.
    pub fn close(&self) {
        self.ready_count.close();
    }
}

/// A reserved slot of a lane. Dropping it frees the slot.
pub struct Slot<'a, T> {
    lane: &'a Lane<T>,
    permit: SemaphorePermit<'a>,
}

impl<T> Slot<'_, T> {
    /// Puts a task at the end of the lane. The caller has to [wake](Lanes::wake) the lane afterwards.
    pub fn fill(self, task: T) {
        self.permit.forget();
        let pushed = self.lane.queue.push(task);
        assert!(pushed.is_ok(), "a free slot is a free place");
    }
}

/// A lane that is held by its worker.
pub struct LaneGuard<'a, T> {
    lanes: &'a Lanes<T>,
    ix: usize,
}

impl<T> LaneGuard<'_, T> {
    /// Returns the index of the lane.
    pub const fn index(&self) -> usize {
        self.ix
    }

    /// Moves up to `most` waiting tasks into `batch`, deferred ones first. Stops when the `bytes` of the batch reach
    /// `most_bytes`. Deferred tasks are not limited: they have fitted into a batch before.
    pub fn take(&self, most: usize, most_bytes: usize, bytes: impl Fn(&T) -> usize, batch: &mut Vec<T>) {
        let lane = &self.lanes.lanes[self.ix];
        let mut aside = lane.aside.lock();
        let from_aside = aside.len().min(most);
        batch.extend(aside.drain(..from_aside));
        lane.aside_count.store(aside.len(), Ordering::Relaxed);
        // Tasks still deferred come before all tasks in the queue.
        if aside.is_empty() {
            let mut weight: usize = batch.iter().map(&bytes).sum();
            while weight < most_bytes && batch.len() < most {
                let Some(task) = lane.queue.pop() else { break };
                weight += bytes(&task);
                batch.push(task);
            }
        }
    }

    /// Records when the oldest task was taken that the worker holds, for [`Lanes::since`]. It ends with the guard.
    pub fn works_since(&self, taken: Instant) {
        *self.lanes.lanes[self.ix].since.lock() = Some(taken);
    }

    /// Puts tasks back as deferred: they keep their slots and are taken first the next time.
    pub fn defer(&self, tasks: Vec<T>) {
        let lane = &self.lanes.lanes[self.ix];
        let mut aside = lane.aside.lock();
        for task in tasks.into_iter().rev() {
            aside.push_front(task);
        }
        lane.aside_count.store(aside.len(), Ordering::Relaxed);
    }

    /// Frees the slots of done tasks.
    pub fn release(&self, slots: usize) {
        self.lanes.lanes[self.ix].free.add_permits(slots);
    }
}

impl<T> Drop for LaneGuard<'_, T> {
    fn drop(&mut self) {
        let lane = &self.lanes.lanes[self.ix];
        *lane.since.lock() = None;
        lane.scheduled.store(false, Ordering::SeqCst);
        // A push between the last `take` and here found `scheduled` set and left the wake-up to this code.
        if !lane.queue.is_empty() {
            self.lanes.wake(self.ix);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn push<T>(lanes: &Lanes<T>, lane: usize, task: T) {
        lanes.reserve(lane).await.fill(task);
        lanes.wake(lane);
    }

    #[tokio::test]
    async fn a_lane_has_one_worker_at_a_time_and_keeps_its_order() {
        let lanes = Arc::new(Lanes::new(4, 16));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let lanes = Arc::clone(&lanes);
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while let Some(guard) = lanes.next().await {
                        let mut batch = Vec::new();
                        guard.take(5, usize::MAX, |_| 1, &mut batch);
                        tokio::task::yield_now().await;
                        guard.release(batch.len());
                        seen.push((guard.index(), batch));
                    }
                    seen
                })
            })
            .collect();
        for number in 0..4000usize {
            push(&lanes, number % 4, number).await;
        }
        while (0..4).any(|lane| lanes.lanes[lane].free.available_permits() < 16) {
            tokio::task::yield_now().await;
        }
        lanes.close();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.expect("ends well"));
        }
        let mut numbers: Vec<usize> = all.iter().flat_map(|(_, batch)| batch.iter().copied()).collect();
        assert!(all.iter().all(|(lane, batch)| batch.is_sorted() && batch.iter().all(|number| number % 4 == *lane)));
        numbers.sort_unstable();
        assert_eq!(numbers, (0..4000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_full_lane_makes_the_pusher_wait_until_a_task_is_done() {
        let lanes = Arc::new(Lanes::new(1, 2));
        push(&lanes, 0, 1).await;
        push(&lanes, 0, 2).await;
        let third = tokio::spawn({
            let lanes = Arc::clone(&lanes);
            async move { push(&lanes, 0, 3).await }
        });
        let guard = lanes.next().await.expect("open");
        let mut batch = Vec::new();
        guard.take(10, usize::MAX, |_| 1, &mut batch);
        assert_eq!(batch, [1, 2]);
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "taken is not done");
        guard.release(1);
        assert!(lanes.try_reserve(0).is_none(), "the slot is for whoever waits already");
        third.await.expect("pushed");
    }

    #[tokio::test]
    async fn what_was_set_aside_comes_first_and_only_when_woken() {
        let lanes = Lanes::new(1, 8);
        for number in 1..=4 {
            push(&lanes, 0, number).await;
        }
        let guard = lanes.next().await.expect("open");
        let mut batch = Vec::new();
        guard.take(3, usize::MAX, |_| 1, &mut batch);
        guard.defer(vec![1, 3]);
        guard.release(1);
        drop(guard);
        // Task 4 is still in the queue, so dropping the guard makes the lane ready.
        let guard = lanes.next().await.expect("open");
        batch.clear();
        guard.take(8, usize::MAX, |_| 1, &mut batch);
        assert_eq!(batch, [1, 3, 4]);
        guard.defer(vec![1, 3]);
        guard.release(1);
        drop(guard);
        assert_eq!(lanes.ready_count.available_permits(), 0);
        lanes.wake(0);
        let guard = lanes.next().await.expect("open");
        batch.clear();
        guard.take(1, usize::MAX, |_| 1, &mut batch);
        assert_eq!(batch, [1], "3 isn't overtaken by what is behind it");
    }
}
