//! Makes messages longer, within what the contract allows.

use serde_json::value::RawValue;

/// The longest message that can be asked for, in bytes. The contract allows a body of 64 KiB,
/// but only 50 metadata of 500 characters in it.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 25_000;

/// The longest value, in characters.
const VALUE_CHARS: usize = 500;
/// What a pair costs beside its value: `"pad00":"",`.
const PAIR_BYTES: usize = 11;
/// `,"metadata":{}`.
const FIELD_BYTES: usize = 14;

/// The metadata of every payment; nothing if it is long enough without.
#[derive(Debug, Default)]
pub(crate) struct Padding(Option<Box<RawValue>>);

impl Padding {
    /// Of so many bytes, or as few more or less as a pair needs.
    pub(super) fn of(bytes: usize) -> Self {
        let mut left = bytes.saturating_sub(FIELD_BYTES);
        let mut pairs = Vec::new();
        while left > PAIR_BYTES {
            let value = (left - PAIR_BYTES).min(VALUE_CHARS);
            pairs.push(format!("\"pad{:02}\":\"{}\"", pairs.len(), "x".repeat(value)));
            left -= PAIR_BYTES + value;
        }
        let json = (!pairs.is_empty()).then(|| RawValue::from_string(format!("{{{}}}", pairs.join(","))).ok());
        Self(json.flatten())
    }

    pub(super) fn json(&self) -> Option<&RawValue> {
        self.0.as_deref()
    }
}

/// Parses the length of a message, in bytes.
pub(super) fn payload_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| *bytes <= MAX_PAYLOAD_BYTES);
    bytes.ok_or_else(|| {
        format!(
            "expected at most {MAX_PAYLOAD_BYTES} bytes: a body may have 64 KiB, but is made longer with metadata, of \
             which the contract allows 50 of 500 characters"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_too_long_is_refused_with_the_limit_of_the_contract() {
        assert_eq!(payload_bytes("25000"), Ok(25_000));
        assert!(payload_bytes("25001").is_err_and(|error| error.contains("50 of 500 characters")));
    }
}
