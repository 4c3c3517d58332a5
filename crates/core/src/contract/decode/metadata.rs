//! Reads `metadata`, the publisher's own keys and values, into canonical JSON.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use smallvec::SmallVec;

use super::json::Text;

/// The largest number of keys.
pub(in crate::contract) const MAX_KEYS: usize = 50;
/// The longest key, in characters.
pub(in crate::contract) const MAX_KEY_CHARS: usize = 64;
/// The longest value, in characters.
pub(in crate::contract) const MAX_VALUE_CHARS: usize = 500;

/// Returns the canonical form of an object of strings (sorted keys, no white space), or `None` if `json` isn't one.
/// PostgreSQL's `jsonb` sorts keys in another order.
pub fn canonical_metadata(json: &str) -> Option<CompactString> {
    serde_json::from_str(json).ok().map(|Metadata(canonical)| canonical)
}

/// An object of strings, as canonical JSON.
pub(super) struct Metadata(pub(super) CompactString);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;
        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with strings as values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut pairs: SmallVec<[(Cow<'de, str>, Cow<'de, str>); 4]> = SmallVec::new();
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    if pairs.len() == MAX_KEYS {
                        return Err(A::Error::custom(format!("more than {MAX_KEYS} keys")));
                    }
                    if !(1..=MAX_KEY_CHARS).contains(&key.chars().count()) {
                        return Err(A::Error::custom(format!("a key that has not 1 to {MAX_KEY_CHARS} characters")));
                    }
                    if value.chars().count() > MAX_VALUE_CHARS {
                        return Err(A::Error::custom(format!("a value of more than {MAX_VALUE_CHARS} characters")));
                    }
                    pairs.push((key, value));
                }
                pairs.sort_unstable();
                if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
                    return Err(A::Error::custom(format!("repeated key {:?}", twice[0].0)));
                }
                canonical(&pairs).map(Metadata).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_map(MetadataVisitor)
    }
}

fn canonical(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<CompactString, serde_json::Error> {
    let mut json: SmallVec<[u8; 256]> = SmallVec::new();
    for (position, (key, value)) in pairs.iter().enumerate() {
        json.push(if position == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut json, key)?;
        json.push(b':');
        serde_json::to_writer(&mut json, value)?;
    }
    json.extend_from_slice(if pairs.is_empty() { b"{}" } else { b"}" });
    CompactString::from_utf8(&json).map_err(serde::ser::Error::custom)
}
