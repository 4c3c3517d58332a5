//! The register of tasks in flight: their arrival numbers, their lanes, and the accounts that they may still credit
//! or open.
//!
//! Numbers are given under the register's lock, in the same step that puts the task into its lane: see
//! [`crate::admission`].
//!
//! The register implements the rule that a decline is final only when no earlier arrival can change it. Tasks only
//! wait for earlier arrivals, so there are no cycles. Accounts are identified by a hash. Two accounts with the same
//! hash sometimes wait for each other, which costs time but is correct.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use uuid::Uuid;

use settled_core::contract::{AccountName, Task};
use settled_core::ledger::{Arrival, Pending};

/// Key for tasks that may credit any account. An account whose hash has this value only waits more often than
/// necessary.
const ANY_ACCOUNT: u64 = u64::MAX;

/// The register of tasks in flight.
pub struct InFlight {
    lanes: usize,
    key: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    count: usize,
    /// By hash of the account: the tasks that may credit, open or change it, oldest first, and the lanes that wait
    /// for them.
    credits: HashMap<u64, Credits>,
    /// By task id: the lane that a repetition of the task, or a follow-up of the payment, has to follow.
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

/// What the register needs to know of a task: hashes of its accounts, and ids.
pub struct Keys {
    ordering: u64,
    credited: SmallVec<[u64; 2]>,
    ids: SmallVec<[Uuid; 2]>,
}

/// The locked register.
pub struct Register<'a> {
    of: &'a InFlight,
    inner: MutexGuard<'a, Inner>,
}

/// Pins the ids of a task to the lane for whose slot it waits. Dropping it, when the wait is cancelled, unpins them.
pub(crate) struct Pinned<'a> {
    of: &'a InFlight,
    ids: SmallVec<[Uuid; 2]>,
}

impl<'a> Register<'a> {
    /// Returns the lane in which a task belongs at this moment. Any lane will do for a message that isn't a task.
    pub fn lane(&self, keys: Option<&Keys>) -> usize {
        let Some(keys) = keys else { return self.of.lane_of(self.inner.next) };
        let together = keys.ids.iter().find_map(|id| self.inner.ids.get(id));
        together.map_or_else(|| self.of.lane_of(keys.ordering), |known| known.lane)
    }

    /// Adds a task to the register: gives it the next number and calls `place` to put it into `lane`. Both happen
    /// under the lock, so the lane is in the order of the numbers.
    pub fn enter(mut self, keys: Option<&Keys>, lane: usize, place: impl FnOnce(Arrival)) -> Arrival {
        if let Some(keys) = keys {
            self.inner.keep_together(&keys.ids, lane);
        }
        self.enter_pinned(keys, place)
    }

    /// Like [`enter`](Self::enter), for a task whose ids are already pinned to its lane.
    fn enter_pinned(mut self, keys: Option<&Keys>, place: impl FnOnce(Arrival)) -> Arrival {
        let arrival = Arrival(self.inner.next);
        self.inner.next += 1;
        self.inner.count += 1;
        for key in keys.iter().flat_map(|keys| &keys.credited) {
            self.inner.credits.entry(*key).or_default().arrivals.push(arrival);
        }
        place(arrival);
        arrival
    }

    /// Returns true if the register has no trace of any task.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.credits.is_empty() && self.inner.ids.is_empty()
    }

    /// Pins the ids of a task to `lane`, for whose slot it is about to wait. The task has no number yet.
    pub(crate) fn pin(&mut self, keys: Option<&Keys>, lane: usize) -> Pinned<'a> {
        let ids = keys.map(|keys| keys.ids.clone()).unwrap_or_default();
        self.inner.keep_together(&ids, lane);
        Pinned { of: self.of, ids }
    }
}

impl Pinned<'_> {
    /// Ends the wait: like [`Register::enter`], for a task that has got its slot.
    pub(crate) fn enter(mut self, keys: Option<&Keys>, place: impl FnOnce(Arrival)) -> Arrival {
        // The ids now belong to the task, so dropping `self` must not unpin them.
        self.ids.clear();
        self.of.lock().enter_pinned(keys, place)
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.of.inner.lock().let_go(&self.ids);
        }
    }
}

impl Inner {
    /// Makes tasks with these ids use `lane`, unless an id already belongs to another lane.
    fn keep_together(&mut self, ids: &[Uuid], lane: usize) {
        for id in ids {
            self.ids.entry(*id).or_insert(Copies { lane, count: 0 }).count += 1;
        }
    }

    fn let_go(&mut self, ids: &[Uuid]) {
        for id in ids {
            if let Some(copies) = self.ids.get_mut(id) {
                copies.count -= 1;
                if copies.count == 0 {
                    self.ids.remove(id);
                }
            }
        }
    }
}

