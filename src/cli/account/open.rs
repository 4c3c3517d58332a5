//! `settled account open`: publishes the task and waits for its outcome.

use std::time::Duration;

use settled_core::contract::{AccountName, Currency, MAX_BALANCE, NO_LIMIT, OpenAccount, Task, TaskBody, is_unset};
use uuid::Uuid;

use super::super::human::{self, account_name, currency, duration};
use super::super::outcome::{Deadline, Outcome, OutcomeWatch};
use super::super::output::Text;
use super::super::{Exit, Failure, Session, publish};

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Args {
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
    #[arg(long, value_parser = task_id)]
    id: Option<Uuid>,
    /// How long to wait for the outcome.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// A limit, or `None` for no limit. clap would take a bare `Option` for an optional argument.
#[derive(Clone, Copy, Debug)]
struct MinBalance(Option<i64>);

pub(super) async fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let Session { config, client, .. } = session;
    let id = args.id.unwrap_or_else(Uuid::now_v7);
    let body = OpenAccount { account: args.name.clone(), currency: args.currency, min_balance: args.min_balance.0 };
    let tasks = [Task::new(id, TaskBody::OpenAccount(body))];
    let mut watch = OutcomeWatch::default();
    watch.look(client, &tasks).await?;
    let message = publish::task_message(&tasks[0], tasks[0].to_json().into_bytes(), publish::PUBLISHER);
    if let Some(error) = publish::publish(config, &[message]).await?.error {
        return Err(Failure::from(error).hint(format!("to be sure of not asking twice, repeat it with --id {id}")));
    }
    let Some(outcome) = watch.wait(client, &tasks, Deadline::after(args.timeout)).await?.pop() else {
        return Ok(Exit::Ok);
    };
    session.print(&outcome, || Text::of(describe(&outcome)))?;
    Ok(outcome.exit())
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Payment(stored) => {
            let verb = if stored.rejection.is_none() { "opened".to_owned() } else { human::state(stored) };
            match &stored.task.body {
                TaskBody::OpenAccount(open) => {
                    format!("{verb} {} in {}, task {}", open.account, open.currency, stored.task.id)
                }
                other => format!("{verb}: a task of type {}, {}", other.task_type().name(), stored.task.id),
            }
        }
        Outcome::DeadLetter { id, detail } => format!("not opened: task {id} is a dead letter: {detail}"),
        Outcome::Unknown { id } => format!(
            "task {id} is published, and has no outcome yet: is `settled run` up? See `settled payment show {id}`"
        ),
    }
}

fn min_balance(text: &str) -> Result<MinBalance, String> {
    if text == NO_LIMIT {
        return Ok(MinBalance(None));
    }
    let limit = text.parse().ok().filter(|limit| (-MAX_BALANCE..=0).contains(limit));
    limit.map(|limit| MinBalance(Some(limit))).ok_or_else(|| {
        format!("expected an integer from -{MAX_BALANCE} to 0, in minor units, or `{NO_LIMIT}` for no limit")
    })
}

/// Parses the id of a new task.
fn task_id(text: &str) -> Result<Uuid, String> {
    let id = Uuid::try_parse(text).map_err(|error| error.to_string())?;
    if is_unset(id) { Err("that is what an id is before anybody has set it".to_owned()) } else { Ok(id) }
}
