//! The payments of the floor: who pays whom, decided batch by batch before the clock starts.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use jiff::Timestamp;
use settled_core::contract::{AccountName, Currency, Message, OpenAccount, Properties, Task, TaskBody, Transfer};
use settled_core::ledger::{Account, AccountStatus, Arrival, NonePending, Rules};
use settled_pipeline::store::{Answer, BatchStore, Submission};
use settled_store::{Client, Pool, PostgresSettings, PostgresStore};
use settled_testkit::prepared::Prepared;
use tokio_postgres::Row;
use uuid::Uuid;

pub(super) const SOURCE: &str = "settled";
const PUBLISHER: &str = "settled-loadtest";
const CURRENCY: &str = "USD";
/// Payments have at most this, in minor units.
const MAX_PAYMENT: i64 = 100_000;
const OPENED_TOGETHER: usize = 1000;
const LEASE: Duration = Duration::from_secs(3600);

/// What one connection does: batches between accounts that no other connection touches, since
/// what a batch writes was decided before.
pub(super) struct Teller {
    names: Vec<AccountName>,
    payments: Vec<Message>,
}

impl Teller {
    /// `payments` between `accounts` accounts, of which this teller has every `of`th.
    pub(super) fn new(payments: usize, accounts: usize, number: usize, of: usize, rng: &mut Rng) -> Result<Self> {
        let currency = Currency::parse(CURRENCY).context("a currency")?;
        let names = (number..accounts).step_by(of).map(|account| format!("account:{account}"));
        let names: Vec<AccountName> =
            names.map(|name| AccountName::parse(&name).context("a name")).collect::<Result<_>>()?;
        let payments = (0..payments).map(|order| payment(&names, order, currency, rng)).collect();
        Ok(Self { names, payments })
    }

    /// Opens the accounts, without a lower limit: nothing has to be paid in before.
    pub(super) async fn open(&self, store: &PostgresStore) -> Result<()> {
        let currency = Currency::parse(CURRENCY).context("a currency")?;
        let open = |account: &AccountName| {
            message(TaskBody::OpenAccount(OpenAccount { account: account.clone(), currency, min_balance: None }))
        };
        for names in self.names.chunks(OPENED_TOGETHER) {
            let messages: Vec<Message> = names.iter().map(open).collect();
            let committed = store.commit(&submissions(&messages), &[], &NonePending, true).await?;
            ensure!(committed.answers.iter().all(|answer| *answer == Answer::Settled), "an account was not opened");
        }
        Ok(())
    }

    /// Decides everything, in batches of `batch`, on the accounts as they are in the database.
    pub(super) async fn prepare(&self, client: &Client, batch: usize) -> Result<Vec<Prepared<'_>>> {
        let mut accounts = self.accounts(client).await?;
        let batches = self.payments.chunks(batch);
        batches.map(|messages| Ok(Prepared::decide(&submissions(messages), &mut accounts, SOURCE)?)).collect()
    }

    async fn accounts(&self, client: &Client) -> Result<HashMap<AccountName, Account>> {
        const QUERY: &str = "SELECT name, id, currency FROM account WHERE name = ANY($1)";
        let names: Vec<&str> = self.names.iter().map(AccountName::as_str).collect();
        let open = |row: &Row| {
            let (name, currency): (&str, &str) = (row.get(0), row.get(2));
            let (status, currency) = (AccountStatus::Open, Currency::parse(currency));
            let account = Account { status, currency, ..Account::unopened(row.get(1)) };
            Ok((AccountName::parse(name).context("a name")?, account))
        };
        client.query(QUERY, &[&names]).await?.iter().map(open).collect()
    }
}

pub(super) fn store(pool: &Pool, settings: &PostgresSettings) -> PostgresStore {
    PostgresStore::new(pool.clone(), settings, Rules::default(), OPENED_TOGETHER, SOURCE, LEASE)
}

fn payment(names: &[AccountName], order: usize, currency: Currency, rng: &mut Rng) -> Message {
    let debit = rng.usize(..names.len());
    let credit = (debit + rng.usize(1..names.len())) % names.len();
    message(TaskBody::Transfer(Transfer {
        debit_account: names[debit].clone(),
        credit_account: names[credit].clone(),
        amount: rng.i64(1..=MAX_PAYMENT),
        currency,
        reference: Some(format!("order-{order}").into()),
        metadata: None,
    }))
}

/// As if it had come from the queue; nobody looks at the bytes of a good task.
fn message(body: TaskBody) -> Message {
    let properties = Properties { publisher: Some(PUBLISHER.into()), ..Properties::default() };
    let content = Ok(Task::new(Uuid::now_v7(), body));
    Message { body: Vec::new(), properties, received_at: Timestamp::now(), content, is_answerable: true }
}

fn submissions(messages: &[Message]) -> Vec<Submission<'_>> {
    let arrivals = (0..).map(Arrival);
    arrivals.zip(messages).map(|(arrival, message)| Submission::of(arrival, message)).collect()
}
