//! Compares the final state of the model with the records of the database.

use std::fmt::Debug;

use super::contract::{PaymentState, Rejection};
use super::model::Model;
use super::recorded::{Account, Recorded};

/// Compares states, rejection reasons, versions, and the amounts of each leg.
///
/// # Errors
///
/// Describes the first difference.
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
///
/// # Errors
///
/// Describes the first difference.
pub fn accounts(model: &Model, recorded: &Recorded) -> Result<(), String> {
    for account in recorded.accounts.values() {
        let expected = model.accounts.get(&account.name).map(|expected| Account {
            name: account.name.clone(),
            status: match (expected.is_closed, expected.is_frozen) {
                (true, _) => "closed",
                (false, true) => "frozen",
                (false, false) => "open",
            }
            .to_owned(),
            currency: Some(expected.currency.clone()),
            posted: expected.posted,
            held: expected.held,
            version: expected.version,
            shortfall: expected.shortfall(),
            min_balance: expected.min_balance,
            max_balance: expected.max_balance,
        });
        let unopened = || Account {
            name: account.name.clone(),
            status: "unopened".to_owned(),
            currency: None,
            posted: 0,
            held: 0,
            version: 0,
            shortfall: 0,
            min_balance: None,
            max_balance: None,
        };
        same("an account", &expected.unwrap_or_else(unopened), account)?;
    }
    let names: std::collections::HashSet<&str> =
        recorded.accounts.values().map(|account| account.name.as_str()).collect();
    match model.accounts.keys().find(|name| !names.contains(name.as_str())) {
        Some(name) => Err(format!("there is no account {name}")),
        None => Ok(()),
    }
}

/// Compares all entries, in the order of each account. The model must have kept its entries.
///
/// # Errors
///
/// Describes the first difference.
pub fn entries(model: &Model, recorded: &Recorded) -> Result<(), String> {
    let mut found: Vec<_> = recorded
        .entries
        .iter()
        .flat_map(|(task, entries)| entries.iter().map(move |entry| (task, entry)))
        .map(|(task, entry)| {
            let account = recorded.accounts.get(&entry.account).map_or("", |account| account.name.as_str());
            (account, entry.seq, *task, entry.amount, entry.balance)
        })
        .collect();
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
