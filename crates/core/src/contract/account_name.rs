//! The name of an account, as publishers write it.

use std::fmt;

use compact_str::CompactString;

/// `[A-Za-z0-9][A-Za-z0-9:._-]{0,63}`, e.g. `merchant:42:settlement`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(CompactString);

impl AccountName {
    /// The form of a name in words, for error messages.
    pub const EXPECTED: &str = "1 to 64 characters of A-Z a-z 0-9 : . _ -, the first a letter or digit";

    /// Parses a name. Returns `None` if it doesn't have the form.
    pub fn parse(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        let valid = bytes.len() <= 64
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b":._-".contains(b));
        valid.then(|| Self(CompactString::new(name)))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for AccountName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for AccountName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
