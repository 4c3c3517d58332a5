//! Bounds the memory of deliveries, from their first byte until they are settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// A byte limit shared by the deliveries of all connections. Deliveries of a lost connection that are still in the
/// lanes count until they are settled.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    is_awaited: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

/// Bytes taken from a budget. Dropping it gives them back.
#[derive(Debug, Default)]
pub struct Held {
    budget: Option<Arc<Budget>>,
    bytes: usize,
}

impl Budget {
    /// Creates a budget of `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), is_awaited: AtomicBool::new(false), wakers: Mutex::new(Vec::new()) }
    }

    /// Returns the number of bytes taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Returns true if no further delivery may be read. The last one may have exceeded the limit.
    pub fn is_exhausted(&self) -> bool {
        self.used() >= self.limit
    }

    /// Returns true if at least half of the bytes are free, enough to start reading from a new connection.
    pub fn has_room(&self) -> bool {
        self.used() <= self.limit / 2
    }

    /// Registers `waker` to be woken once the budget is no longer exhausted. Returns false if it already has room.
    pub fn wait(&self, waker: &Waker) -> bool {
        {
            let mut wakers = self.wakers.lock();
            if !wakers.iter().any(|known| known.will_wake(waker)) {
                wakers.push(waker.clone());
            }
            self.is_awaited.store(true, Ordering::SeqCst);
        }
        // Checked after registering: bytes given back before that did not wake `waker`.
        self.is_exhausted()
    }

    /// Wakes all registered wakers.
    pub fn wake(&self) {
        self.is_awaited.store(false, Ordering::SeqCst);
        std::mem::take(&mut *self.wakers.lock()).into_iter().for_each(Waker::wake);
    }

    /// Takes `bytes`, even if they exceed the limit.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::SeqCst);
        Held { budget: Some(Arc::clone(self)), bytes }
    }

    fn give_back(&self, bytes: usize) {
        let used = self.used.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if used < self.limit && self.is_awaited.load(Ordering::SeqCst) {
            self.wake();
        }
    }
}

impl Held {
    /// Reduces the held bytes to `bytes` and gives back the rest. Does nothing if fewer are held.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(budget) = self.budget.as_ref().filter(|_| bytes < self.bytes) {
            budget.give_back(self.bytes - bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_is_woken_when_there_is_room_and_not_before() {
        let budget = Arc::new(Budget::new(100));
        let mut first = budget.hold(80);
        assert!(!budget.is_exhausted());
        let second = budget.hold(80);
        assert!(budget.is_exhausted());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(budget.wait(&waker) && budget.wait(&waker));
        first.shrink_to(40);
        first.shrink_to(60);
        assert_eq!((budget.used(), woken.0.load(Ordering::SeqCst)), (120, 0));
        drop(second);
        assert_eq!((budget.used(), woken.0.load(Ordering::SeqCst)), (40, 1));
        assert!(!budget.wait(&waker), "there is room");
        drop((first, Held::default()));
        assert_eq!(budget.used(), 0);
    }
}
