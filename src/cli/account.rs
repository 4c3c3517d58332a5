//! `settled account`: accounts and their histories.

use std::time::Duration;

use crate::store::Client;
use uuid::Uuid;

use super::human::{account_name, align_right, amount, currency, duration, or_dash, pairs, time};
use super::outcome::{Before, Outcome};
use super::output::{self, table};
use super::publisher::{Outgoing, Publisher};
use super::{Exit, Failure, Global, block_on};
use super::{payment, publish};
use crate::contract::{AccountName, Currency, OpenAccount, Task, TaskBody};
use crate::intake::BrokerSettings;
use crate::store;
use crate::store::queries::account::{self, Account, AccountFilter, HistoryEntry};

/// Looks accounts up, and opens them.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Opens an account: publishes the task and waits for its outcome.
    ///
    /// Ends with 1 if the task is rejected, with 69 if there is no outcome in time. To try
    /// again without knowing the outcome, use the same --id.
    Open(OpenArgs),
    /// Shows an account and its balance.
    Show {
        /// The account.
        #[arg(value_parser = account_name)]
        name: AccountName,
    },
    /// Lists accounts in the order of their names.
    List(ListArgs),
    /// Lists an account's entries, the newest first, with the balance after each.
    History(HistoryArgs),
}

/// What to open.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OpenArgs {
    /// The account.
    #[arg(value_parser = account_name)]
    name: AccountName,
    /// Its only currency.
    #[arg(long, value_parser = currency)]
    currency: Currency,
    /// The balance it may not fall below, in minor units, or `none`.
    #[arg(long, default_value = "0", value_parser = min_balance, allow_hyphen_values = true, value_name = "N|none")]
    min_balance: MinBalance,
    /// The task's id; a new one if none is given.
    #[arg(long)]
    id: Option<Uuid>,
    /// How long to wait for the outcome.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// A limit, or none. clap would take an `Option` for an argument that may be left out.
#[derive(Clone, Copy, Debug)]
struct MinBalance(Option<i64>);

/// Which accounts to list.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those in this currency.
    #[arg(long, value_parser = currency)]
    currency: Option<Currency>,
    /// Only those behind this name: the last one of the page before.
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    /// Also the names that tasks mentioned and nobody opened.
    #[arg(long)]
    all: bool,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

/// Which entries to list.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// The account.
    #[arg(value_parser = account_name)]
    name: AccountName,
    /// Only entries with a smaller number: the last one of the page before.
    #[arg(long, value_name = "SEQ")]
    before: Option<i64>,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

pub(super) fn run(global: &Global, command: Command) -> Result<Exit, Failure> {
    let config = global.load()?;
    let json = global.json;
    block_on(async {
        let client = store::connect(&config.postgres).await?;
        match command {
            Command::Open(args) => open(&args, &client, &config.broker, json).await,
            Command::Show { name } => show(&name, &client, json).await,
            Command::List(args) => list(&args, &client, json).await,
            Command::History(args) => history(&args, &client, json).await,
        }
    })
}

async fn open(args: &OpenArgs, client: &Client, broker: &BrokerSettings, json: bool) -> Result<Exit, Failure> {
    let id = args.id.unwrap_or_else(Uuid::now_v7);
    let body = OpenAccount { account: args.name.clone(), currency: args.currency, min_balance: args.min_balance.0 };
    let document = serde_json::json!({
        "id": id, "type": "open_account", "account": body.account, "currency": body.currency,
        "min_balance": body.min_balance,
    });
    let tasks = [Task::new(id, TaskBody::OpenAccount(body))];
    let before = Before::look(client, &tasks).await?;
    let publisher = Publisher::connect(broker).await?;
    let message = Outgoing::task(&tasks[0], document.to_string().into_bytes(), publish::PUBLISHER);
    let published = publisher.publish([&message], || ()).await;
    publisher.close().await;
    if let Some(error) = published.error {
        return Err(Failure::from(error).hint(format!("to be sure of not asking twice, repeat it with --id {id}")));
    }
    let Some(outcome) = before.wait(client, &tasks, args.timeout).await?.pop() else { return Ok(Exit::Ok) };
    output::print(json, &outcome, || opened(&outcome))?;
    Ok(match &outcome {
        Outcome::Payment(stored) if stored.rejection.is_none() => Exit::Ok,
        Outcome::Unknown { .. } => Exit::Unavailable,
        _ => Exit::Failure,
    })
}

