//! Tasks as they are written.

use uuid::Uuid;

pub(super) fn open(id: Uuid, account: &str, min_balance: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"open_account","account":"{account}","currency":"USD","min_balance":{min_balance}}}"#
    )
}

pub(super) fn transfer(id: Uuid, debit: &str, credit: &str, amount: usize, reference: &str) -> String {
    let reference = if reference.is_empty() { String::new() } else { format!(r#","reference":"{reference}""#) };
    format!(
        r#"{{"id":"{id}","type":"transfer","debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"{reference}}}"#
    )
}

pub(super) fn authorize(id: Uuid, debit: &str, credit: &str, amount: usize) -> String {
    format!(
        r#"{{"id":"{id}","type":"authorize","debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"}}"#
    )
}

pub(super) fn follow_up(id: Uuid, kind: &str, payment: Uuid, more: &str) -> String {
    format!(r#"{{"id":"{id}","type":"{kind}","payment_id":"{payment}"{more}}}"#)
}

/// For what acts on a part of a payment.
pub(super) fn part(amount: usize) -> String {
    format!(r#","amount":{amount}"#)
}

pub(super) fn change(id: Uuid, kind: &str, account: &str, more: &str) -> String {
    format!(r#"{{"id":"{id}","type":"{kind}","account":"{account}"{more}}}"#)
}
