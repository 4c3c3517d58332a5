//! Batches on a real PostgreSQL, without a broker around them.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use settled::contract::{AccountName, Currency, Message, OpenAccount, Properties, Task, TaskBody, Transfer};
use settled::ledger::{Account, AccountStatus, Arrival, NonePending};
use settled::store::queries::audit::audit;
use settled::store::{
    self, Answer, BatchStore, Client, Pool, PostgresSettings, PostgresStore, Prepared, StoreError, Submission,
};
use uuid::Uuid;

/// A ledger with the open accounts `a` and `b`, and nothing else.
struct Ledger {
    database: String,
    pool: Pool,
    store: PostgresStore,
}

impl Ledger {
    async fn new() -> Self {
        let database = support::database(None).await;
        let (server, _) = support::servers().await.postgres_url().rsplit_once('/').expect("a URL with a database");
        let mut settings = PostgresSettings::default();
        settings.use_url(&format!("{server}/{database}")).expect("a PostgreSQL URL");
        let pool = store::pool(&settings).expect("a pool");
        let store = PostgresStore::new(pool.clone(), &settings, 10, "settled", Duration::from_secs(60));
        let ledger = Self { database, pool, store };
        let open = |account| TaskBody::OpenAccount(OpenAccount { account, currency: usd(), min_balance: None });
        ledger.settle(&names().map(open).map(message)).await;
        ledger
    }

    async fn settle(&self, messages: &[Message]) {
        let committed = self.store.commit(&submissions(messages), &NonePending, true).await.expect("committed");
        assert!(committed.answers.iter().all(|answer| *answer == Answer::Settled), "{:?}", committed.answers);
    }

    /// The accounts as they are now.
    async fn accounts(&self) -> HashMap<AccountName, Account> {
        let query = "SELECT name, id, posted, version FROM account";
        let rows = self.client().await.query(query, &[]).await.expect("accounts");
        let account = |row: &tokio_postgres::Row| {
            let name = AccountName::parse(row.get(0)).expect("a name");
            let (status, currency) = (AccountStatus::Open, Some(usd()));
            let (posted, version) = (row.get(2), row.get(3));
            (name, Account { status, currency, posted, version, ..Account::unopened(row.get(1)) })
        };
        rows.iter().map(account).collect()
    }

    async fn client(&self) -> Client {
        support::connect(Some(&self.database)).await
    }

    async fn payments(&self) -> i64 {
        let query = "SELECT count(*) FROM payment WHERE type = 'transfer'";
        self.client().await.query_one(query, &[]).await.expect("payments").get(0)
    }
}

fn names() -> [AccountName; 2] {
    ["a", "b"].map(|name| AccountName::parse(name).expect("a name"))
}

fn usd() -> Currency {
    Currency::parse("USD").expect("a currency")
}

fn message(body: TaskBody) -> Message {
    let content = Ok(Task::new(Uuid::now_v7(), body));
    let received_at = jiff::Timestamp::now();
    Message { body: Vec::new(), properties: Properties::default(), received_at, content }
}

/// `a` pays `b`.
fn payment() -> Message {
    let [debit_account, credit_account] = names();
    let (amount, currency) = (100, usd());
    let (reference, metadata) = (None, None);
    message(TaskBody::Transfer(Transfer { debit_account, credit_account, amount, currency, reference, metadata }))
}

fn submissions(messages: &[Message]) -> Vec<Submission<'_>> {
    let arrivals = (0..).map(Arrival);
    arrivals.zip(messages).map(|(arrival, message)| Submission::of(arrival, message)).collect()
}

#[tokio::test]
async fn a_ledger_that_was_empty_is_not_read_through_for_each_batch() {
    const BATCHES: i64 = 20;
    let ledger = Ledger::new().await;
    for _ in 0..BATCHES {
        ledger.settle(&[payment()]).await;
    }
    // Sessions report what they did when they end, if not before.
    ledger.pool.close();
    let client = ledger.client().await;
    let payments = async || {
        let query = "SELECT n_tup_ins, seq_tup_read FROM pg_stat_user_tables WHERE relname = 'payment'";
        let row = client.query_one(query, &[]).await.expect("statistics");
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    support::eventually("the statistics", async || payments().await.0 == BATCHES + 2).await;
    assert_eq!(payments().await.1, 0, "payments were read one after another");
}

#[tokio::test]
async fn batches_that_were_decided_beforehand_are_written_as_the_daemon_would() {
    let ledger = Ledger::new().await;
    let mut accounts = ledger.accounts().await;
    let batches = [vec![payment(), payment()], vec![payment()]];
    let prepared: Vec<_> = batches
        .iter()
        .map(|messages| Prepared::decide(&submissions(messages), &mut accounts, "settled").expect("decided"))
        .collect();
    for batch in &prepared {
        batch.commit(&ledger.pool).await.expect("committed");
    }
    assert_eq!(ledger.accounts().await, accounts);
    assert_eq!(ledger.payments().await, 3);
    let audit = audit(&mut ledger.client().await).await.expect("an audit");
    assert!(audit.passed, "{:?}", audit.checks);
}

#[tokio::test]
async fn a_batch_that_was_decided_on_other_balances_is_not_written() {
    let ledger = Ledger::new().await;
    let mut accounts = ledger.accounts().await;
    let messages = [payment()];
    let stale = Prepared::decide(&submissions(&messages), &mut accounts, "settled").expect("decided");
    ledger.settle(&[payment()]).await;
    let refused = stale.commit(&ledger.pool).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(ledger.payments().await, 1);
}
