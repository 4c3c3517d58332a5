//! Bounded queues between intake and workers, chosen by account, one worker at a time on each.
//!
//! Invariants: tasks that debit the same account are in the same lane and leave it in the
//! order in which they came; a task keeps its slot until it is done, so that a lane never
//! holds more than its capacity, wherever the task is; a full lane makes intake wait.
//!
//! A lane with something to do stands once in the ready queue. Both queues are `ArrayQueue`s
//! with a semaphore that counts what is in them: no blocking call, no lost wake-up.

mod in_flight;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use in_flight::{Arrived, InFlight};

use crate::sabotage::{self, Defect};

/// The lanes.
pub struct Lanes<T> {
    lanes: Box<[Lane<T>]>,
    ready: ArrayQueue<usize>,
    ready_count: Semaphore,
}

struct Lane<T> {
    queue: ArrayQueue<T>,
    free: Semaphore,
    /// Whether the lane stands in the ready queue or has a worker.
    scheduled: AtomicBool,
    /// Tasks set aside, in order, before all in `queue`.
    aside: Mutex<VecDeque<T>>,
    aside_count: AtomicUsize,
}

impl<T> Lanes<T> {
    /// `count` lanes of `capacity` tasks each.
    pub fn new(count: usize, capacity: usize) -> Self {
        let lane = || Lane {
            queue: ArrayQueue::new(capacity),
            free: Semaphore::new(capacity),
            scheduled: AtomicBool::new(false),
            aside: Mutex::new(VecDeque::new()),
            aside_count: AtomicUsize::new(0),
        };
        Self {
            lanes: (0..count).map(|_| lane()).collect(),
            ready: ArrayQueue::new(count),
            ready_count: Semaphore::new(0),
        }
    }

    /// How many lanes there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// How many tasks wait in a lane, those set aside included.
    pub fn depth(&self, lane: usize) -> usize {
        self.lanes[lane].queue.len() + self.lanes[lane].aside_count.load(Ordering::Relaxed)
    }

    /// How many tasks are set aside.
    pub fn set_aside(&self) -> usize {
        self.lanes.iter().map(|lane| lane.aside_count.load(Ordering::Relaxed)).sum()
    }

    /// Puts a task into a lane; waits while the lane is full. One task pushes at a time.
    pub async fn push(&self, lane: usize, task: T) {
        if sabotage::has(Defect::DroppedOnFullLane) && self.lanes[lane].free.available_permits() == 0 {
            return;
        }
        let Ok(slot) = self.lanes[lane].free.acquire().await else {
            return; // The semaphore is never closed.
        };
        slot.forget();
        let pushed = self.lanes[lane].queue.push(task);
        assert!(pushed.is_ok(), "a free slot is a free place");
        self.wake(lane);
    }

    /// Makes a worker look at the lane, as when what its tasks wait for is done.
    pub fn wake(&self, lane: usize) {
        if !self.lanes[lane].scheduled.swap(true, Ordering::SeqCst) {
            let pushed = self.ready.push(lane);
            assert!(pushed.is_ok(), "a lane stands in the ready queue once");
            self.ready_count.add_permits(1);
        }
    }

    /// The next lane with something to do; `None` after [`Lanes::close`].
    pub async fn next(&self) -> Option<LaneGuard<'_, T>> {
        self.ready_count.acquire().await.ok()?.forget();
        self.ready.pop().map(|ix| LaneGuard { lanes: self, ix })
    }

    /// Whether a lane stands ready and has no worker yet.
    pub fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sends the workers home.
    pub fn close(&self) {
        self.ready_count.close();
    }
}

/// A lane in the hands of its one worker.
pub struct LaneGuard<'a, T> {
    lanes: &'a Lanes<T>,
    ix: usize,
}

impl<T> LaneGuard<'_, T> {
    /// Which lane it is.
    pub const fn index(&self) -> usize {
        self.ix
    }

    /// Moves what is waiting, up to `most`, into `batch`: first what was set aside. Stops when the batch weighs
    /// `most_bytes` by `bytes`; what was set aside has fitted into a batch before.
    pub fn take(&self, most: usize, most_bytes: usize, bytes: impl Fn(&T) -> usize, batch: &mut Vec<T>) {
        let lane = &self.lanes.lanes[self.ix];
        let mut aside = lane.aside.lock();
        let from_aside = aside.len().min(most);
        batch.extend(aside.drain(..from_aside));
        lane.aside_count.store(aside.len(), Ordering::Relaxed);
        // What is still aside came before all that is in the queue.
        if aside.is_empty() {
            let mut weight: usize = batch.iter().map(&bytes).sum();
            while weight < most_bytes && batch.len() < most {
                let Some(task) = lane.queue.pop() else { break };
                weight += bytes(&task);
                batch.push(task);
            }
        }
    }

    /// Sets tasks aside: they keep their slots and come first the next time.
    pub fn set_aside(&self, tasks: Vec<T>) {
        let lane = &self.lanes.lanes[self.ix];
        let mut aside = lane.aside.lock();
        for task in tasks.into_iter().rev() {
            aside.push_front(task);
        }
        lane.aside_count.store(aside.len(), Ordering::Relaxed);
    }

    /// Frees the slots of tasks that are done.
    pub fn release(&self, slots: usize) {
        self.lanes.lanes[self.ix].free.add_permits(slots);
    }
}

impl<T> Drop for LaneGuard<'_, T> {
    fn drop(&mut self) {
        let lane = &self.lanes.lanes[self.ix];
        lane.scheduled.store(false, Ordering::SeqCst);
        // A push between the last `take` and here saw `scheduled` and left the lane to us.
        if !lane.queue.is_empty() {
            self.lanes.wake(self.ix);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

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
            lanes.push(number % 4, number).await;
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
        lanes.push(0, 1).await;
        lanes.push(0, 2).await;
        let third = tokio::spawn({
            let lanes = Arc::clone(&lanes);
            async move { lanes.push(0, 3).await }
        });
        let guard = lanes.next().await.expect("open");
        let mut batch = Vec::new();
        guard.take(10, usize::MAX, |_| 1, &mut batch);
        assert_eq!(batch, [1, 2]);
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "taken is not done");
        guard.release(1);
        third.await.expect("pushed");
    }

    #[tokio::test]
    async fn what_was_set_aside_comes_first_and_only_when_woken() {
        let lanes = Lanes::new(1, 8);
        for number in 1..=4 {
            lanes.push(0, number).await;
        }
        let guard = lanes.next().await.expect("open");
        let mut batch = Vec::new();
        guard.take(3, usize::MAX, |_| 1, &mut batch);
        guard.set_aside(vec![1, 3]);
        guard.release(1);
        drop(guard);
        // 4 is still in the queue, so the lane is ready by itself.
        let guard = lanes.next().await.expect("open");
        batch.clear();
        guard.take(8, usize::MAX, |_| 1, &mut batch);
        assert_eq!(batch, [1, 3, 4]);
        guard.set_aside(vec![1, 3]);
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
