//! `settled payment`: shows and lists payments.

mod show;
mod timeline;

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use serde::Serialize;
use settled_core::contract::{AccountName, PaymentState, TaskType};
use settled_store::Client;
use settled_store::queries::payment::{self, Cursor, Life, PaymentFilter, PaymentRow};
use settled_store::queries::{Error, dead_letter};
use uuid::Uuid;

pub(super) use self::show::Shown;
use super::human::{account_name, amount, counted, duration, or_dash, since, time};
use super::output::note;
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
    /// Lists payments, those that were decided last first.
    ///
    /// --of, and --state of what waits or is held, find at once, and so does a short time between
    /// --since and --until. No other filter has an index, because every payment would have to pay
    /// for it: the search goes back in time until the page is full or --timeout is over, and then
    /// says how far it has come. With --account it adds at once the earlier payments that moved
    /// the account's balance.
    List(Box<ListArgs>),
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
    /// Only those of this publisher.
    #[arg(long)]
    publisher: Option<String>,
    /// Only those decided since: a time (2025-01-31T12:00:00Z), or how long ago (15m, 2h, 1d).
    #[arg(long, value_parser = since, value_name = "TIME|AGO")]
    since: Option<Timestamp>,
    /// Only those decided before: a time, or how long ago.
    #[arg(long, value_parser = since, value_name = "TIME|AGO")]
    until: Option<Timestamp>,
    /// Only those that come after this one: the cursor of the last one of the page before, or its
    /// id.
    #[arg(long, value_parser = place, value_name = "CURSOR|ID")]
    before: Option<Place>,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// How long to search.
    #[arg(long, default_value = "10s", value_parser = duration)]
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
    let filter = PaymentFilter {
        state: args.state.as_deref(),
        task_type: args.task_type.as_deref(),
        account: args.account.as_ref().map(AccountName::as_str),
        reference: args.reference.as_deref(),
        publisher: args.publisher.as_deref(),
        payment: args.of,
        since: args.since,
        before: before(args, client).await?,
        limit: args.limit,
    };
    let page = payment::list(client, &filter, args.timeout).await.map_err(|error| too_slow(error, args.timeout))?;
    let payments: Vec<Listed> = page.payments.iter().map(Listed::from).collect();
    if let Some(place) = page.searched_back_to {
        note(&searched_back_to(place, args));
    }
    let is_full = usize::try_from(args.limit).is_ok_and(|limit| payments.len() == limit);
    let next = payments.last().filter(|_| is_full).map(|last| last.cursor.as_str());
    let headings = ["ID", "DECIDED AT", "TYPE", "STATE", "FROM", "TO", ">AMOUNT", "", "REFERENCE"];
    session.page(&payments, "no payments", next, headings, |Listed { payment, .. }| {
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

/// A payment with its place in the list.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    payment: &'a PaymentRow,
    /// What --before takes.
    cursor: String,
}

impl<'a> From<&'a PaymentRow> for Listed<'a> {
    fn from(payment: &'a PaymentRow) -> Self {
        Self { payment, cursor: cursor(payment.settled_at, payment.id) }
    }
}

fn cursor(settled_at: Timestamp, id: Uuid) -> String {
    format!("{settled_at}/{id}")
}

/// A place in the list, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    At(Cursor),
    Payment(Uuid),
}

fn place(text: &str) -> Result<Place, String> {
    if let Ok(id) = text.parse() {
        return Ok(Place::Payment(id));
    }
    let (time, id) = text.split_once('/').unwrap_or((text, ""));
    let id = if id.is_empty() { Ok(Uuid::nil()) } else { id.parse() };
    match (time.parse(), id) {
        (Ok(settled_at), Ok(id)) => Ok(Place::At(Cursor { settled_at, id })),
        _ => {
            Err("expected a cursor as `settled payment list` prints it (TIME/ID), a time, or a payment's id".to_owned())
        }
    }
}

/// Returns the place where the page begins.
async fn before(args: &ListArgs, client: &Client) -> Result<Option<Cursor>, Failure> {
    let before = match args.before {
        None => None,
        Some(Place::At(cursor)) => Some(cursor),
        Some(Place::Payment(id)) => Some(Cursor::of(client, id).await?.ok_or_else(|| {
            Failure::from(anyhow::anyhow!("--before: no payment {id}"))
                .hint("expected the cursor or the id of a payment in the list")
        })?),
    };
    Ok(before.into_iter().chain(args.until.map(Cursor::at)).min())
}

fn searched_back_to(place: Cursor, args: &ListArgs) -> String {
    let less = match &args.account {
        Some(account) => format!("of earlier payments only those that moved the balance of {account} are listed"),
        None => "earlier payments are not listed".to_owned(),
    };
    let back_to = place.settled_at.min(Timestamp::now());
    let next = if place.id.is_nil() { back_to.to_string() } else { cursor(place.settled_at, place.id) };
    format!(
        "searched for {:?}, back to {back_to}; {less}\n--before {next} goes on from there; --since and --until search \
         another time, --timeout takes longer",
        args.timeout
    )
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
