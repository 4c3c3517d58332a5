//! Properties and headers of a delivery that no task uses. They are kept for dead letters, which are
//! shown and replayed with them. Few messages have any, so they are allocated only for those that do.

use std::collections::BTreeMap;

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The properties of a message that tasks do not use, and its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// AMQP `content_encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<CompactString>,
    /// AMQP `type`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CompactString>,
    /// AMQP `priority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// AMQP `expiration`: milliseconds, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<CompactString>,
    /// AMQP `cluster_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<CompactString>,
    /// The headers with their types, but for a trace context that is kept as a property already.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<CompactString, HeaderValue>,
    /// Headers of which only the beginning is kept, or nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<CompactString>,
    /// The bytes of properties that are not UTF-8 or have a NUL in them, by name. PostgreSQL stores neither,
    /// so the text of these properties has replacement characters in their place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub with_nul: BTreeMap<CompactString, Bytes>,
}

impl Evidence {
    /// The most that is kept of all headers together, names and values, in bytes.
    pub const MAX_HEADER_BYTES: usize = 8 * 1024;
    /// The most that is kept of the names of headers that were cut, in bytes.
    pub const MAX_CUT_BYTES: usize = 1024;
    /// How deep lists and tables in a header are kept.
    pub const MAX_DEPTH: usize = 8;
}

/// The value of a header, with its AMQP type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`
    I64(i64),
    /// `f`, as text, because JSON has neither NaN nor infinities.
    F32(CompactString),
    /// `d`, as text.
    F64(CompactString),
    /// `D`
    Decimal {
        /// How many of the digits stand behind the point.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S` that is text.
    Text(String),
    /// `S` that is no text, or has a NUL.
    TextBytes(Bytes),
    /// `x`
    Bytes(Bytes),
    /// `A`
    List(Vec<Self>),
    /// `T`, in seconds since 1970.
    Time(u64),
    /// `F`
    Table(BTreeMap<CompactString, Self>),
    /// `V`
    Void,
}

/// Bytes that are written as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes as hexadecimal digits.
    pub fn to_hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        let digit = |place: usize| char::from(digits[place]).to_digit(16);
        let byte = |at: usize| u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok();
        let whole = digits.len().is_multiple_of(2);
        whole.then(|| (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()).flatten().map(Self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Self::to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = CompactString::deserialize(deserializer)?;
        Self::from_hex(&digits).ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_comes_back_as_it_was_stored() {
        let table = BTreeMap::from([("inner".into(), HeaderValue::List(vec![HeaderValue::Void, HeaderValue::I8(-5)]))]);
        let evidence = Evidence {
            kind: Some("shop.Order".into()),
            priority: Some(9),
            headers: BTreeMap::from([
                ("retry".into(), HeaderValue::I64(i64::MIN)),
                ("ratio".into(), HeaderValue::F64("NaN".into())),
                ("raw".into(), HeaderValue::TextBytes(Bytes(vec![0, 0xff]))),
                ("table".into(), HeaderValue::Table(table)),
            ]),
            cut: vec!["long".into()],
            with_nul: BTreeMap::from([("app_id".into(), Bytes(b"a\0b".to_vec()))]),
            ..Evidence::default()
        };
        let json = serde_json::to_string(&evidence).expect("plain values");
        assert!(json.contains(r#""raw":{"text_bytes":"00ff"}"#) && !json.contains("u0000"), "{json}");
        assert_eq!(serde_json::from_str::<Evidence>(&json).expect("what was stored is read"), evidence);
    }

    #[test]
    fn what_is_no_hexadecimal_number_is_refused() {
        for text in ["0", "0g", "é0"] {
            assert_eq!(Bytes::from_hex(text), None, "{text}");
        }
    }
}
