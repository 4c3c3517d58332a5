//! From a message's bytes to a [`Task`]: strictly. What is not exactly the contract is
//! refused with the field's name and what was expected; nothing is guessed at.

mod fields;
mod metadata;

use compact_str::CompactString;
use uuid::Uuid;

use self::fields::{RawTask, Refusal};
pub use self::metadata::canonical_metadata;
#[cfg(test)]
pub(super) use self::metadata::{MAX_KEY_CHARS, MAX_KEYS, MAX_VALUE_CHARS};
use super::{
    AccountName, Currency, DeadLetter, DeadReason, OpenAccount, Properties, Task, TaskBody, TaskType, Transfer,
};

/// The largest body a task may have, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The longest `reference`, in characters.
pub(super) const MAX_REFERENCE_CHARS: usize = 140;

/// Decodes a task.
///
/// # Errors
///
/// The dead letter that the message has to become; it names the field.
pub fn decode(body: &[u8], properties: &Properties) -> Result<Task, DeadLetter> {
    if body.len() > MAX_BODY_BYTES {
        let detail = format!("the body has {} bytes, a task has at most {MAX_BODY_BYTES}", body.len());
        return Err(DeadLetter { reason: DeadReason::Oversize, field: None, detail, task_id: None });
    }
    let mut task_id = None;
    decode_fields(body, properties, &mut task_id).map_err(|Refusal { field, detail }| DeadLetter {
        reason: DeadReason::Malformed,
        detail: match &field {
            Some(name) => format!("`{name}`: {detail}"),
            None => detail,
        },
        field,
        task_id,
    })
}

fn decode_fields(body: &[u8], properties: &Properties, task_id: &mut Option<Uuid>) -> Result<Task, Refusal> {
    if let Some(content_type) = &properties.content_type {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::of("content_type", format!("`{media_type}`, expected `application/json`")));
        }
    }
    let mut raw = RawTask::read(body)?;
    let id = uuid(raw.id.take())?;
    *task_id = Some(id);
    match &properties.message_id {
        Some(message_id) if !message_id.is(id) => {
            return Err(Refusal::of("message_id", format!("`{message_id}`, expected the body's `id` {id}")));
        }
        _ => {}
    }
    let task_type = task_type(raw.task_type.take())?;
    let body = match task_type {
        TaskType::OpenAccount => TaskBody::OpenAccount(open_account(&mut raw)?),
        TaskType::Transfer => TaskBody::Transfer(transfer(&mut raw)?),
    };
    match raw.left_over() {
        Some(field) => Err(Refusal::of(field, format!("unknown field for the type `{}`", task_type.name()))),
        None => Ok(Task::new(id, body)),
    }
}

fn open_account(raw: &mut RawTask<'_>) -> Result<OpenAccount, Refusal> {
    Ok(OpenAccount {
        account: account("account", raw.account.take())?,
        currency: currency(raw.currency.take())?,
        min_balance: raw.min_balance.take().unwrap_or(Some(0)),
    })
}

fn transfer(raw: &mut RawTask<'_>) -> Result<Transfer, Refusal> {
    Ok(Transfer {
        debit_account: account("debit_account", raw.debit_account.take())?,
        credit_account: account("credit_account", raw.credit_account.take())?,
        amount: raw.amount.take().ok_or_else(|| missing("amount", "an integer in minor units"))?,
        currency: currency(raw.currency.take())?,
        reference: raw.reference.take().map(|text| reference(&text)).transpose()?,
        metadata: raw.metadata.take(),
    })
}

fn missing(field: &'static str, expected: &str) -> Refusal {
    Refusal::of(field, format!("missing, expected {expected}"))
}

type Text<'a> = Option<std::borrow::Cow<'a, str>>;

fn uuid(text: Text<'_>) -> Result<Uuid, Refusal> {
    const EXPECTED: &str = "a UUID such as 01920000-0000-7000-8000-000000000001";
    let text = text.ok_or_else(|| missing("id", EXPECTED))?;
    // One spelling only: the crate would also take braces, URNs and no hyphens.
    let id = (text.len() == 36).then(|| Uuid::try_parse(&text).ok()).flatten();
    id.ok_or_else(|| Refusal::of("id", format!("{}, expected {EXPECTED}", quoted(&text))))
}

fn task_type(text: Text<'_>) -> Result<TaskType, Refusal> {
    let expected = || TaskType::ALL.map(|t| format!("`{}`", t.name())).join(" or ");
    let text = text.ok_or_else(|| missing("type", &expected()))?;
    TaskType::from_name(&text).ok_or_else(|| Refusal::of("type", format!("{}, expected {}", quoted(&text), expected())))
}

fn account(field: &'static str, text: Text<'_>) -> Result<AccountName, Refusal> {
    let text = text.ok_or_else(|| missing(field, AccountName::EXPECTED))?;
    AccountName::parse(&text)
        .ok_or_else(|| Refusal::of(field, format!("{}, expected {}", quoted(&text), AccountName::EXPECTED)))
}

fn currency(text: Text<'_>) -> Result<Currency, Refusal> {
    const EXPECTED: &str = "three capital letters, an ISO 4217 code";
    let text = text.ok_or_else(|| missing("currency", EXPECTED))?;
    Currency::parse(&text).ok_or_else(|| Refusal::of("currency", format!("{}, expected {EXPECTED}", quoted(&text))))
}

fn reference(text: &str) -> Result<CompactString, Refusal> {
    match text.chars().count() {
        1..=MAX_REFERENCE_CHARS => Ok(CompactString::new(text)),
        n => Err(Refusal::of("reference", format!("{n} characters, expected 1 to {MAX_REFERENCE_CHARS}"))),
    }
}

/// A value as it is shown to people: quoted, and cut when it is long.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests;
