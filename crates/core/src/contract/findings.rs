//! Defects of a message that the connection to the broker has found before the message was decoded.

use uuid::Uuid;

use super::{DeadLetter, DeadReason, MAX_BODY_BYTES};

/// Why a message can't be a task, whatever its body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Properties that can't be read, in the order in which they came.
    pub flaws: Vec<Flaw>,
    /// The size of a body that is too large. Only its beginning was kept.
    pub oversize: Option<Oversize>,
}

/// A property that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The name of the property.
    pub field: &'static str,
    /// What is wrong, with the publisher's bytes; bytes that are not printable ASCII are written as `\xe9`.
    pub detail: String,
    /// The bytes of the property.
    pub bytes: Vec<u8>,
}

/// Size and hash of a body of which only the beginning was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256: another body may have the same beginning.
    pub sha256: [u8; 32],
}

impl Flaw {
    /// The flaw that `what` is wrong with `field`, with the `bytes` around it.
    pub fn new(field: &'static str, what: &str, bytes: &[u8]) -> Self {
        let shown = if bytes.is_empty() { String::new() } else { format!(": `{}`", bytes.escape_ascii()) };
        Self { field, detail: format!("{what}{shown}"), bytes: bytes.to_vec() }
    }

    /// The flaw that `bytes` are not UTF-8: the part `what` of `field`, or all of it.
    pub fn not_utf8(field: &'static str, what: &str, bytes: &[u8]) -> Self {
        Self { field, detail: format!("{what}`{}` is not UTF-8", bytes.escape_ascii()), bytes: bytes.to_vec() }
    }
}

impl Findings {
    /// Returns the dead letter that the message has to become, or `None` if nothing was found. `task_id` is called only
    /// for a dead letter.
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
