//! Checks of the final accounts.

use std::collections::BTreeMap;

use settled_core::contract::{Action, TaskBody};
use settled_core::ledger::AccountStatus;
use settled_testkit::memory::Memory;
use uuid::Uuid;

use super::message::short;

/// Checks that balances agree with entries, and held amounts with holds.
pub(super) fn entries(tables: &Memory, wrong: &impl Fn(String)) {
    let mut of_payment: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (account, entries) in tables.accounts.iter().zip(&tables.entries) {
        let mut balance = 0;
        for (payment, amount, after) in entries {
            balance += amount;
            *of_payment.entry(*payment).or_default() += amount;
            if balance != *after {
                wrong(format!("account {}: {after} after an entry, its entries make {balance}", account.id));
            }
        }
        if (balance, entries.len() as i64) != (account.posted, account.version) {
            wrong(format!("account {}: {} posted, its entries make {balance}", account.id, account.posted));
        }
    }
    let mut held = vec![0; tables.accounts.len()];
    for (payment, _) in tables.holds() {
        for leg in &payment.legs {
            held[leg.debit.0] += payment.held(leg);
        }
    }
    for (account, held) in tables.accounts.iter().zip(&held).filter(|(account, held)| account.held != **held) {
        wrong(format!("account {}: {} held, its holds make {held}", account.id, account.held));
    }
    for (payment, _) in of_payment.iter().filter(|(_, sum)| **sum != 0) {
        wrong(format!("the entries of {} don't sum to zero", short(*payment)));
    }
}

/// Checks that every account is within its limits or has recorded its shortfall. A shortfall must not exceed what
/// chargebacks and their reversals have taken from the account.
pub(super) fn limits(tables: &Memory, wrong: &impl Fn(String)) {
    for (account, entries) in tables.accounts.iter().zip(&tables.entries) {
        let available = account.posted - account.held;
        let short = account.min_balance.map_or(0, |least| (least - available).max(0));
        if account.shortfall != short {
            wrong(format!("account {} is said to be {} short, it is {short}", account.id, account.shortfall));
        }
        let debits = entries.iter().filter(|(payment, amount, _)| *amount < 0 && is_imposed(tables, *payment));
        let imposed: i64 = debits.map(|(_, amount, _)| -amount).sum();
        if short > imposed {
            wrong(format!("account {} is {short} below its limit, chargebacks took {imposed}", account.id));
        }
        if account.max_balance.is_some_and(|most| account.posted > most) {
            wrong(format!("account {} is above its limit", account.id));
        }
        if account.status == AccountStatus::Closed && (account.posted, account.held) != (0, 0) {
            wrong(format!("account {} is closed, and not empty", account.id));
        }
    }
}

/// Returns true if a task may take an account below its limit.
fn is_imposed(tables: &Memory, task: Uuid) -> bool {
    let body = tables.stored.get(&task).map(|stored| &stored.task.body);
    let Some(TaskBody::FollowUp(follow_up)) = body else { return false };
    matches!(follow_up.action, Action::Chargeback { .. } | Action::ChargebackReversal { .. })
}
