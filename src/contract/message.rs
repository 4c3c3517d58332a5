//! A message as it was taken from the queue.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    DeadLetter, DeadReason, Evidence, Findings, Fingerprint, MessageId, Properties, Task, decode, decode_stored,
};
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
        Self::read_with(&Findings::default(), body, properties, received_at)
    }

    /// Reads a message about which the connection has found something out: no task, then, whatever the body says.
    pub fn read_with(findings: &Findings, body: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        let properties = properties.without_what_harms();
        let named = || properties.message_id.as_ref().and_then(MessageId::uuid);
        let mut content = match findings.dead_letter(|| task_id(&body).or_else(named)) {
            Some(letter) => Err(letter),
            None => decode(&body, &properties),
        };
        if let (true, Ok(task)) = (sabotage::has(Defect::DedupedByBytes), &mut content) {
            task.fingerprint = Fingerprint::of_bytes(&body);
        }
        Self { body, properties, received_at, content, is_answerable: true }
    }

    /// Reads a message that the broker has given up for `reason`, which `detail` describes: a dead
    /// letter, whatever it says. One that may have ended the process is not decoded again.
    pub fn given_up(
        findings: &Findings,
        body: Vec<u8>,
        properties: Properties,
        received_at: Timestamp,
        (mut reason, mut detail): (DeadReason, String),
    ) -> Self {
        let properties = properties.without_what_harms();
        let decoded = match reason {
            DeadReason::DeliveryLimit => None,
            _ => task_id(&body),
        };
        let task_id = decoded.or_else(|| properties.message_id.as_ref().and_then(MessageId::uuid));
        let found = findings.dead_letter(|| None);
        if let Some(found) = &found {
            detail = format!("{detail}; {}", found.detail);
            // Of a body that is longer only the beginning is kept, so it can't be replayed.
            if found.reason == DeadReason::Oversize {
                reason = found.reason;
            }
        }
        let content = Err(DeadLetter { reason, field: found.and_then(|found| found.field), detail, task_id });
        Self { body, properties, received_at, content, is_answerable: true }
    }

    /// A message that became a task before and is taken up again: `request` is the task as the ledger
    /// keeps it.
    pub fn stored(request: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        let content = decode_stored(&request);
        Self { body: request, properties: properties.without_what_harms(), received_at, content, is_answerable: true }
    }

    /// Roughly the memory it takes: the body, what was read from it, and the properties.
    pub fn footprint(&self) -> usize {
        let text = |text: &Option<compact_str::CompactString>| text.as_ref().map_or(0, |text| text.len());
        let Properties { content_type, publisher, reply_to, correlation_id, traceparent, tracestate, .. } =
            &self.properties;
        let texts = [content_type, publisher, reply_to, correlation_id, traceparent, tracestate];
        // At most; few messages have any.
        let evidence = self.properties.evidence.as_ref().map_or(0, |_| Evidence::MAX_HEADER_BYTES);
        size_of::<Self>() + 2 * self.body.capacity() + texts.into_iter().map(text).sum::<usize>() + evidence
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

/// The id of the task in a body, whatever its properties say.
fn task_id(body: &[u8]) -> Option<Uuid> {
    decode(body, &Properties::default()).map_or_else(|letter| letter.task_id, |task| Some(task.id))
}
