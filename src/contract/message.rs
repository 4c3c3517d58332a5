//! A message as it was taken from the queue.

use jiff::Timestamp;
use uuid::Uuid;

use super::{DeadLetter, DeadReason, Fingerprint, MAX_BODY_BYTES, Properties, Task, decode, decode_stored};
use crate::sabotage::{self, Defect};

/// A message, read: either a task or the dead letter it has to become.
#[derive(Clone, Debug)]
pub struct Message {
    /// The bytes as they came, for the dead letters.
    pub body: Vec<u8>,
    /// What came beside them.
    pub properties: Properties,
    /// When they came, by the daemon's clock.
    pub received_at: Timestamp,
    /// What they say.
    pub content: Result<Task, DeadLetter>,
    /// Whether a reply may be sent to the message's `reply_to`.
    pub is_answerable: bool,
}

impl Message {
    /// Reads a message. Of its properties only what can be passed on is kept.
    pub fn read(body: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        let properties = properties.without_what_harms();
        let mut content = decode(&body, &properties);
        if let (true, Ok(task)) = (sabotage::has(Defect::DedupedByBytes), &mut content) {
            task.fingerprint = Fingerprint::of_bytes(&body);
        }
        Self { body, properties, received_at, content, is_answerable: true }
    }

    /// Reads a message that the broker has given up for `reason`, which `detail` describes: a dead
    /// letter, whatever it says. One that may have ended the process is not decoded again.
    pub fn given_up(
        body: Vec<u8>,
        properties: Properties,
        received_at: Timestamp,
        reason: DeadReason,
        detail: String,
    ) -> Self {
        let properties = properties.without_what_harms();
        let decoded = match reason {
            DeadReason::DeliveryLimit => None,
            _ => decode(&body, &properties).map_or_else(|letter| letter.task_id, |task| Some(task.id)),
        };
        let message_id = || properties.message_id.as_ref()?.with_text(|text| Uuid::try_parse(text).ok());
        let task_id = decoded.or_else(message_id);
        // Of a body that is longer only the beginning is kept, so it can't be replayed.
        let reason = if body.len() > MAX_BODY_BYTES { DeadReason::Oversize } else { reason };
        let content = Err(DeadLetter { reason, field: None, detail, task_id });
        Self { body, properties, received_at, content, is_answerable: true }
    }

    /// A message that became a task before and is taken up again: `request` is the task as the ledger
    /// keeps it.
    pub fn stored(request: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        let content = decode_stored(&request);
        Self { body: request, properties: properties.without_what_harms(), received_at, content, is_answerable: true }
    }

    /// The time of publication, as precisely as the message says it: the milliseconds of a
    /// version 7 id, else the seconds of its timestamp.
    pub fn published_at(&self) -> Option<Timestamp> {
        let id_time = self.content.as_ref().ok().and_then(|task| task.id.get_timestamp());
        match id_time {
            Some(time) => {
                let (seconds, nanos) = time.to_unix();
                Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
            }
            None => Timestamp::from_second(i64::try_from(self.properties.timestamp?).ok()?).ok(),
        }
    }
}
