//! The JSON values that fields have: strings without `\u0000`, integers, whole numbers within bounds; each field
//! once.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

/// Reads the next value of `map` into `place`. A field that was read before is refused.
pub(super) fn put<'de, A: MapAccess<'de>, W: Deserialize<'de>, T>(
    place: &mut Option<T>,
    map: &mut A,
    unwrap: impl FnOnce(W) -> T,
) -> Result<(), A::Error> {
    put_with(place, || map.next_value().map(unwrap))
}

/// As [`put`], for a value that is read by `read`.
pub(super) fn put_with<T, E: Error>(place: &mut Option<T>, read: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
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
pub(super) struct Whole<T, const LEAST: u64, const MOST: u64>(pub(super) T);

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
