//! A batch from submission to COMMIT, on a real PostgreSQL: as many payments a second as one
//! connection can commit, by batch size, accounts and size of the ledger.
//!
//! The large ledgers take minutes and some ten gigabytes: `SETTLED_BENCH_LARGE=1` asks for them.

mod support;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use settled_core::contract::Message;
use settled_core::ledger::{NonePending, Rules};
use settled_pipeline::outbox::EventSettings;
use settled_pipeline::store::{Answer, BatchStore};
use settled_pipeline::worker::PipelineSettings;
use settled_store::PostgresStore;
use tokio::runtime::Runtime;

use support::{Database, Random, message, payment, submissions};

/// What is measured: each with each.
struct Sizes {
    batches: &'static [usize],
    accounts: &'static [usize],
    /// Payments that are in the ledger already.
    ledgers: &'static [usize],
}

const TINY: Sizes = Sizes { batches: &[1, 10], accounts: &[10], ledgers: &[0, 100] };
const USUAL: Sizes = Sizes { batches: &[1, 10, 100, 1000, 2000], accounts: &[100, 10_000], ledgers: &[0] };
const LARGE: Sizes =
    Sizes { batches: &[1, 10, 100, 1000, 2000], accounts: &[100, 10_000, 1_000_000], ledgers: &[0, 10_000_000] };

fn sizes() -> Sizes {
    match (support::measuring(), std::env::var_os("SETTLED_BENCH_LARGE")) {
        (false, _) => TINY,
        (true, None) => USUAL,
        (true, Some(_)) => LARGE,
    }
}

fn commit(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let Sizes { batches, accounts, ledgers } = sizes();
    for &ledger in ledgers {
        for &accounts in accounts {
            let mut group = criterion.benchmark_group(format!("commit/{accounts} accounts, {ledger} payments"));
            group.sample_size(10).measurement_time(Duration::from_secs(3));
            // Only for what the command line asks for.
            let mut books: Option<Books> = None;
            for &batch in batches {
                group.throughput(Throughput::Elements(batch as u64));
                group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
                    let books = books.get_or_insert_with(|| runtime.block_on(Books::open(accounts, ledger)));
                    bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(books.commit(batch))).sum());
                });
            }
            group.finish();
            if let Some(books) = books {
                runtime.block_on(books.close());
            }
        }
    }
}

/// A store on a database of its own.
struct Books {
    database: Database,
    store: PostgresStore,
    accounts: usize,
    random: Random,
}

impl Books {
    async fn open(accounts: usize, payments: usize) -> Self {
        let database = Database::seeded(accounts, payments).await;
        let (pool, cache) = (database.pool.clone(), PipelineSettings::default().account_cache);
        let EventSettings { source, lease, .. } = EventSettings::default();
        let store = PostgresStore::new(pool, &database.settings, Rules::default(), cache, &source, lease);
        Self { database, store, accounts, random: Random::new() }
    }

    /// How long a batch takes.
    async fn commit(&mut self, batch: usize) -> Duration {
        let mut pay = |_| {
            let (debit, credit) = self.random.pair(self.accounts);
            message(payment(debit, credit))
        };
        let messages: Vec<Message> = (0..batch).map(&mut pay).collect();
        let submissions = submissions(&messages);
        let began = Instant::now();
        let committed = self.store.commit(&submissions, &[], &NonePending, true).await.expect("committed");
        let took = began.elapsed();
        assert!(committed.answers.iter().all(|answer| *answer == Answer::Settled), "{:?}", committed.answers);
        took
    }

    async fn close(self) {
        if !support::measuring() {
            // A ledger that was seeded wrong would be measured wrong.
            self.database.audit().await;
        }
        self.database.drop().await;
    }
}

fn main() {
    support::run(commit);
}
