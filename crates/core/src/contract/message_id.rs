//! The AMQP property `message_id`.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// A message's id. Nearly always it is the task's id: stored as a UUID it takes 16 bytes in place, and no allocation
/// of 36.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CompactString", into = "CompactString")]
pub struct MessageId(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Written with hyphens and in small letters, so that it can be written again as it came.
    Uuid(Uuid),
    Text(CompactString),
}

impl MessageId {
    /// Whether it is this id, in any spelling of a UUID.
    pub fn is(&self, id: Uuid) -> bool {
        match &self.0 {
            Form::Uuid(own) => *own == id,
            Form::Text(text) => Uuid::try_parse(text) == Ok(id),
        }
    }

    /// Returns the UUID, unless it is none, nil or max.
    pub fn uuid(&self) -> Option<Uuid> {
        let id = match &self.0 {
            Form::Uuid(id) => Some(*id),
            Form::Text(text) => Uuid::try_parse(text).ok(),
        };
        id.filter(|id| !id.is_nil() && !id.is_max())
    }

    /// Calls `use_it` with the text as it came.
    pub fn with_text<T>(&self, use_it: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Form::Uuid(id) => use_it(id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH])),
            Form::Text(text) => use_it(text),
        }
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        let uuid = Uuid::try_parse(text)
            .ok()
            .filter(|id| *id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]) == *text);
        Self(uuid.map_or_else(|| Form::Text(text.into()), Form::Uuid))
    }
}

impl From<Uuid> for MessageId {
    fn from(id: Uuid) -> Self {
        Self(Form::Uuid(id))
    }
}

impl From<CompactString> for MessageId {
    fn from(text: CompactString) -> Self {
        Self::from(text.as_str())
    }
}

impl From<MessageId> for CompactString {
    fn from(id: MessageId) -> Self {
        id.with_text(|text| Self::from(text))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_as_it_was() {
        let id = "01920000-0000-7000-8000-00000000000a";
        for text in [id, &id.to_uppercase(), &id.replace('-', ""), &format!("{{{id}}}"), "", "order 7", "ä"] {
            assert_eq!(MessageId::from(text).to_string(), text);
            let json = serde_json::to_string(&MessageId::from(text)).expect("a string");
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<MessageId>(&json).expect("a string"), MessageId::from(text));
        }
    }

    #[test]
    fn it_is_the_tasks_id_in_whatever_spelling() {
        let text = "01920000-0000-7000-8000-00000000000a";
        let id = Uuid::try_parse(text).expect("a UUID");
        assert!(MessageId::from(text).is(id) && MessageId::from(text.to_uppercase().as_str()).is(id));
        assert!(!MessageId::from("order 7").is(id) && !MessageId::from(Uuid::nil()).is(id));
    }
}