impl InFlight {
    /// Creates an empty register for `lanes` lanes. `key` seeds the hash that assigns accounts to lanes.
    pub fn new(lanes: usize, key: u64) -> Self {
        Self { lanes, key, inner: Mutex::default() }
    }

    /// Returns the number of tasks in flight: admitted and not yet settled.
    pub fn count(&self) -> usize {
        self.inner.lock().count
    }

    /// Returns the keys under which a task is registered. Needs no lock.
    pub fn keys(&self, task: &Task) -> Keys {
        Keys { ordering: self.ordering(task), credited: self.credited(task), ids: Self::ids(task) }
    }

    /// Locks the register.
    pub fn lock(&self) -> Register<'_> {
        Register { of: self, inner: self.inner.lock() }
    }

    /// Returns the register without the tasks `committed`, which must be in ascending order and are not
    /// [`done`](Self::done) yet.
    pub const fn without(&self, committed: Vec<Arrival>) -> Undecided<'_> {
        Undecided { in_flight: self, committed }
    }

    /// Subtracts settled deliveries from the count. This is separate from [`done`](Self::done): a drain acknowledges
    /// once the count is zero, so a delivery counts until it is settled, not until its task is committed.
    pub fn settled(&self, deliveries: usize) {
        self.inner.lock().count -= deliveries;
    }

    /// Removes committed tasks. Returns the lanes that waited for one of them.
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
            inner.let_go(&Self::ids(task));
        }
        wake.sort_unstable();
        wake.dedup();
        wake
    }

    /// Registers `lane` to be woken when a task that arrived before `before` and may credit or open `account` is
    /// done. Returns false if there is no such task any more: try again immediately.
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

    /// Returns the hash that selects the lane: of the debit account, or of the payment for a follow-up.
    fn ordering(&self, task: &Task) -> u64 {
        match task.body.ordering_account() {
            Some(account) => self.hash(account.as_str()),
            None => self.hash(task.body.payment_id().unwrap_or(task.id)),
        }
    }

    /// Returns the keys of the accounts that the task credits, opens or changes, without duplicates. A follow-up may
    /// credit any account: only the database knows which.
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

    /// Returns the ids that keep tasks in one lane: the task's own, and that of the payment it acts on.
    fn ids(task: &Task) -> SmallVec<[Uuid; 2]> {
        std::iter::once(task.id).chain(task.body.payment_id().filter(|parent| *parent != task.id)).collect()
    }

    fn lane_of(&self, hash: u64) -> usize {
        // The remainder is less than `lanes`, so it fits.
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

/// The tasks that are undecided for a lane's next batch: all in flight except the previous batch of the lane, which
/// is committed but perhaps not settled. A task that waited for that batch would let later tasks of its lane overtake
/// it.
pub struct Undecided<'a> {
    in_flight: &'a InFlight,
    committed: Vec<Arrival>,
}

impl Pending for Undecided<'_> {
    fn earlier(&self, account: &AccountName, before: Arrival) -> Vec<Arrival> {
        let mut earlier = self.in_flight.earlier(account, before);
        earlier.retain(|arrival| self.committed.binary_search(arrival).is_err());
        earlier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settled_core::contract::{Currency, TaskBody, Transfer};

    struct Arrived {
        arrival: Arrival,
        lane: usize,
    }

    fn arrive(in_flight: &InFlight, task: &Task) -> Arrived {
        let keys = in_flight.keys(task);
        let register = in_flight.lock();
        let lane = register.lane(Some(&keys));
        Arrived { arrival: register.enter(Some(&keys), lane, |_| ()), lane }
    }

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
        let first = arrive(&register, &task(1, "alice", "m"));
        let lanes: Vec<usize> = (0..20).map(|n| arrive(&register, &task(1, &format!("other{n}"), "m")).lane).collect();
        assert!(lanes.iter().all(|lane| *lane == first.lane), "{lanes:?}");
    }

    #[test]
    fn only_earlier_credits_of_the_account_are_pending() {
        let register = InFlight::new(4, 0);
        let funding = task(1, "world", "alice");
        let credit = arrive(&register, &funding);
        let spend = arrive(&register, &task(2, "alice", "m"));
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

    #[test]
    fn a_wait_for_a_slot_keeps_its_ids_in_one_lane_until_it_is_given_up() {
        let register = InFlight::new(64, 0);
        let first = register.keys(&task(1, "alice", "m"));
        let lane = register.lock().lane(Some(&first));
        let waiting = register.lock().pin(Some(&first), lane);
        let mut others = (0..).map(|n| register.keys(&task(1, &format!("other{n}"), "m")));
        let other = others.find(|keys| register.lane_of(keys.ordering) != lane).expect("another lane");
        assert_eq!(register.lock().lane(Some(&other)), lane, "it repeats what waits");
        assert_eq!(register.count(), 0, "what waits has no number");
        drop(waiting);
        assert_ne!(register.lock().lane(Some(&other)), lane);
        assert!(register.lock().is_empty());
    }
}
