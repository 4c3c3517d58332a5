//! The register of tasks in flight: which lane each belongs in, and which accounts will still
//! be credited or opened by a task that came earlier.
//!
//! Behind it stands "a decline is final only when nothing that arrived before it can change
//! it". Waits point to earlier arrivals only, so they end. Accounts are known by a hash: two
//! that share one wait for each other now and then, which costs time and nothing else.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::contract::{AccountName, Task};
use crate::ledger::{Arrival, Pending};

/// A task's place: its number, and the lane it belongs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub arrival: Arrival,
    /// Its lane.
    pub lane: usize,
}

/// The register.
pub struct InFlight {
    lanes: usize,
    hasher: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    count: usize,
    /// By hash of the account: who will credit or open it, oldest first, and who waits.
    credits: HashMap<u64, Credits>,
    /// By task id: so that a repetition follows the first into its lane.
    ids: HashMap<Uuid, Copies>,
}

#[derive(Default)]
struct Credits {
    arrivals: SmallVec<[Arrival; 2]>,
    waiting: SmallVec<[usize; 2]>,
}

struct Copies {
    lane: usize,
    count: usize,
}

impl InFlight {
    /// An empty register for `lanes` lanes.
    pub fn new(lanes: usize) -> Self {
        Self { lanes, hasher: RandomState::new(), inner: Mutex::default() }
    }

    /// How many tasks are in flight.
    pub fn count(&self) -> usize {
        self.inner.lock().count
    }

    /// Enters a task, or a message that isn't one.
    pub fn arrive(&self, task: Option<&Task>) -> Arrived {
        let keys = task.map(|task| {
            let ordering = self.hasher.hash_one(task.body.ordering_account().as_str());
            (ordering, self.hasher.hash_one(task.body.credited_account().as_str()), task.id)
        });
        let mut inner = self.inner.lock();
        let arrival = Arrival(inner.next);
        inner.next += 1;
        inner.count += 1;
        let Some((ordering, credited, id)) = keys else {
            return Arrived { arrival, lane: self.lane_of(arrival.0) };
        };
        inner.credits.entry(credited).or_default().arrivals.push(arrival);
        let copies = inner.ids.entry(id).or_insert(Copies { lane: self.lane_of(ordering), count: 0 });
        copies.count += 1;
        Arrived { arrival, lane: copies.lane }
    }

    /// Strikes out tasks that are done; answers the lanes that waited for one of them.
    pub fn done<'t>(&self, done: impl Iterator<Item = (Arrival, Option<&'t Task>)>) -> SmallVec<[usize; 4]> {
        let mut wake = SmallVec::new();
        let mut inner = self.inner.lock();
        for (arrival, task) in done {
            inner.count -= 1;
            let Some(task) = task else { continue };
            let credited = self.hasher.hash_one(task.body.credited_account().as_str());
            if let Some(credits) = inner.credits.get_mut(&credited) {
                if let Ok(place) = credits.arrivals.binary_search(&arrival) {
                    credits.arrivals.remove(place);
                }
                wake.extend(credits.waiting.drain(..));
                if credits.arrivals.is_empty() {
                    inner.credits.remove(&credited);
                }
            }
            if let Some(copies) = inner.ids.get_mut(&task.id) {
                copies.count -= 1;
                if copies.count == 0 {
                    inner.ids.remove(&task.id);
                }
            }
        }
        wake.sort_unstable();
        wake.dedup();
        wake
    }

    /// Has `lane` woken when a task that came before `before` and credits or opens `account` is
    /// done. `false` when there is none any more: look again at once.
    #[must_use]
    pub fn wait(&self, account: &AccountName, before: Arrival, lane: usize) -> bool {
        let key = self.hasher.hash_one(account.as_str());
        let mut inner = self.inner.lock();
        let Some(credits) = inner.credits.get_mut(&key) else { return false };
        let any = credits.arrivals.first().is_some_and(|first| *first < before);
        if any && !credits.waiting.contains(&lane) {
            credits.waiting.push(lane);
        }
        any
    }

    fn lane_of(&self, hash: u64) -> usize {
        // The remainder is smaller than `lanes`.
        (hash % self.lanes as u64) as usize
    }
}

impl Pending for InFlight {
    fn earlier(&self, account: &AccountName, before: Arrival) -> Vec<Arrival> {
        let key = self.hasher.hash_one(account.as_str());
        let inner = self.inner.lock();
        let arrivals = inner.credits.get(&key).map(|credits| credits.arrivals.as_slice()).unwrap_or_default();
        arrivals.iter().copied().take_while(|arrival| *arrival < before).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Currency, TaskBody, Transfer};

    fn task(id: u128, debit: &str, credit: &str) -> Task {
        let name = |text| AccountName::parse(text).expect("valid");
        let body = Transfer {
            debit_account: name(debit),
            credit_account: name(credit),
            amount: 1,
            currency: Currency::parse("USD").expect("valid"),
            reference: None,
            metadata: None,
        };
        Task::new(Uuid::from_u128(id), TaskBody::Transfer(body))
    }

    #[test]
    fn an_altered_repetition_follows_the_first_into_its_lane() {
        let register = InFlight::new(64);
        let first = register.arrive(Some(&task(1, "alice", "m")));
        let lanes: Vec<usize> =
            (0..20).map(|n| register.arrive(Some(&task(1, &format!("other{n}"), "m"))).lane).collect();
        assert!(lanes.iter().all(|lane| *lane == first.lane), "{lanes:?}");
    }

    #[test]
    fn only_earlier_credits_of_the_account_are_pending() {
        let register = InFlight::new(4);
        let funding = task(1, "world", "alice");
        let credit = register.arrive(Some(&funding));
        let spend = register.arrive(Some(&task(2, "alice", "m")));
        let alice = AccountName::parse("alice").expect("valid");
        assert_eq!(register.earlier(&alice, spend.arrival), [credit.arrival]);
        assert_eq!(register.earlier(&alice, credit.arrival), []);
        assert!(register.wait(&alice, spend.arrival, spend.lane));
        let woken = register.done([(credit.arrival, Some(&funding))].into_iter());
        assert_eq!(woken.as_slice(), [spend.lane]);
        assert!(!register.wait(&alice, spend.arrival, spend.lane), "nothing left to wait for");
        assert_eq!(register.count(), 1);
    }
}