fn opened(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Payment(stored) => {
            let verb = if stored.rejection.is_none() { "opened".to_owned() } else { payment::state(stored) };
            let account = stored.task.body.ordering_account();
            format!("{verb} {account} in {}, task {}", stored.task.body.currency(), stored.task.id)
        }
        Outcome::DeadLetter { id, detail } => format!("not opened: task {id} is a dead letter: {detail}"),
        Outcome::Unknown { id } => format!(
            "task {id} is published, and has no outcome yet: is `settled run` up? See `settled payment show {id}`"
        ),
    }
}

async fn show(name: &AccountName, client: &Client, json: bool) -> Result<Exit, Failure> {
    let account = account::show(client, name.as_str()).await?.ok_or_else(|| no_account(name))?;
    output::print(json, &account, || human(&account))?;
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs, client: &Client, json: bool) -> Result<Exit, Failure> {
    let filter = AccountFilter {
        currency: args.currency.as_ref().map(Currency::as_str),
        unopened: args.all,
        after: args.after.as_deref(),
        limit: args.limit,
    };
    let accounts = account::list(client, &filter).await?;
    output::print(json, &accounts, || rows(&accounts))?;
    Ok(Exit::Ok)
}

async fn history(args: &HistoryArgs, client: &Client, json: bool) -> Result<Exit, Failure> {
    let account = account::show(client, args.name.as_str()).await?.ok_or_else(|| no_account(&args.name))?;
    let entries = account::history(client, args.name.as_str(), args.before, args.limit).await?;
    output::print(json, &entries, || entry_rows(&account, &entries))?;
    Ok(Exit::Ok)
}

fn no_account(name: &AccountName) -> Failure {
    Failure::new(Exit::Failure, anyhow::anyhow!("no account `{name}`"))
        .hint("no task has mentioned it yet; `settled account list` shows those there are")
}

fn human(account: &Account) -> String {
    let currency = account.currency.as_deref();
    let money = |minor| format!("{} {}", amount(currency, minor), currency.unwrap_or_default()).trim_end().to_owned();
    pairs([
        ("account", account.account.clone()),
        ("status", account.status.clone()),
        ("currency", or_dash(currency)),
        ("posted", money(account.posted)),
        ("held", money(account.held)),
        ("available", money(account.available)),
        ("min_balance", account.min_balance.map_or_else(|| "none".to_owned(), money)),
        ("version", account.version.to_string()),
        ("opened_at", or_dash(account.opened_at.map(time))),
    ])
}

fn rows(accounts: &[Account]) -> String {
    if accounts.is_empty() {
        return "no accounts".to_owned();
    }
    let mut list = table(["ACCOUNT", "STATUS", "POSTED", "AVAILABLE", "LIMIT", "", "ENTRIES"]);
    for account in accounts {
        let currency = account.currency.as_deref();
        list.add_row([
            account.account.clone(),
            account.status.clone(),
            amount(currency, account.posted),
            amount(currency, account.available),
            account.min_balance.map_or_else(|| "none".to_owned(), |limit| amount(currency, limit)),
            currency.unwrap_or_default().to_owned(),
            account.version.to_string(),
        ]);
    }
    align_right(&mut list, &[2, 3, 4, 6]);
    list.to_string()
}

fn entry_rows(account: &Account, entries: &[HistoryEntry]) -> String {
    if entries.is_empty() {
        return "no entries".to_owned();
    }
    let currency = account.currency.as_deref();
    let mut list = table(["SEQ", "TIME", "AMOUNT", "BALANCE AFTER", "OTHER ACCOUNT", "REFERENCE", "PAYMENT"]);
    for entry in entries {
        list.add_row([
            entry.seq.to_string(),
            or_dash(entry.settled_at.map(time)),
            amount(currency, entry.amount),
            amount(currency, entry.balance_after),
            or_dash(entry.counter_account.as_ref()),
            entry.reference.clone().unwrap_or_default(),
            entry.payment_id.to_string(),
        ]);
    }
    align_right(&mut list, &[0, 2, 3]);
    list.to_string()
}

fn min_balance(text: &str) -> Result<MinBalance, String> {
    match text {
        "none" => Ok(MinBalance(None)),
        _ => text
            .parse()
            .map(|limit| MinBalance(Some(limit)))
            .map_err(|_| "expected an integer in minor units, or `none` for an account without a limit".to_owned()),
    }
}
