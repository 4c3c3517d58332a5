//! The register of tasks in flight: which lane each belongs in, and which accounts will still
//! be credited or opened by a task that came earlier.
//!
//! Behind it stands "a decline is final only when nothing that arrived before it can change
//! it". Waits point to earlier arrivals only, so they end. Accounts are known by a hash: two
//! that share one wait for each other now and then, which costs time and nothing else.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::contract::{AccountName, Task};
use crate::ledger::{Arrival, Pending};

/// Stands for the account of a task that may credit any. A name that shares the hash waits now and
/// then, as names that share one do.
const ANY_ACCOUNT: u64 = u64::MAX;

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
    key: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    count: usize,
    /// By hash of the account: who will credit, open or change it, oldest first, and who waits.
    credits: HashMap<u64, Credits>,
    /// By task id: so that a repetition follows the first into its lane, and what acts on a payment
    /// follows the payment.
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
    /// An empty register for `lanes` lanes; which account belongs in which is decided by `key`.
    pub fn new(lanes: usize, key: u64) -> Self {
        Self { lanes, key, inner: Mutex::default() }
    }

    /// How many tasks are in flight: come, and not yet settled.
    pub fn count(&self) -> usize {
        self.inner.lock().count
    }

    /// Enters a task, or a message that isn't one.
    pub fn arrive(&self, task: Option<&Task>) -> Arrived {
        let keys = task.map(|task| (self.ordering(task), self.credited(task), Self::ids(task)));
        let mut inner = self.inner.lock();
        let arrival = Arrival(inner.next);
        inner.next += 1;
        inner.count += 1;
        let Some((ordering, credited, ids)) = keys else {
            return Arrived { arrival, lane: self.lane_of(arrival.0) };
        };
        for key in credited {
            inner.credits.entry(key).or_default().arrivals.push(arrival);
        }
        let lane =
            ids.iter().find_map(|id| inner.ids.get(id)).map_or_else(|| self.lane_of(ordering), |known| known.lane);
        for id in ids {
            inner.ids.entry(id).or_insert(Copies { lane, count: 0 }).count += 1;
        }
        Arrived { arrival, lane }
    }

    /// Deliveries of tasks that are [`done`](Self::done) are settled too, and count no more: whoever
    /// acknowledges the last ones waits for the count, not for what is committed.
    pub fn settled(&self, deliveries: usize) {
        self.inner.lock().count -= deliveries;
    }

    /// Strikes out tasks that are committed; answers the lanes that waited for one of them.
    pub fn done<'t>(&self, done: impl Iterator<Item = (Arrival, Option<&'t Task>)>) -> SmallVec<[usize; 4]> {
        let mut wake = SmallVec::new();
        let mut inner = self.inner.lock();
        for (arrival, task) in done {
            let Some(task) = task else { continue };
            for key in self.credited(task) {
                let Some(credits) = inner.credits.get_mut(&key) else { continue };
                if let Ok(place) = credits.arrivals.binary_search(&arrival) {
                    credits.arrivals.remove(place);
                }
                wake.extend(credits.waiting.drain(..));
                if credits.arrivals.is_empty() {
                    inner.credits.remove(&key);
                }
            }
            for id in Self::ids(task) {
                if let Some(copies) = inner.ids.get_mut(&id) {
                    copies.count -= 1;
                    if copies.count == 0 {
                        inner.ids.remove(&id);
                    }
                }
            }
        }
        wake.sort_unstable();
        wake.dedup();
        wake
    }

    /// Has `lane` woken when a task that came before `before` and credits or opens `account` (or
    /// may do so) is done. `false` when there is none any more: look again at once.
    #[must_use]
    pub fn wait(&self, account: &AccountName, before: Arrival, lane: usize) -> bool {
        let keys = [self.hash(account.as_str()), ANY_ACCOUNT];
        let mut inner = self.inner.lock();
        let mut any = false;
        for key in keys {
            let Some(credits) = inner.credits.get_mut(&key) else { continue };
            if credits.arrivals.first().is_none_or(|first| *first >= before) {
                continue;
            }
            any = true;
            if !credits.waiting.contains(&lane) {
                credits.waiting.push(lane);
            }
        }
        any
    }

    fn hash(&self, of: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.key);
        of.hash(&mut hasher);
        hasher.finish()
    }

    /// What decides about the lane: an account, or a payment.
    fn ordering(&self, task: &Task) -> u64 {
        match task.body.ordering_account() {
            Some(account) => self.hash(account.as_str()),
            None => self.hash(task.body.payment_id().unwrap_or(task.id)),
        }
    }

    /// The accounts that the task credits, opens or changes, each once. What acts on a payment may
    /// credit any: which one, only the database knows.
    fn credited(&self, task: &Task) -> SmallVec<[u64; 2]> {
        let mut keys: SmallVec<[u64; 2]> =
            task.body.account_pairs().map(|(_, credit)| self.hash(credit.as_str())).collect();
        if keys.is_empty() {
            keys.push(ANY_ACCOUNT);
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// What keeps tasks together in one lane: the task's own id, and that of the payment it acts on.
    fn ids(task: &Task) -> SmallVec<[Uuid; 2]> {
        std::iter::once(task.id).chain(task.body.payment_id().filter(|parent| *parent != task.id)).collect()
    }

    fn lane_of(&self, hash: u64) -> usize {
        // The remainder is smaller than `lanes`.
        (hash % self.lanes as u64) as usize
    }
}

impl Pending for InFlight {
    fn earlier(&self, account: &AccountName, before: Arrival) -> Vec<Arrival> {
        let keys = [self.hash(account.as_str()), ANY_ACCOUNT];
        let inner = self.inner.lock();
        let arrivals = keys.iter().filter_map(|key| inner.credits.get(key)).flat_map(|credits| &credits.arrivals);
        arrivals.copied().filter(|arrival| *arrival < before).collect()
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
        let register = InFlight::new(64, 0);
        let first = register.arrive(Some(&task(1, "alice", "m")));
        let lanes: Vec<usize> =
            (0..20).map(|n| register.arrive(Some(&task(1, &format!("other{n}"), "m"))).lane).collect();
        assert!(lanes.iter().all(|lane| *lane == first.lane), "{lanes:?}");
    }

    #[test]
    fn only_earlier_credits_of_the_account_are_pending() {
        let register = InFlight::new(4, 0);
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
        assert_eq!(register.count(), 2, "the credit is committed, and not yet settled");
        register.settled(1);
        assert_eq!(register.count(), 1);
    }
}
