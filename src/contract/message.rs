//! A message as it was taken from the queue.

use jiff::Timestamp;

use super::{DeadLetter, Fingerprint, Properties, Task, decode};
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
}

impl Message {
    /// Reads a message. Of its properties only what can be passed on is kept.
    pub fn read(body: Vec<u8>, properties: Properties, received_at: Timestamp) -> Self {
        let properties = properties.without_what_harms();
        let mut content = decode(&body, &properties);
        if let (true, Ok(task)) = (sabotage::has(Defect::DedupedByBytes), &mut content) {
            task.fingerprint = Fingerprint::of_bytes(&body);
        }
        Self { body, properties, received_at, content }
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
