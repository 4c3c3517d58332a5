//! `settled account`: accounts and their histories.

mod open;

use anyhow::anyhow;
use jiff::Timestamp;
use serde::Serialize;
use settled_core::contract::{AccountName, Currencies, Currency};
use settled_store::Client;
use settled_store::queries::account::{self, Account, AccountFilter, Hold};

use super::human::{account_name, amount, currency, or_dash, since, time};
use super::output::{Table, Text};
use super::{Exit, Failure, Global, Session};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Opens an account: publishes the task and waits for its outcome.
    ///
    /// Ends with 1 if the task is rejected, with 69 if there is no outcome in time. To try
    /// again without knowing the outcome, use the same --id.
    Open(open::Args),
    /// Shows an account: its balance, its limits, and what is held.
    Show(ShowArgs),
    /// Lists accounts in the order of their names.
    List(ListArgs),
    /// Lists an account's entries, the newest first, with the balance after each and the task
    /// that made it.
    History(HistoryArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The account.
    #[arg(value_parser = account_name)]
    name: AccountName,
    /// The balance at that time, from the entries: a time (2025-01-31T12:00:00Z), or how long ago
    /// (15m, 2h, 1d). What was held then isn't kept.
    #[arg(long, value_parser = moment, value_name = "TIME|AGO")]
    at: Option<Timestamp>,
    /// At most this many of its holds, the first to run out first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(0..=100_000))]
    holds: i64,
}

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
    global.with_database(async |session| match command {
        Command::Open(args) => open::run(&args, &session).await,
        Command::Show(args) => show(&args, &session).await,
        Command::List(args) => list(&args, &session).await,
        Command::History(args) => history(&args, &session).await,
    })
}

async fn show(args: &ShowArgs, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    let account = find(&args.name, client).await?;
    if let Some(at) = args.at {
        return show_at(&account, at, session).await;
    }
    let has_holds = account.held > 0 && args.holds > 0;
    let (holds, all) =
        if has_holds { account::holds(client, &account.account, args.holds).await? } else { (Vec::new(), 0) };
    let shown = Shown { account: &account, holds: &holds };
    session.print(&shown, || human(&account, &holds, all, session.currencies()))
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    account: &'a Account,
    holds: &'a [Hold],
}

async fn show_at(account: &Account, at: Timestamp, session: &Session) -> Result<Exit, Failure> {
    let name = &account.account;
    let Some(opened_at) = account.opened_at.filter(|opened_at| *opened_at <= at) else {
        let since =
            account.opened_at.map_or_else(|| "is not open".to_owned(), |since| format!("opened {}", time(since)));
        return Err(anyhow!("`{name}` had no balance then: {since}").into());
    };
    let balance = account::balance_at(&session.client, name, at)
        .await?
        .ok_or_else(|| Failure::from(anyhow!("entries of `{name}` are missing")).hint("see `settled audit`"))?;
    let text = || {
        let currency = balance.currency.as_deref();
        let mut text = Text::default();
        text.pairs([
            ("account", name.clone()),
            ("at", time(at)),
            ("posted", format!("{} {}", amount(session.currencies(), currency, balance.posted), or_dash(currency))),
            ("version", balance.version.to_string()),
            ("last changed", time(balance.settled_at.unwrap_or(opened_at))),
            ("by", or_dash(balance.payment_id)),
        ]);
        text
    };
    session.print(&balance, text)
}

async fn list(args: &ListArgs, session: &Session) -> Result<Exit, Failure> {
    let filter = AccountFilter {
        currency: args.currency.as_ref().map(Currency::as_str),
        unopened: args.all,
        after: args.after.as_deref(),
        limit: args.limit,
    };
    let accounts = account::list(&session.client, &filter).await?;
    let headings = ["ACCOUNT", "STATUS", ">POSTED", ">HELD", ">AVAILABLE", ">LIMIT", ">HIGHEST", "", ">ENTRIES"];
    session.list(&accounts, "no accounts", headings, |account| {
        let currency = account.currency.as_deref();
        let money = |minor| amount(session.currencies(), currency, minor);
        let limit = |limit: Option<i64>| limit.map_or_else(|| "none".to_owned(), money);
        [
            account.account.clone(),
            account.status.clone(),
            money(account.posted),
            money(account.held),
            money(account.available),
            limit(account.min_balance),
            limit(account.max_balance),
            currency.unwrap_or_default().to_owned(),
            account.version.to_string(),
        ]
    })
}

