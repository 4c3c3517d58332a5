//! The dead letters of a batch: rows that are committed in the place of tasks.

use super::rows::{DeadLetterRow, Rows};
use settled_core::contract::{DeadLetter, DeadReason, Message, Task};
use settled_pipeline::store::Answer;

/// The dead letter of a task whose id has had its outcome with another `field`.
pub(super) fn conflict(task: &Task, field: &str) -> DeadLetter {
    DeadLetter {
        reason: DeadReason::IdempotencyConflict,
        field: Some(field.to_owned()),
        detail: format!("`{field}` differs from the task that had the id {} first; nothing was applied", task.id),
        task_id: Some(task.id),
    }
}

/// Adds the row of a dead letter, or another delivery to the row that there is of it. Returns the answer.
pub(super) fn dead_letter<'a>(message: &'a Message, letter: DeadLetter, rows: &mut Rows<'a>) -> Answer {
    let digest = letter.digest(&message.body, &message.properties);
    let reason = letter.reason;
    // PostgreSQL updates a row once per statement.
    match rows.dead_letters.iter_mut().find(|row| row.digest == digest) {
        Some(row) => row.messages.push(message),
        None => rows.dead_letters.push(DeadLetterRow {
            digest,
            task_id: letter.task_id,
            reason,
            field: letter.field,
            detail: letter.detail,
            body: &message.body[..message.body.len().min(DeadLetter::KEPT_BYTES)],
            // Plain strings and a number.
            properties: serde_json::to_string(&message.properties).unwrap_or_else(|_| "{}".into()),
            messages: vec![message],
            seen: message.received_at,
        }),
    }
    Answer::DeadLettered(reason)
}
