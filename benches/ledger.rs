//! The ledger's decision on a batch: no clock, no I/O.

mod support;

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use settled::contract::Task;
use settled::ledger::{Account, AccountIx, AccountStatus, Arrival, Item, Known, NonePending, Outcome, apply};
use uuid::Uuid;

use support::{Random, payment, usd};

const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const ACCOUNTS: usize = 1000;

/// Payments with the places of their accounts.
type Payments = Vec<(Task, usize, usize)>;

/// Between random accounts, or all between the same two.
fn payments(count: usize, hot: bool) -> Payments {
    let mut random = Random::new();
    let pair = |_| {
        let (debit, credit) = if hot { (0, 1) } else { random.pair(ACCOUNTS) };
        (payment(debit, credit), debit, credit)
    };
    (0..count).map(pair).collect()
}

fn items(payments: &Payments) -> Vec<Item<'_>> {
    (0..)
        .zip(payments)
        .map(|(arrival, (task, debit, credit))| Item {
            task,
            arrival: Arrival(arrival),
            ordering: AccountIx(*debit),
            credited: AccountIx(*credit),
        })
        .collect()
}

fn accounts() -> Vec<Account> {
    let open = |id| Account { status: AccountStatus::Open, currency: Some(usd()), ..Account::unopened(id) };
    (0..).take(ACCOUNTS).map(open).collect()
}

/// Every payment settles.
fn settling(criterion: &mut Criterion) {
    for (name, hot) in [("uniform", false), ("hot", true)] {
        let mut group = criterion.benchmark_group(format!("ledger/{name}"));
        for batch in BATCHES {
            let payments = payments(batch, hot);
            bench(&mut group, batch, &items(&payments), &HashMap::new(), |outcome| {
                matches!(outcome, Outcome::Settled { .. })
            });
        }
        group.finish();
    }
}

/// Every payment was settled before.
fn repeating(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger/duplicates");
    for batch in BATCHES {
        let payments = payments(batch, false);
        let known = |(task, ..): &(Task, usize, usize)| (task.id, Known { fingerprint: task.fingerprint, task: None });
        let known = payments.iter().map(known).collect();
        bench(&mut group, batch, &items(&payments), &known, |outcome| *outcome == Outcome::Duplicate);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn bench(
    group: &mut Group<'_>,
    batch: usize,
    items: &[Item<'_>],
    known: &HashMap<Uuid, Known>,
    expected: fn(&Outcome) -> bool,
) {
    let accounts = accounts();
    assert!(apply(items, &mut accounts.clone(), known, &NonePending).iter().all(expected));
    group.throughput(Throughput::Elements(batch as u64));
    group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
        bencher.iter_batched_ref(
            || accounts.clone(),
            |accounts| apply(black_box(items), accounts, known, &NonePending),
            BatchSize::SmallInput,
        );
    });
}

fn main() {
    support::run(|criterion| {
        settling(criterion);
        repeating(criterion);
    });
}
