//! `settled payment`: shows and lists payments.

mod show;
mod timeline;

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use settled_core::contract::{AccountName, PaymentState, TaskType};
use settled_store::queries::payment::{self, Life, PaymentFilter, PaymentRow};
use settled_store::queries::{Error, dead_letter, limit_statements};
use uuid::Uuid;

pub(super) use self::show::Shown;
use super::human::{account_name, amount, counted, duration, or_dash, since, time};
use super::{Exit, Failure, Global, Session};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Shows a task of any type: what was asked for, and all that has become of it, step by step.
    ///
    /// Of a payment also its legs, the tasks that act on it, and its entries and theirs; of what
    /// waits, for what and until when. Everything is found by keys and indexes.
    Show {
        /// The task's id.
        id: Uuid,
    },
    /// Lists payments in descending order of their ids: the newest first where publishers use
    /// UUIDs of version 7, as they should.
    ///
    /// --of, and --state of what waits or is held, find at once. No other filter has an index,
    /// because every payment would have to pay for it: one that lets little through reads all
    /// payments, up to a second per million of them. What has moved an account's balance is found
    /// at once by `settled account history`.
    List(ListArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those in this state.
    #[arg(long, value_parser = PossibleValuesParser::new(PaymentState::ALL.map(PaymentState::name)))]
    state: Option<String>,
    /// Only tasks of this type.
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(TaskType::ALL.map(TaskType::name)))]
    task_type: Option<String>,
    /// Only those that name this account, or have a leg that does.
    #[arg(long, value_parser = account_name)]
    account: Option<AccountName>,
    /// Only those with this reference.
    #[arg(long)]
    reference: Option<String>,
    /// Only those that act on this payment: its captures, refunds and the like.
    #[arg(long, value_name = "ID")]
    of: Option<Uuid>,
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
    global.with_database(async |mut session| match command {
        Command::Show { id } => show(id, &mut session).await,
        Command::List(args) => list(&args, &session).await,
    })
}

async fn show(id: Uuid, session: &mut Session) -> Result<Exit, Failure> {
    let Some(life) = Life::load(&mut session.client, id).await? else {
        let hint = match dead_letter::of_task(&session.client, id).await? {
            Some(letter) => format!(
                "its message is dead letter {} ({}): {}\n`settled dead-letters show {}` shows it",
                letter.id, letter.reason, letter.detail, letter.id
            ),
            None => "its message may be on its way, or was never published".to_owned(),
        };
        return Err(Failure::from(anyhow::anyhow!("no payment {id}")).hint(hint));
    };
    session.print(&show::Whole(&life), || show::human(&life, session.currencies()))
}

async fn list(args: &ListArgs, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    limit_statements(client, args.timeout).await?;
    let filter = PaymentFilter {
        state: args.state.as_deref(),
        task_type: args.task_type.as_deref(),
        account: args.account.as_ref().map(AccountName::as_str),
        reference: args.reference.as_deref(),
        payment: args.of,
        since: args.since,
        before: args.before,
        limit: args.limit,
    };
    let payments = payment::list(client, &filter).await.map_err(|error| too_slow(error, args.timeout))?;
    let headings = ["ID", "DECIDED AT", "TYPE", "STATE", "FROM", "TO", ">AMOUNT", "", "REFERENCE"];
    session.list(&payments, "no payments", headings, |payment| {
        let (from, to) = from_and_to(payment);
        let money = |minor| amount(session.currencies(), payment.currency.as_deref(), minor);
        [
            payment.id.to_string(),
            time(payment.settled_at),
            payment.task_type.clone(),
            payment.reason.as_ref().unwrap_or(&payment.state).clone(),
            from,
            to,
            payment.amount.map_or_else(String::new, money),
            payment.currency.clone().unwrap_or_default(),
            payment.reference.clone().unwrap_or_default(),
        ]
    })
}

fn too_slow(error: Error, limit: Duration) -> Failure {
    let timeout = error.is_timeout();
    let failure = Failure::from(error);
    if timeout { failure.hint(format!("the search took more than {limit:?}: raise --timeout")) } else { failure }
}

/// Returns both sides of a payment: its accounts, or the number of its legs, or the payment it acts on.
fn from_and_to(payment: &PaymentRow) -> (String, String) {
    match (&payment.account, payment.legs, payment.payment_id) {
        (Some(account), ..) => (String::new(), account.clone()),
        (_, Some(legs), _) => (counted(legs, "leg"), String::new()),
        (_, _, Some(parent)) if payment.debit_account.is_none() => (format!("of {parent}"), String::new()),
        _ => (or_dash(payment.debit_account.as_ref()), or_dash(payment.credit_account.as_ref())),
    }
}
