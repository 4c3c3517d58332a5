//! A message as it was taken from the queue.

use jiff::Timestamp;
use uuid::Uuid;

use super::{DeadLetter, DeadReason, Evidence, Findings, MessageId, Properties, Task, decode, decode_stored};

/// A message that was read: a task, or the dead letter that it has to become.
#[derive(Clone, Debug)]
pub struct Message {
    /// The body as it came.
    pub body: Vec<u8>,
    /// The properties that may be passed on.
    pub properties: Properties,
    /// When the message came, by the daemon's clock.
    pub received_at: Timestamp,
    /// The task, or why there is none.
    pub content: Result<Task, DeadLetter>,
    /// Whether a reply may be sent to the message's `reply_to`.
    pub is_answerable: bool,
}

impl Message {
    /// Decodes a message. Of its properties, those are kept that may be passed on.
    pub fn read(body: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        Self::read_with(&Findings::default(), body, properties, received_at)
    }

    /// Decodes a message. With findings it is a dead letter, whatever its body says.
    pub fn read_with(findings: &Findings, body: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        let properties = properties.without_what_harms();
        let named = || properties.message_id.as_ref().and_then(MessageId::uuid);
        let content = match findings.dead_letter(|| task_id(&body).or_else(named)) {
            Some(letter) => Err(letter),
            None => decode(&body, &properties),
        };
        Self { body, properties, received_at, content, is_answerable: true }
    }

    /// Makes a dead letter of a message that the broker has given up for `reason`, which `detail` describes. A message
    /// that was delivered too often is not decoded: it may be the one that ends the process.
    pub fn given_up(
        findings: &Findings,
        body: Vec<u8>,
        properties: Properties,
        received_at: Timestamp,
        (mut reason, mut detail): (DeadReason, String),
    ) -> Self {
        let properties = properties.without_what_harms();
        let decoded = if reason == DeadReason::DeliveryLimit { None } else { task_id(&body) };
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

    /// The message of a task that is stored as scheduled or parked: `request` is the task as the store keeps it.
    pub fn stored(request: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        let content = decode_stored(&request);
        Self { body: request, properties: properties.without_what_harms(), received_at, content, is_answerable: true }
    }

    /// Returns roughly the memory that the message takes, in bytes: body, task and properties.
    pub fn footprint(&self) -> usize {
        let text = |text: &Option<compact_str::CompactString>| text.as_ref().map_or(0, |text| text.len());
        let Properties { content_type, publisher, reply_to, correlation_id, traceparent, tracestate, .. } =
            &self.properties;
        let texts = [content_type, publisher, reply_to, correlation_id, traceparent, tracestate];
        // At most; few messages have any.
        let evidence = self.properties.evidence.as_ref().map_or(0, |_| Evidence::MAX_HEADER_BYTES);
        size_of::<Self>() + 2 * self.body.capacity() + texts.into_iter().map(text).sum::<usize>() + evidence
    }

    /// Returns the time of publication: the milliseconds of a version 7 id, else the seconds of the property
    /// `timestamp`.
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

/// Returns the id of the task in a body, whatever the properties say.
fn task_id(body: &[u8]) -> Option<Uuid> {
    decode(body, &Properties::default()).map_or_else(|letter| letter.task_id, |task| Some(task.id))
}
