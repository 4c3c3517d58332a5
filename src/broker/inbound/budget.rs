//! The memory that deliveries may take from their first byte until they are settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// A number of bytes that the deliveries of all connections share: what an earlier connection has left in the
/// lanes counts until it is settled.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    is_awaited: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

/// Bytes of a budget; dropping them gives them back.
#[derive(Debug, Default)]
pub struct Held {
    budget: Option<Arc<Budget>>,
    bytes: usize,
}

impl Budget {
    /// Of `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), is_awaited: AtomicBool::new(false), wakers: Mutex::new(Vec::new()) }
    }

    /// Bytes that are held.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Whether nothing more may be taken in. The last one that was may have exceeded the limit.
    pub(super) fn is_exhausted(&self) -> bool {
        self.used() >= self.limit
    }

    /// Whether at least half of it is free: enough for a new connection to be worth its while.
    pub fn has_room(&self) -> bool {
        self.used() <= self.limit / 2
    }

    /// Has `waker` woken when something may be taken in again; `false` if that is now.
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        {
            let mut wakers = self.wakers.lock();
            if !wakers.iter().any(|known| known.will_wake(waker)) {
                wakers.push(waker.clone());
            }
            self.is_awaited.store(true, Ordering::SeqCst);
        }
        // What was given back before this was seen is seen here.
        self.is_exhausted()
    }

    /// Wakes all who wait.
    pub(super) fn wake(&self) {
        self.is_awaited.store(false, Ordering::SeqCst);
        std::mem::take(&mut *self.wakers.lock()).into_iter().for_each(Waker::wake);
    }

    /// Takes `bytes`, whether they are there or not.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
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
    /// Gives back what is more than `bytes`.
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
