//! The data of what is told of a dead letter.

use schemars::JsonSchema;

use super::values::{DeadReasonName, Id, TypeName};

/// What is told of a message that became a dead letter: the body of a reply and of an event of the type
/// `task.dead_lettered` in the format `single`, the `data` of such an event in the format `batch`.
///
/// Later versions may add fields.
#[derive(JsonSchema)]
#[schemars(title = "settled: dead letter data")]
pub(super) struct DeadLetterData {
    /// The task's id: the body's, or that of `message_id` where the body can't be read. Left out where
    /// neither says it.
    #[schemars(skip_serializing_if = "absent")]
    id: Id,
    /// The task's type; only of a well-formed task.
    #[schemars(skip_serializing_if = "absent")]
    r#type: TypeName,
    /// Tells it from a task that has an outcome.
    #[schemars(extend("const" = "dead_lettered"))]
    state: String,
    /// Why.
    reason: DeadReasonName,
    /// The field or property at fault, if one is.
    #[schemars(skip_serializing_if = "absent")]
    field: String,
    /// What is wrong and what was expected, for people.
    detail: String,
    /// The message's id.
    #[schemars(skip_serializing_if = "absent")]
    message_id: String,
    /// The message's correlation id.
    #[schemars(skip_serializing_if = "absent")]
    correlation_id: String,
    /// Who published it: the `user_id` of the message, else its `app_id`.
    #[schemars(skip_serializing_if = "absent")]
    publisher: String,
    /// When it was committed as a dead letter, by the database's clock.
    #[schemars(extend("format" = "date-time"))]
    dead_lettered_at: String,
}
