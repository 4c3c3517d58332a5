//! Messages that can't become payments, and why.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Properties;

/// Why a message is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The body is not a task, or a property contradicts it.
    Malformed,
    /// The body is larger than a task may be.
    Oversize,
    /// The id was used before, for a task that asks for something else.
    IdempotencyConflict,
    /// PostgreSQL refuses this task and no other of its batch.
    Unprocessable,
    /// Its publisher may not publish it.
    Forbidden,
    /// The broker gave it up because its time to live ran out before it was taken.
    Expired,
    /// The broker gave it up because the queue was longer than its limit.
    QueueFull,
    /// The broker gave it up because it was delivered too often without an acknowledgement.
    DeliveryLimit,
    /// It was in the broker's dead-letter queue for another reason.
    Returned,
}

impl DeadReason {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Oversize,
        Self::IdempotencyConflict,
        Self::Unprocessable,
        Self::Forbidden,
        Self::Expired,
        Self::QueueFull,
        Self::DeliveryLimit,
        Self::Returned,
    ];

    /// The name in the contract and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversize => "oversize",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::Unprocessable => "unprocessable",
            Self::Expired => "expired",
            Self::QueueFull => "queue_full",
            Self::DeliveryLimit => "delivery_limit",
            Self::Returned => "returned",
            Self::Forbidden => "forbidden",
        }
    }

    /// Returns the reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// Why a message is a dead letter, and what of it is wrong. The message itself is stored beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The kind of reason.
    pub reason: DeadReason,
    /// The name of the field or property that is wrong, if one is.
    pub field: Option<String>,
    /// What is wrong and what was expected, in words.
    pub detail: String,
    /// The task's id, where it could be read.
    pub task_id: Option<Uuid>,
}

impl DeadLetter {
    /// The most of an oversize body that is kept, in bytes.
    pub const KEPT_BYTES: usize = super::MAX_BODY_BYTES;

    /// Returns a hash that is the same for each delivery of the same message: of body, message id and reason.
    ///
    /// A forbidden message is another one if it comes from another publisher, so its properties are hashed, too.
    /// Of an oversize body only the beginning may have been kept; its detail has the hash of the whole.
    pub fn digest(&self, body: &[u8], properties: &Properties) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut update = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        update(self.reason.name().as_bytes());
        match &properties.message_id {
            Some(message_id) => message_id.with_text(|text| update(text.as_bytes())),
            None => update(b""),
        }
        if self.reason == DeadReason::Forbidden {
            for judged in [&properties.publisher, &properties.exchange, &properties.routing_key, &properties.reply_to] {
                update(judged.as_deref().unwrap_or_default().as_bytes());
            }
        }
        if self.reason == DeadReason::Oversize {
            update(self.detail.as_bytes());
        }
        update(body);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}
