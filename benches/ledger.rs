//! The ledger's decision on a batch: no clock, no I/O.

mod support;

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use jiff::Timestamp;
use settled_core::contract::{
    Access, AccountName, Action, Authorize, FollowUp, Leg, PaymentState, Split, Task, TaskBody, TaskType, Terms,
};
use settled_core::ledger::state::Stage;
use settled_core::ledger::{
    Account, AccountIx, AccountStatus, Arrival, Books, Decision, Item, Known, NonePending, Outcome, Payment,
    PaymentLeg, Rules, apply,
};
use uuid::Uuid;

use support::{Random, name, payment, usd};

const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const ACCOUNTS: usize = 1000;
const LEGS: usize = 4;

/// A batch, and what is stored of what it refers to.
#[derive(Default)]
struct Batch {
    tasks: Vec<Task>,
    payments: HashMap<Uuid, Payment>,
    known: HashMap<Uuid, Known>,
}

impl Batch {
    fn of(tasks: impl Iterator<Item = Task>) -> Self {
        Self { tasks: tasks.collect(), ..Self::default() }
    }
}

fn leg(random: &mut Random, amount: i64) -> Leg {
    let (debit, credit) = random.pair(ACCOUNTS);
    Leg { debit_account: name(debit), credit_account: name(credit), amount, currency: usd() }
}

fn follow_up(payment_id: Uuid, action: Action) -> Task {
    let body = FollowUp { payment_id, action, reference: None, metadata: None };
    Task::new(Uuid::now_v7(), TaskBody::FollowUp(body))
}

/// Between random accounts, or all between the same two.
fn payments(count: usize, hot: bool) -> Batch {
    let mut random = Random::new();
    Batch::of((0..count).map(|_| {
        let (debit, credit) = if hot { (0, 1) } else { random.pair(ACCOUNTS) };
        payment(debit, credit)
    }))
}

/// Every payment was settled before.
fn duplicates(count: usize) -> Batch {
    let mut batch = payments(count, false);
    let known = |task: &Task| (task.id, Known { fingerprint: task.fingerprint, task: None });
    batch.known = batch.tasks.iter().map(known).collect();
    batch
}

/// Authorizations, each with its capture right behind it.
fn authorizations_with_captures(count: usize) -> Batch {
    let mut random = Random::new();
    Batch::of((0..count.div_ceil(2)).flat_map(|_| {
        let terms = Terms::One(leg(&mut random, 1250));
        let body = Authorize { terms, expires_in: None, reference: None, metadata: None };
        let authorize = Task::new(Uuid::now_v7(), TaskBody::Authorize(body));
        let capture = follow_up(authorize.id, Action::Capture { amount: None, leg: None, is_final: true });
        [authorize, capture]
    }))
}

/// Refunds of a part, each of a payment that is stored.
fn refunds(count: usize) -> Batch {
    let payments = payments(count, false);
    let refund = |task: &Task| follow_up(task.id, Action::Refund { amount: Some(100), leg: None });
    let mut batch = Batch::of(payments.tasks.iter().map(refund));
    batch.payments = payments.tasks.iter().map(|task| (task.id, stored(task))).collect();
    batch
}

/// Transfers with several legs, each between random accounts.
fn splits(count: usize) -> Batch {
    let mut random = Random::new();
    Batch::of((0..count).map(|_| {
        let legs = (0..LEGS).map(|_| leg(&mut random, 300)).collect();
        Task::new(Uuid::now_v7(), TaskBody::Split(Split { legs, reference: None, metadata: None }))
    }))
}

/// The payment that a settled transfer is.
fn stored(task: &Task) -> Payment {
    let legs = pairs(task).into_iter().map(|(debit, credit)| PaymentLeg {
        debit,
        credit,
        currency: usd(),
        amount: 1250,
        captured: 1250,
        refunded: 0,
        charged_back: 0,
    });
    Payment {
        id: task.id,
        task_type: TaskType::Transfer,
        stage: Stage::stored(PaymentState::Settled, 1),
        expires_at: None,
        deadline: None,
        listed: false,
        legs: legs.collect(),
        publisher: None,
    }
}

fn pairs(task: &Task) -> Vec<(AccountIx, AccountIx)> {
    let place = |name: &AccountName| name.as_str().rsplit(':').next().and_then(|number| number.parse().ok());
    let ix = |name| AccountIx(place(name).expect("a name of `support::name`"));
    task.body.account_pairs().map(|(debit, credit)| (ix(debit), ix(credit))).collect()
}

fn items(tasks: &[Task]) -> Vec<Item<'_>> {
    let item = |(arrival, task)| Item {
        task,
        arrival: Arrival(arrival),
        pairs: pairs(task).into_iter().collect(),
        resumes: false,
        publisher: None,
        access: Access::Everything,
    };
    (0..).zip(tasks).map(item).collect()
}

fn accounts() -> Vec<Account> {
    let open = |id| Account { status: AccountStatus::Open, currency: Some(usd()), ..Account::unopened(id) };
    (0..).take(ACCOUNTS).map(open).collect()
}

fn bench(criterion: &mut Criterion, group: &str, make: impl Fn(usize) -> Batch, expected: fn(&Outcome) -> bool) {
    let (names, accounts, rules) = ((0..ACCOUNTS).map(name).collect::<Vec<_>>(), accounts(), Rules::default());
    let (names, now) = (names.iter().collect::<Vec<_>>(), Timestamp::UNIX_EPOCH);
    let mut group = criterion.benchmark_group(format!("ledger/{group}"));
    for size in BATCHES {
        let Batch { tasks, payments, known } = make(size);
        let items = items(&tasks);
        let decide = |(accounts, payments): &mut (Vec<Account>, HashMap<Uuid, Payment>)| -> Decision {
            let books = Books { accounts, names: &names, payments, known: &known, now, rules: &rules };
            apply(black_box(&items), books, &NonePending)
        };
        let start = || (accounts.clone(), payments.clone());
        assert!(decide(&mut start()).outcomes.iter().all(expected));
        group.throughput(Throughput::Elements(tasks.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched_ref(start, decide, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn is_settled(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Settled { .. })
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Acted(_))
}

fn main() {
    support::run(|criterion| {
        bench(criterion, "uniform", |size| payments(size, false), is_settled);
        bench(criterion, "hot", |size| payments(size, true), is_settled);
        bench(criterion, "duplicates", duplicates, |outcome| *outcome == Outcome::Duplicate);
        bench(criterion, "authorize-capture", authorizations_with_captures, is_done);
        bench(criterion, "refunds", refunds, is_done);
        bench(criterion, "legs", splits, is_done);
    });
}
