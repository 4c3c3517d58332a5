//! A message's body. Written as any publisher would write it, not with the daemon's own types.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Accounts, Ask, Message};

/// The fields of a task.
#[derive(Debug, Serialize)]
pub(crate) struct Body<'a> {
    pub(super) id: Uuid,
    #[serde(rename = "type")]
    task_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debit_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amount: Option<i64>,
    currency: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_balance: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

impl<'a> Body<'a> {
    /// What `message` says once its id is known.
    pub(crate) fn new(accounts: &'a Accounts, message: &Message, id: Uuid) -> Self {
        let name = |account: usize| Some(accounts.all[account].name.as_str());
        match message.ask {
            Ask::Open(account) => Self {
                id,
                task_type: "open_account",
                account: name(account),
                debit_account: None,
                credit_account: None,
                amount: None,
                currency: accounts.all[account].currency.unwrap_or_default(),
                min_balance: Some(accounts.all[account].min_balance),
                reference: None,
                metadata: None,
            },
            Ask::Transfer { debit, credit, amount, currency } => Self {
                id,
                task_type: "transfer",
                account: None,
                debit_account: name(debit),
                credit_account: name(credit),
                amount: Some(amount),
                currency,
                min_balance: None,
                // The same for a repetition of the message: it belongs to the id.
                reference: Some(format!("order-{}", message.id)),
                metadata: accounts.padding.json(),
            },
        }
    }

    /// The bytes, broken where the message has to be.
    ///
    /// # Errors
    /// None that could occur: plain values are written to memory.
    pub(crate) fn bytes(&self, message: &Message) -> serde_json::Result<Vec<u8>> {
        let good = serde_json::to_vec(self)?;
        Ok(match message.broken {
            Some(broken) => broken.apply(good, self),
            None => good,
        })
    }
}
