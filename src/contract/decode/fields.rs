//! The fields of all task types, read in one pass: no unknown or repeated field, no array in
//! place of the object, no float, no `\u0000`.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use compact_str::CompactString;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::legs::{Legs, RawLeg};
use super::limits::Limit;
use super::metadata::Metadata;
use super::{Origin, Refusal};
use crate::contract::Leg;

/// The last place in `legs`.
const LAST_LEG: u64 = Leg::MOST as u64 - 1;
/// The longest `expires_in`.
const MOST_SECONDS: u64 = u32::MAX as u64;

/// The union of the fields of all task types. A type takes what it knows; what is left over
/// is a field that the type doesn't have.
#[derive(Debug, Default)]
pub(super) struct RawTask<'a> {
    /// Who wrote it.
    pub(super) origin: Origin,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) task_type: Option<Cow<'a, str>>,
    pub(super) account: Option<Cow<'a, str>>,
    /// Some types have only one or two of a movement's fields.
    pub(super) movement: RawLeg<'a>,
    pub(super) min_balance: Option<Option<i64>>,
    pub(super) reference: Option<Cow<'a, str>>,
    pub(super) metadata: Option<CompactString>,
    pub(super) payment_id: Option<Cow<'a, str>>,
    pub(super) legs: Option<Vec<RawLeg<'a>>>,
    pub(super) leg: Option<u8>,
    pub(super) is_final: Option<bool>,
    pub(super) expires_in: Option<u32>,
    pub(super) max_balance: Option<Option<i64>>,
    pub(super) execute_at: Option<Cow<'a, str>>,
    pub(super) after: Option<Cow<'a, str>>,
}

impl<'a> RawTask<'a> {
    /// Reads a body.
    pub(super) fn read(origin: Origin, body: &'a [u8]) -> Result<Self, Refusal> {
        let field = Cell::new(None);
        let mut json = serde_json::Deserializer::from_slice(body);
        let read = TaskFields { origin, field: &field }.deserialize(&mut json).and_then(|raw| {
            field.set(None);
            json.end().map(|()| raw)
        });
        read.map_err(|error| Refusal { field: field.take(), detail: error.to_string() })
    }

    /// A field that was given and that nobody took.
    pub(super) fn left_over(&self) -> Option<&'static str> {
        [
            ("account", self.account.is_some()),
            ("min_balance", self.min_balance.is_some()),
            ("max_balance", self.max_balance.is_some()),
            ("payment_id", self.payment_id.is_some()),
            ("legs", self.legs.is_some()),
            ("leg", self.leg.is_some()),
            ("final", self.is_final.is_some()),
            ("expires_in", self.expires_in.is_some()),
            ("reference", self.reference.is_some()),
            ("metadata", self.metadata.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
        .or_else(|| self.movement.first_given())
    }
}

/// Reads the object and remembers the field it is at, for the error message.
struct TaskFields<'c> {
    origin: Origin,
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
        let mut raw = RawTask { origin: self.origin, ..RawTask::default() };
        while let Some(Text(key)) = map.next_key()? {
            let read = match key.as_ref() {
                "id" => put(&mut raw.id, &mut map, |Text(text)| text),
                "type" => put(&mut raw.task_type, &mut map, |Text(text)| text),
                "account" => put(&mut raw.account, &mut map, |Text(text)| text),
                "debit_account" => put(&mut raw.movement.debit_account, &mut map, |Text(text)| text),
                "credit_account" => put(&mut raw.movement.credit_account, &mut map, |Text(text)| text),
                "amount" => put(&mut raw.movement.amount, &mut map, |Integer(minor)| minor),
                "currency" => put(&mut raw.movement.currency, &mut map, |Text(text)| text),
                "min_balance" => put_with(&mut raw.min_balance, || map.next_value_seed(Limit(self.origin))),
                "reference" => put(&mut raw.reference, &mut map, |Text(text)| text),
                "metadata" => put(&mut raw.metadata, &mut map, |Metadata(json)| json),
                "payment_id" => put(&mut raw.payment_id, &mut map, |Text(text)| text),
                "legs" => put_with(&mut raw.legs, || map.next_value_seed(Legs { field: self.field })),
                "leg" => put(&mut raw.leg, &mut map, |Whole::<u8, 0, LAST_LEG>(place)| place),
                "final" => put(&mut raw.is_final, &mut map, |is_final: bool| is_final),
                "expires_in" => put(&mut raw.expires_in, &mut map, |Whole::<u32, 1, MOST_SECONDS>(seconds)| seconds),
                "max_balance" => put_with(&mut raw.max_balance, || map.next_value_seed(Limit(self.origin))),
                "execute_at" => put(&mut raw.execute_at, &mut map, |Text(text)| text),
                "after" => put(&mut raw.after, &mut map, |Text(text)| text),
                _ => Err(A::Error::custom("unknown field")),
            };
            if let Err(error) = read {
                // Of a leg's field the list knows more.
                let known = self.field.take();
                self.field.set(known.or_else(|| Some(key.chars().take(64).collect())));
                return Err(error);
            }
        }
        Ok(raw)
    }
}

/// Reads the value into its place, once.
pub(super) fn put<'de, A: MapAccess<'de>, W: Deserialize<'de>, T>(
    place: &mut Option<T>,
    map: &mut A,
    unwrap: impl FnOnce(W) -> T,
) -> Result<(), A::Error> {
    put_with(place, || map.next_value().map(unwrap))
}

fn put_with<T, E: Error>(place: &mut Option<T>, read: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
    if place.is_some() {
        return Err(E::custom("repeated field"));
    }
    *place = Some(read()?);
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
pub(super) struct Integer(pub(super) i64);

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
                i64::try_from(value).map(Integer).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
            }
        }
        deserializer.deserialize_i64(IntegerVisitor)
    }
}

/// A whole number from `LEAST` to `MOST`.
struct Whole<T, const LEAST: u64, const MOST: u64>(T);

impl<'de, T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Deserialize<'de> for Whole<T, LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor<T, const LEAST: u64, const MOST: u64>(PhantomData<T>);
        impl<T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Visitor<'_> for WholeVisitor<T, LEAST, MOST> {
            type Value = Whole<T, LEAST, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an integer from {LEAST} to {MOST}")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                let wrong = || E::invalid_value(Unexpected::Unsigned(value), &self);
                let number = (LEAST..=MOST).contains(&value).then(|| T::try_from(value).ok()).flatten();
                number.map(Whole).ok_or_else(wrong)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                u64::try_from(value)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
                    .and_then(|value| self.visit_u64(value))
            }
        }
        deserializer.deserialize_u64(WholeVisitor(PhantomData))
    }
}
