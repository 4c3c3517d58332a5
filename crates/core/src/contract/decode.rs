//! Decodes a message into a [`Task`], strictly. What doesn't follow the contract is refused with the name of the field
//! and what was expected; nothing is guessed.

mod bodies;
mod fields;
mod json;
mod legs;
mod limits;
mod metadata;
mod recognize;
mod values;

use uuid::Uuid;

use self::fields::RawTask;
pub use self::metadata::canonical_metadata;
#[cfg(test)]
pub(super) use self::metadata::{MAX_KEY_CHARS, MAX_KEYS, MAX_VALUE_CHARS};
pub use self::values::is_unset;
#[cfg(test)]
pub(super) use self::values::{FIRST_YEAR, LAST_YEAR, MAX_REFERENCE_CHARS};
use self::values::{moment, other_task, task_type, uuid};
use super::{DeadLetter, DeadReason, MAX_BODY_BYTES, MessageId, Properties, Task, When};

/// Who has written the JSON of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    /// A publisher. Nothing but the contract is accepted.
    #[default]
    Publisher,
    /// The store. It also has what earlier versions accepted.
    Ledger,
}

/// Decodes a task that was published.
///
/// # Errors
///
/// Returns the dead letter that the message has to become; it names the field. If the body's id can't be read, its
/// `task_id` is the message's `message_id`.
pub fn decode(body: &[u8], properties: &Properties) -> Result<Task, DeadLetter> {
    decode_from(Origin::Publisher, body, properties)
}

/// Decodes a task that is stored. Accepts what [`decode`] accepts, and what earlier versions did: `null` for no limit,
/// the nil UUID and its kind, times of any year.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_stored(body: &[u8]) -> Result<Task, DeadLetter> {
    decode_from(Origin::Ledger, body, &Properties::default())
}

fn decode_from(origin: Origin, body: &[u8], properties: &Properties) -> Result<Task, DeadLetter> {
    let mut task_id = properties.message_id.as_ref().and_then(MessageId::uuid);
    if body.len() > MAX_BODY_BYTES {
        let detail = format!("the body has {} bytes, a task has at most {MAX_BODY_BYTES}", body.len());
        return Err(DeadLetter { reason: DeadReason::Oversize, field: None, detail, task_id });
    }
    decode_fields(origin, body, properties, &mut task_id).map_err(|Refusal { field, detail }| DeadLetter {
        reason: DeadReason::Malformed,
        detail: match &field {
            Some(name) => format!("`{name}`: {detail}"),
            None => detail,
        },
        field,
        task_id,
    })
}

fn decode_fields(
    origin: Origin,
    body: &[u8],
    properties: &Properties,
    task_id: &mut Option<Uuid>,
) -> Result<Task, Refusal> {
    if let Some(content_type) = &properties.content_type {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::of("content_type", format!("`{media_type}`, expected `application/json`")));
        }
    }
    let mut raw =
        RawTask::read(origin, body).map_err(|refusal| refusal.or_recognized(body, properties.content_encoding()))?;
    let id = uuid(origin, "id", raw.id.take())?;
    *task_id = Some(id);
    match &properties.message_id {
        Some(message_id) if !message_id.is(id) => {
            return Err(Refusal::of("message_id", format!("`{message_id}`, expected the body's `id` {id}")));
        }
        _ => {}
    }
    let task_type = task_type(raw.task_type.take())?;
    let body = bodies::of_type(task_type, id, &mut raw)?;
    let when = When {
        execute_at: raw.execute_at.take().map(|text| moment(origin, "execute_at", &text)).transpose()?,
        after: raw.after.take().map(|text| other_task(origin, "after", Some(text), id)).transpose()?,
    };
    match raw.left_over() {
        Some(field) => Err(Refusal::of(field, format!("unknown field for the type `{}`", task_type.name()))),
        None => Ok(Task::timed(id, when, body)),
    }
}

/// What is wrong with a message, and the field.
#[derive(Debug)]
struct Refusal {
    field: Option<String>,
    detail: String,
}

impl Refusal {
    fn of(field: impl Into<String>, detail: String) -> Self {
        Self { field: Some(field.into()), detail }
    }

    fn missing(field: &'static str, expected: &str) -> Self {
        Self::of(field, format!("missing, expected {expected}"))
    }

    /// Says of a body that isn't a JSON object what it is instead, if that can be recognized.
    fn or_recognized(self, body: &[u8], content_encoding: Option<&str>) -> Self {
        if self.field.is_some() {
            return self;
        }
        let detail = recognize::recognize(body, content_encoding).unwrap_or(self.detail);
        Self { field: None, detail }
    }

    /// Puts the place of the leg before the name of its field.
    fn of_leg(self, place: usize) -> Self {
        Self { field: self.field.map(|name| format!("legs[{place}].{name}")), ..self }
    }
}

#[cfg(test)]
mod tests;
