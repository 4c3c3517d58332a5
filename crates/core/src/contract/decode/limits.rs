//! Reads `min_balance` and `max_balance`: an integer, or the word for no limit.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, Unexpected, Visitor};

use super::Origin;
use crate::contract::NO_LIMIT;

/// Reads a limit in minor units; `None` is no limit, for the word [`NO_LIMIT`].
///
/// Many serializers write `null` for a field that nobody has set, so `null` of a publisher removes no limit. In stored
/// tasks of earlier versions it does.
#[derive(Clone, Copy)]
pub(super) struct Limit(pub(super) Origin);

impl<'de> DeserializeSeed<'de> for Limit {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Limit {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer of at most 64 bits, in minor units, or \"{NO_LIMIT}\" for no limit")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        i64::try_from(value).map(Some).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == NO_LIMIT { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        match self.0 {
            Origin::Ledger => Ok(None),
            Origin::Publisher => Err(E::custom(format_args!(
                "null, which is no limit and takes none away: write \"{NO_LIMIT}\" for no limit, or leave the field out"
            ))),
        }
    }
}
