//! The code of ours that every payment passes: decode, fingerprint, ledger. None of it waits for
//! anything, so these figures say what a payment costs before a server is asked.
//!
//! `cargo bench` measures; under `cargo test` each runs once, so that it cannot rot.

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use settled::contract::{AccountName, Currency, Fingerprint, Properties, Task, TaskBody, Transfer, decode};
use settled::ledger::{Account, AccountIx, AccountStatus, Arrival, Item, NonePending, Outcome, apply};
use uuid::Uuid;

/// The daemon's default `pipeline.max_batch`.
const BATCH: usize = 500;
const ACCOUNTS: usize = 100;

const BODY: &[u8] = br#"{"id":"01920000-0000-7000-8000-000000000001","type":"transfer",
    "debit_account":"customer:alice","credit_account":"merchant:42","amount":1250,"currency":"USD",
    "reference":"order-123","metadata":{"channel":"web"}}"#;

fn properties() -> Properties {
    Properties {
        content_type: Some("application/json".into()),
        message_id: Some("01920000-0000-7000-8000-000000000001".into()),
        publisher: Some("shop".into()),
        ..Properties::default()
    }
}

/// The way of one payment up to its lane.
fn contract(criterion: &mut Criterion) {
    let properties = properties();
    let task = decode(BODY, &properties).expect("a task");
    let mut group = criterion.benchmark_group("contract");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(BODY), black_box(&properties))));
    group.bench_function("fingerprint", |bencher| bencher.iter(|| Fingerprint::of(black_box(&task.body))));
    group.finish();
}

/// A full batch: every payment settles, or every one was settled before.
fn ledger(criterion: &mut Criterion) {
    let tasks: Vec<Task> = (0..BATCH).map(transfer).collect();
    let items: Vec<Item<'_>> = tasks.iter().enumerate().map(|(ix, task)| item(ix, task)).collect();
    let accounts: Vec<Account> = (0..ACCOUNTS).map(account).collect();
    let fresh = HashMap::new();
    let known = tasks
        .iter()
        .map(|task| (task.id, settled::ledger::Known { fingerprint: task.fingerprint, task: None }))
        .collect();
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, known, expected) in [("settle", &fresh, true), ("duplicates", &known, false)] {
        let outcomes = apply(&items, &mut accounts.clone(), known, &NonePending);
        assert_eq!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Settled { .. })), expected);
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || accounts.clone(),
                |accounts| apply(black_box(&items), accounts, known, &NonePending),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn usd() -> Currency {
    Currency::parse("USD").expect("a currency")
}

fn account(ix: usize) -> Account {
    Account {
        status: AccountStatus::Open,
        currency: Some(usd()),
        posted: 1_000_000,
        ..Account::unopened(i64::try_from(ix).expect("few"))
    }
}

/// A payment from one of the accounts to the next.
fn transfer(ix: usize) -> Task {
    let name = |ix: usize| AccountName::parse(&format!("account:{}", ix % ACCOUNTS)).expect("a name");
    let body = Transfer {
        debit_account: name(ix),
        credit_account: name(ix + 1),
        amount: 1250,
        currency: usd(),
        reference: Some("order-123".into()),
        metadata: None,
    };
    Task::new(Uuid::from_u128(ix as u128 + 1), TaskBody::Transfer(body))
}

fn item(ix: usize, task: &Task) -> Item<'_> {
    Item {
        task,
        arrival: Arrival(ix as u64),
        ordering: AccountIx(ix % ACCOUNTS),
        credited: AccountIx((ix + 1) % ACCOUNTS),
    }
}

criterion_group!(benches, contract, ledger);
criterion_main!(benches);
