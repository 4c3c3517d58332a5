//! `settled payment`: what became of a task.

use std::time::Duration;

use crate::store::Client;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::human::{self, account_name, align_right, duration, or_dash, pairs, since, time};
use super::output::{self, table};
use super::{Exit, Failure, Global, block_on};
use crate::contract::{AccountName, Properties, TaskBody};
use crate::store;
use crate::store::queries::payment::{self, PaymentFilter, PaymentRow, StoredEntry, StoredTask};
use crate::store::queries::{Error, dead_letter, limit_statements};

/// Looks payments up.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Shows one payment: the task, its outcome and its entries.
    Show {
        /// The task's id.
        id: Uuid,
    },
    /// Lists payments in descending order of their ids: the newest first where publishers use
    /// UUIDs of version 7, as they should.
    ///
    /// No filter has an index, because every payment would have to pay for it: one that lets
    /// little through reads all payments, up to a second per million of them. The settled
    /// transfers of an account are found at once by `settled account history`.
    List(ListArgs),
}

/// Which payments to list.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those in this state.
    #[arg(long, value_parser = ["settled", "rejected"])]
    state: Option<String>,
    /// Only those that name this account.
    #[arg(long, value_parser = account_name)]
    account: Option<AccountName>,
    /// Only those with this reference.
    #[arg(long)]
    reference: Option<String>,
    /// Only those decided since: a time (2025-01-31T12:00:00Z), or how long ago (15m, 2h, 1d).
    #[arg(long, value_parser = since, value_name = "TIME|AGO")]
    since: Option<Timestamp>,
    /// Only those with a smaller id: the last one of the page before.
    #[arg(long, value_name = "ID")]
    before: Option<Uuid>,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// How long PostgreSQL may search.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

pub(super) fn run(global: &Global, command: Command) -> Result<Exit, Failure> {
    let config = global.load()?;
    block_on(async {
        let client = store::connect(&config.postgres).await?;
        match command {
            Command::Show { id } => show(id, &client, global.json).await,
            Command::List(args) => list(&args, &client, global.json).await,
        }
    })
}

async fn show(id: Uuid, client: &Client, json: bool) -> Result<Exit, Failure> {
    let Some(stored) = payment::load_tasks(client, &[id]).await?.pop() else {
        let hint = match dead_letter::attempts(client, &[id]).await?.pop() {
            Some((_, _, detail)) => format!("its message is a dead letter: {detail}"),
            None => "its message may be on its way, or was never published".to_owned(),
        };
        return Err(Failure::new(Exit::Failure, anyhow::anyhow!("no payment {id}")).hint(hint));
    };
    output::print(json, &Shown(&stored), || human(&stored))?;
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs, client: &Client, json: bool) -> Result<Exit, Failure> {
    limit_statements(client, args.timeout).await?;
    let filter = PaymentFilter {
        state: args.state.as_deref(),
        account: args.account.as_ref().map(AccountName::as_str),
        reference: args.reference.as_deref(),
        since: args.since,
        before: args.before,
        limit: args.limit,
    };
    let payments = payment::list(client, &filter).await.map_err(|error| too_slow(error, args.timeout))?;
    output::print(json, &payments, || rows(&payments))?;
    Ok(Exit::Ok)
}

fn too_slow(error: Error, limit: Duration) -> Failure {
    let timeout = error.is_timeout();
    let failure = Failure::from(error);
    if timeout { failure.hint(format!("the search took more than {limit:?}: raise --timeout")) } else { failure }
}

/// A payment as it is shown: its event's `data`, and what only the ledger knows.
pub(super) struct Shown<'a>(pub(super) &'a StoredTask);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Payment<'a, D> {
            #[serde(flatten)]
            data: D,
            received_at: Timestamp,
            entries: &'a [StoredEntry],
        }
        let stored = self.0;
        stored.with_event(Properties::default(), "", |event| {
            let data = event.data();
            Payment { data, received_at: stored.received_at, entries: &stored.entries }.serialize(serializer)
        })
    }
}

/// `settled`, or why not.
pub(super) fn state(stored: &StoredTask) -> String {
    match stored.rejection {
        None => "settled".to_owned(),
        Some(rejection) => format!("rejected: {} ({})", rejection.name(), rejection.iso_code()),
    }
}

fn human(stored: &StoredTask) -> String {
    let task = &stored.task;
    let currency = task.body.currency();
    let mut lines = vec![
        ("payment", task.id.to_string()),
        ("type", task.body.task_type().name().to_owned()),
        ("state", state(stored)),
    ];
    match &task.body {
        TaskBody::OpenAccount(open) => lines.extend([
            ("account", open.account.to_string()),
            ("currency", currency.to_string()),
            ("min_balance", open.min_balance.map_or_else(|| "none".to_owned(), |limit| currency.format(limit))),
        ]),
        TaskBody::Transfer(transfer) => lines.extend([
            ("debit_account", transfer.debit_account.to_string()),
            ("credit_account", transfer.credit_account.to_string()),
            ("amount", format!("{} {currency}", currency.format(transfer.amount))),
            ("reference", or_dash(transfer.reference.as_ref())),
            ("metadata", or_dash(transfer.metadata.as_ref())),
        ]),
    }
    lines.extend([
        ("publisher", or_dash(stored.publisher.as_ref())),
        ("received_at", time(stored.received_at)),
        ("settled_at", time(stored.settled_at)),
    ]);
    let mut text = pairs(lines);
    if !stored.entries.is_empty() {
        let mut entries = table(["ENTRY OF", "SEQ", "AMOUNT", "BALANCE AFTER"]);
        for entry in &stored.entries {
            entries.add_row([
                entry.account.to_string(),
                entry.seq.to_string(),
                currency.format(entry.amount),
                currency.format(entry.balance_after),
            ]);
        }
        align_right(&mut entries, &[1, 2, 3]);
        text += &format!("\n{entries}\n");
    }
    text
}

fn rows(payments: &[PaymentRow]) -> String {
    if payments.is_empty() {
        return "no payments".to_owned();
    }
    let mut list = table(["ID", "SETTLED AT", "STATE", "FROM", "TO", "AMOUNT", "", "REFERENCE"]);
    for payment in payments {
        let (from, to) = match &payment.account {
            Some(account) => ("(opens)".to_owned(), account.clone()),
            None => (or_dash(payment.debit_account.as_ref()), or_dash(payment.credit_account.as_ref())),
        };
        list.add_row([
            payment.id.to_string(),
            time(payment.settled_at),
            payment.reason.as_ref().unwrap_or(&payment.state).clone(),
            from,
            to,
            payment.amount.map_or_else(String::new, |minor| human::amount(Some(&payment.currency), minor)),
            payment.currency.clone(),
            payment.reference.clone().unwrap_or_default(),
        ]);
    }
    align_right(&mut list, &[5]);
    list.to_string()
}
