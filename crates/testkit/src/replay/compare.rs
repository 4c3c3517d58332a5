//! Compares the final state of the model with the records of the database. Errors describe the first difference.

use std::collections::HashSet;
use std::fmt::Debug;

use super::contract::{PaymentState, Rejection};
use super::model::Model;
use super::recorded::{Account, Recorded};

/// Compares states, rejection reasons, versions, and the amounts of each leg.
pub fn payments(model: &Model, recorded: &Recorded) -> Result<(), String> {
    same("how many tasks there are", &model.rows.len(), &recorded.payments.len())?;
    for payment in &recorded.payments {
        let id = payment.task.id;
        let row = model.row(id).ok_or_else(|| format!("the model has no task {id}"))?;
        let of = |what: &str| format!("{what} of {}", payment.task.to_json());
        same(&of("the task"), &row.task, &payment.task)?;
        same(&of("the state"), &row.state.map(PaymentState::name), &Some(payment.state.name()))?;
        same(&of("the reason"), &row.reason.map(Rejection::name), &payment.reason.map(Rejection::name))?;
        same(&of("the version"), &row.version, &payment.version)?;
        let legs = row.legs.iter().map(|leg| [leg.amount, leg.captured, leg.refunded, leg.charged_back]);
        same(&of("the legs"), &legs.collect(), &payment.legs)?;
    }
    Ok(())
}

/// Compares balances, limits and status of all accounts.
pub fn accounts(model: &Model, recorded: &Recorded) -> Result<(), String> {
    for account in recorded.accounts.values() {
        same("an account", &expected(&account.name, model), account)?;
    }
    let names: HashSet<&str> = recorded.accounts.values().map(|account| account.name.as_str()).collect();
    match model.accounts.keys().find(|name| !names.contains(name.as_str())) {
        Some(name) => Err(format!("there is no account {name}")),
        None => Ok(()),
    }
}

/// Returns what has to be recorded of an account.
fn expected(name: &str, model: &Model) -> Account {
    let name = name.to_owned();
    let Some(account) = model.accounts.get(&name) else {
        return Account { name, status: "unopened".to_owned(), ..Account::default() };
    };
    let status = match (account.is_closed, account.is_frozen) {
        (true, _) => "closed",
        (false, true) => "frozen",
        (false, false) => "open",
    };
    Account {
        name,
        status: status.to_owned(),
        currency: Some(account.currency.clone()),
        posted: account.posted,
        held: account.held,
        version: account.version,
        shortfall: account.shortfall(),
        min_balance: account.min_balance,
        max_balance: account.max_balance,
    }
}

/// Compares all entries, in the order of each account. The model must have kept its entries.
pub fn entries(model: &Model, recorded: &Recorded) -> Result<(), String> {
    let name = |id| recorded.accounts.get(&id).map_or("", |account| account.name.as_str());
    let entries = recorded.entries.iter().flat_map(|(task, entries)| entries.iter().map(move |entry| (task, entry)));
    let mut found: Vec<_> =
        entries.map(|(task, entry)| (name(entry.account), entry.seq, *task, entry.amount, entry.balance)).collect();
    let expected = model.entries.iter();
    let mut expected: Vec<_> =
        expected.map(|entry| (entry.account.as_str(), entry.seq, entry.task, entry.amount, entry.balance)).collect();
    found.sort_unstable();
    expected.sort_unstable();
    same("how many entries there are", &expected.len(), &found.len())?;
    expected.iter().zip(&found).try_for_each(|(expected, found)| same("an entry", expected, found))
}

fn same<T: PartialEq + Debug>(what: &str, expected: &T, recorded: &T) -> Result<(), String> {
    if expected == recorded {
        Ok(())
    } else {
        Err(format!("{what}: the model says {expected:?}, recorded is {recorded:?}"))
    }
}
