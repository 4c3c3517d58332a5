//! How PostgreSQL finds the rows of a batch: by their keys, also in a ledger that was empty when
//! the statements were planned.

mod support;

use std::time::Duration;

use settled::contract::{AccountName, Currency, Message, OpenAccount, Properties, Task, TaskBody, Transfer};
use settled::ledger::{Arrival, NonePending};
use settled::store::{self, Answer, BatchStore, Client, PostgresSettings, PostgresStore, Submission};
use uuid::Uuid;

const BATCHES: i64 = 20;

fn message(body: TaskBody) -> Message {
    let content = Ok(Task::new(Uuid::now_v7(), body));
    let received_at = jiff::Timestamp::now();
    Message { body: Vec::new(), properties: Properties::default(), received_at, content }
}

fn open(account: &AccountName) -> Message {
    message(TaskBody::OpenAccount(OpenAccount { account: account.clone(), currency: usd(), min_balance: None }))
}

fn pay(debit: &AccountName, credit: &AccountName) -> Message {
    message(TaskBody::Transfer(Transfer {
        debit_account: debit.clone(),
        credit_account: credit.clone(),
        amount: 1,
        currency: usd(),
        reference: None,
        metadata: None,
    }))
}

fn usd() -> Currency {
    Currency::parse("USD").expect("a currency")
}

/// Rows of `payment` written, and read one after another.
async fn reads(client: &Client) -> (i64, i64) {
    let query = "SELECT n_tup_ins, seq_tup_read FROM pg_stat_user_tables WHERE relname = 'payment'";
    let row = client.query_one(query, &[]).await.expect("statistics");
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_ledger_that_was_empty_is_not_read_through_for_each_batch() {
    let database = support::database(None).await;
    let (server, _) = support::servers().await.postgres_url().rsplit_once('/').expect("a URL with a database");
    let mut settings = PostgresSettings::default();
    settings.use_url(&format!("{server}/{database}")).expect("a PostgreSQL URL");
    let pool = store::pool(&settings).expect("a pool");
    let books = PostgresStore::new(pool.clone(), &settings, 10, "settled", Duration::from_secs(60));
    let names = ["a", "b"].map(|name| AccountName::parse(name).expect("a name"));
    let opening = names.iter().map(open).collect();
    let payments = (0..BATCHES).map(|_| vec![pay(&names[0], &names[1])]);
    for batch in std::iter::once::<Vec<Message>>(opening).chain(payments) {
        let submissions: Vec<_> =
            (0..).map(Arrival).zip(&batch).map(|(arrival, message)| Submission::of(arrival, message)).collect();
        let committed = books.commit(&submissions, &NonePending, true).await.expect("committed");
        assert!(committed.answers.iter().all(|answer| *answer == Answer::Settled));
    }
    // Sessions report what they did when they end, if not before.
    pool.close();
    let client = support::connect(Some(&database)).await;
    support::eventually("the statistics", async || reads(&client).await.0 == BATCHES + 2).await;
    assert_eq!(reads(&client).await.1, 0, "payments were read one after another");
}
