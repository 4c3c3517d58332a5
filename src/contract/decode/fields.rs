//! The fields of all task types, read in one pass: no unknown or repeated field, no array in
//! place of the object, no float, no `\u0000`.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use compact_str::CompactString;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::metadata::Metadata;

/// What is wrong with a message, and with which of its fields.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) field: Option<String>,
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn of(field: impl Into<String>, detail: String) -> Self {
        Self { field: Some(field.into()), detail }
    }
}

/// The union of the fields of all task types. A type takes what it knows; what is left over
/// is a field that the type doesn't have.
#[derive(Debug, Default)]
pub(super) struct RawTask<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) task_type: Option<Cow<'a, str>>,
    pub(super) account: Option<Cow<'a, str>>,
    pub(super) debit_account: Option<Cow<'a, str>>,
    pub(super) credit_account: Option<Cow<'a, str>>,
    pub(super) amount: Option<i64>,
    pub(super) currency: Option<Cow<'a, str>>,
    pub(super) min_balance: Option<Option<i64>>,
    pub(super) reference: Option<Cow<'a, str>>,
    pub(super) metadata: Option<CompactString>,
}

impl<'a> RawTask<'a> {
    /// Reads a body.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let field = Cell::new(None);
        let mut json = serde_json::Deserializer::from_slice(body);
        let read = TaskFields { field: &field }.deserialize(&mut json).and_then(|raw| {
            field.set(None);
            json.end().map(|()| raw)
        });
        read.map_err(|error| Refusal { field: field.take(), detail: error.to_string() })
    }

    /// A field that was given and that nobody took.
    pub(super) fn left_over(&self) -> Option<&'static str> {
        [
            ("account", self.account.is_some()),
            ("debit_account", self.debit_account.is_some()),
            ("credit_account", self.credit_account.is_some()),
            ("amount", self.amount.is_some()),
            ("min_balance", self.min_balance.is_some()),
            ("reference", self.reference.is_some()),
            ("metadata", self.metadata.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

/// Reads the object and remembers the field it is at, for the error message.
struct TaskFields<'c> {
    field: &'c Cell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for TaskFields<'_> {
    type Value = RawTask<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TaskFields<'_> {
    type Value = RawTask<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut raw = RawTask::default();
        while let Some(Text(key)) = map.next_key()? {
            let read = match key.as_ref() {
                "id" => put(&mut raw.id, &mut map, |Text(text)| text),
                "type" => put(&mut raw.task_type, &mut map, |Text(text)| text),
                "account" => put(&mut raw.account, &mut map, |Text(text)| text),
                "debit_account" => put(&mut raw.debit_account, &mut map, |Text(text)| text),
                "credit_account" => put(&mut raw.credit_account, &mut map, |Text(text)| text),
                "amount" => put(&mut raw.amount, &mut map, |Integer(minor)| minor),
                "currency" => put(&mut raw.currency, &mut map, |Text(text)| text),
                "min_balance" => {
                    put(&mut raw.min_balance, &mut map, |limit: Option<Integer>| limit.map(|Integer(minor)| minor))
                }
                "reference" => put(&mut raw.reference, &mut map, |Text(text)| text),
                "metadata" => put(&mut raw.metadata, &mut map, |Metadata(json)| json),
                _ => Err(A::Error::custom("unknown field")),
            };
            if let Err(error) = read {
                self.field.set(Some(key.chars().take(64).collect()));
                return Err(error);
            }
        }
        Ok(raw)
    }
}

/// Reads the value into its place, once.
fn put<'de, A: MapAccess<'de>, W: Deserialize<'de>, T>(
    place: &mut Option<T>,
    map: &mut A,
    unwrap: impl FnOnce(W) -> T,
) -> Result<(), A::Error> {
    if place.is_some() {
        return Err(A::Error::custom("repeated field"));
    }
    *place = Some(unwrap(map.next_value()?));
    Ok(())
}

/// A string, borrowed where it has no escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            // Only an escape can bring a NUL (raw control characters are no JSON), and a string
            // with an escape is never borrowed.
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                if text.contains('\0') {
                    return Err(E::custom("`\\u0000` in a string, which PostgreSQL can't store"));
                }
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// An integer of at most 64 bits.
struct Integer(i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;
        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of at most 64 bits, in minor units")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Integer, E> {
                Ok(Integer(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Integer, E> {
                i64::try_from(value)
                    .map(Integer)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
            }
        }
        deserializer.deserialize_i64(IntegerVisitor)
    }
}