async fn history(args: &HistoryArgs, session: &Session) -> Result<Exit, Failure> {
    let account = find(&args.name, &session.client).await?;
    let entries = account::history(&session.client, args.name.as_str(), args.before, args.limit).await?;
    let money = |minor| amount(session.currencies(), account.currency.as_deref(), minor);
    let headings =
        [">SEQ", "TIME", ">AMOUNT", ">BALANCE AFTER", "OTHER ACCOUNT", "TYPE", "REFERENCE", "TASK", "ACTS ON"];
    session.list(&entries, "no entries", headings, |entry| {
        [
            entry.seq.to_string(),
            or_dash(entry.settled_at.map(time)),
            money(entry.amount),
            money(entry.balance_after),
            or_dash(entry.counter_account.as_ref()),
            or_dash(entry.task_type.as_ref()),
            entry.reference.clone().unwrap_or_default(),
            entry.payment_id.to_string(),
            entry.parent_id.map(|id| id.to_string()).unwrap_or_default(),
        ]
    })
}

async fn find(name: &AccountName, client: &Client) -> Result<Account, Failure> {
    account::show(client, name.as_str()).await?.ok_or_else(|| {
        Failure::from(anyhow!("no account `{name}`"))
            .hint("no task has mentioned it yet; `settled account list` shows those there are")
    })
}

fn human(account: &Account, holds: &[Hold], all_holds: i64, currencies: &Currencies) -> Text {
    let currency = account.currency.as_deref();
    let money = |minor| {
        format!("{} {}", amount(currencies, currency, minor), currency.unwrap_or_default()).trim_end().to_owned()
    };
    let limit = |limit: Option<i64>| limit.map_or_else(|| "none".to_owned(), money);
    let mut lines = vec![
        ("account", account.account.clone()),
        ("status", account.status.clone()),
        ("currency", or_dash(currency)),
        ("posted", money(account.posted)),
        ("held", money(account.held)),
        ("available", money(account.available)),
        ("min_balance", limit(account.min_balance)),
        ("max_balance", limit(account.max_balance)),
        ("version", account.version.to_string()),
        ("opened_at", or_dash(account.opened_at.map(time))),
    ];
    if account.shortfall > 0 {
        lines.insert(6, ("shortfall", format!("{}, by chargebacks", money(account.shortfall))));
    }
    let mut text = Text::default();
    text.pairs(lines);
    if !holds.is_empty() {
        text.line("");
        text.append(hold_rows(account, holds, all_holds, currencies));
    }
    text
}

fn hold_rows(account: &Account, holds: &[Hold], all: i64, currencies: &Currencies) -> Text {
    let row = |hold: &Hold| {
        [
            amount(currencies, account.currency.as_deref(), hold.amount),
            time(hold.expires_at),
            hold.reference.clone().unwrap_or_default(),
            hold.payment_id.to_string(),
        ]
    };
    let mut text = Text::from(Table::of([">HELD", "UNTIL", "REFERENCE", "PAYMENT"], holds.iter().map(row)));
    let more = all - i64::try_from(holds.len()).unwrap_or(all);
    if more > 0 {
        text.line(format!("… and {more} more"));
    }
    text
}

/// Parses a time in the past.
fn moment(text: &str) -> Result<Timestamp, String> {
    let at = since(text)?;
    if at > Timestamp::now() { Err("expected a time that has passed".to_owned()) } else { Ok(at) }
}
