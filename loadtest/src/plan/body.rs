//! A message's body. Written as any publisher would write it, not with the daemon's own types.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::generate::CURRENCY;
use super::{Accounts, Act, Ask, Message, legs_of};

/// The ids of a message, and when it was due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    pub(crate) own: Uuid,
    /// That of the payment that it acts on.
    pub(crate) parent: Option<Uuid>,
    /// When the first message with its id was due, in microseconds since 1970.
    pub(crate) due: i64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Body<'a> {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    legs: Vec<Leg<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<Uuid>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execute_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_balance: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
struct Leg<'a> {
    debit_account: &'a str,
    credit_account: &'a str,
    amount: i64,
    currency: &'static str,
}

/// The bytes of a message once its ids are known, broken where it has to be.
///
/// # Errors
/// None that could occur: plain values are written to memory.
pub(crate) fn body(accounts: &Accounts, message: &Message, ids: Ids) -> serde_json::Result<Vec<u8>> {
    let body = Body::new(accounts, message, ids);
    let good = serde_json::to_vec(&body)?;
    Ok(match message.broken {
        Some(broken) => broken.apply(good, &body),
        None => good,
    })
}

impl<'a> Body<'a> {
    fn new(accounts: &'a Accounts, message: &Message, ids: Ids) -> Self {
        let name = |account: usize| accounts.all[account].name.as_str();
        let (id, task_type) = (ids.own, message.ask.task_type().name());
        let payment = Self {
            id,
            task_type,
            execute_at: message.execute_in.map(|millis| rfc_3339(ids.due + i64::from(millis) * 1000)),
            // The same for a repetition of the message: it belongs to the id.
            reference: Some(format!("order-{}", message.id)),
            metadata: accounts.padding.json(),
            ..Self::default()
        };
        match message.ask {
            Ask::Open(account) => Self {
                id,
                task_type,
                account: Some(name(account)),
                currency: Some(accounts.all[account].currency.unwrap_or_default()),
                min_balance: Some(accounts.all[account].min_balance),
                ..Self::default()
            },
            Ask::Transfer { debit, credit, amount, currency } | Ask::Authorize { debit, credit, amount, currency } => {
                Self {
                    debit_account: Some(name(debit)),
                    credit_account: Some(name(credit)),
                    amount: Some(amount),
                    currency: Some(currency),
                    ..payment
                }
            }
            Ask::Split { debit, credit, amount, legs } => {
                let leg = |(debit, credit, amount)| Leg {
                    debit_account: name(debit),
                    credit_account: name(credit),
                    amount,
                    currency: CURRENCY,
                };
                Self { legs: legs_of(accounts, debit, credit, amount, legs).map(leg).collect(), ..payment }
            }
            Ask::FollowUp { act, amount, says_amount, .. } => Self {
                payment_id: ids.parent,
                amount: says_amount.then_some(amount),
                is_final: (act == Act::Capture { is_final: false }).then_some(false),
                ..payment
            },
        }
    }
}

/// A time in microseconds since 1970, in UTC.
fn rfc_3339(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).unwrap_or_default().to_string()
}
