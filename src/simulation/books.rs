//! What the accounts have to be in the end.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::store::short;
use crate::store::Memory;

/// Entries, balances and holds agree.
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
        if account.min_balance.is_some_and(|least| account.posted - account.held < least) {
            wrong(format!("account {} is below its limit", account.id));
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
