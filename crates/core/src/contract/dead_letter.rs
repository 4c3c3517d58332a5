//! Messages that can't become payments, and why.

use aws_lc_rs::digest;
use serde::Deserialize;
use uuid::Uuid;

use super::Properties;
use crate::named::named;

named! {
    /// Why a message is a dead letter.
    #[derive(Deserialize)]
    DeadReason {
        /// The body is not a task, or a property contradicts it.
        Malformed = "malformed";
        /// The body is larger than a task may be.
        Oversize = "oversize";
        /// The id was used before, for a task that asks for something else.
        IdempotencyConflict = "idempotency_conflict";
        /// PostgreSQL refuses this task and no other of its batch.
        Unprocessable = "unprocessable";
        /// Its publisher may not publish it.
        Forbidden = "forbidden";
        /// The broker gave it up because its time to live ran out before it was taken.
        Expired = "expired";
        /// The broker gave it up because the queue was longer than its limit.
        QueueFull = "queue_full";
        /// The broker gave it up because it was delivered too often without an acknowledgement.
        DeliveryLimit = "delivery_limit";
        /// Its publisher was in quarantine: its messages were set aside without being read.
        Quarantined = "quarantined";
        /// It was in the broker's dead-letter queue for another reason.
        Returned = "returned";
    }
}

/// Why a message is a dead letter, and what of it is wrong. The message itself is stored beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why the message can't become a payment.
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
