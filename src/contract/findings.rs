//! What the connection to the broker found out about a message before anybody could read it.

use uuid::Uuid;

use super::{DeadLetter, DeadReason, MAX_BODY_BYTES};

/// What keeps a message from being a task, below its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Properties that can't be read, in the order of the wire.
    pub flaws: Vec<Flaw>,
    /// Set when no more than the beginning of the body was kept.
    pub oversize: Option<Oversize>,
}

/// A property that can't be read as what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The name of the property.
    pub field: &'static str,
    /// What is wrong, with the publisher's bytes: those that are no printable ASCII as `\xe9`.
    pub detail: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The whole of a body of which the beginning was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, which tells it from another one with the same beginning.
    pub sha256: [u8; 32],
}

impl Flaw {
    /// Says `what` is wrong with `field`, and shows the `bytes` around it.
    pub fn new(field: &'static str, what: &str, bytes: &[u8]) -> Self {
        let shown = if bytes.is_empty() { String::new() } else { format!(": `{}`", bytes.escape_ascii()) };
        Self { field, detail: format!("{what}{shown}"), bytes: bytes.to_vec() }
    }

    /// Says that `bytes`, which are `what` of `field` or all of it, are not UTF-8.
    pub fn not_utf8(field: &'static str, what: &str, bytes: &[u8]) -> Self {
        Self { field, detail: format!("{what}`{}` is not UTF-8", bytes.escape_ascii()), bytes: bytes.to_vec() }
    }
}

impl Findings {
    /// The dead letter that the message has to become, of the task whose id is asked for; none if nothing was found.
    pub(super) fn dead_letter(&self, task_id: impl FnOnce() -> Option<Uuid>) -> Option<DeadLetter> {
        if let Some(Oversize { size, sha256 }) = &self.oversize {
            let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            let detail = format!("the body has {size} bytes, a task has at most {MAX_BODY_BYTES}; SHA-256 {sha256}");
            return Some(DeadLetter { reason: DeadReason::Oversize, field: None, detail, task_id: task_id() });
        }
        let field = self.flaws.first()?.field.to_owned();
        let details: Vec<String> = self.flaws.iter().map(|flaw| format!("`{}`: {}", flaw.field, flaw.detail)).collect();
        let detail = details.join("; ");
        Some(DeadLetter { reason: DeadReason::Malformed, field: Some(field), detail, task_id: task_id() })
    }
}
