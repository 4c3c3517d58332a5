//! Reads the fields of one movement, and the list `legs` of movements, as strictly as the task itself.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::json::{Integer, Text, put};
use crate::contract::Leg;

/// The fields of one movement.
#[derive(Debug, Default)]
pub(super) struct RawLeg<'a> {
    pub(super) debit_account: Option<Cow<'a, str>>,
    pub(super) credit_account: Option<Cow<'a, str>>,
    pub(super) amount: Option<i64>,
    pub(super) currency: Option<Cow<'a, str>>,
}

impl<'de> RawLeg<'de> {
    /// Returns the name of the first field that was given.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        [
            ("debit_account", self.debit_account.is_some()),
            ("credit_account", self.credit_account.is_some()),
            ("amount", self.amount.is_some()),
            ("currency", self.currency.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

/// Reads the list. Keeps leg and field that it is reading, for the error message.
pub(super) struct Legs<'c> {
    pub(super) field: &'c Cell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Legs<'_> {
    type Value = Vec<RawLeg<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Legs<'_> {
    type Value = Vec<RawLeg<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of 1 to {} legs", Leg::MOST)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut legs = Vec::new();
        while let Some(leg) = seq.next_element_seed(OneLeg { field: self.field, place: legs.len() })? {
            legs.push(leg);
            if legs.len() > Leg::MOST {
                return Err(A::Error::invalid_length(legs.len(), &self));
            }
        }
        if legs.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(legs) }
    }
}

#[derive(Clone, Copy)]
struct OneLeg<'c> {
    field: &'c Cell<Option<String>>,
    place: usize,
}

impl<'de> DeserializeSeed<'de> for OneLeg<'_> {
    type Value = RawLeg<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Self { field, place } = self;
        deserializer.deserialize_map(self).inspect_err(|_| {
            let known = field.take();
            field.set(known.or_else(|| Some(format!("legs[{place}]"))));
        })
    }
}

impl<'de> Visitor<'de> for OneLeg<'_> {
    type Value = RawLeg<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut raw = RawLeg::default();
        while let Some(Text(key)) = map.next_key()? {
            let read = match key.as_ref() {
                "debit_account" => put(&mut raw.debit_account, &mut map, |Text(text)| text),
                "credit_account" => put(&mut raw.credit_account, &mut map, |Text(text)| text),
                "amount" => put(&mut raw.amount, &mut map, |Integer(minor)| minor),
                "currency" => put(&mut raw.currency, &mut map, |Text(text)| text),
                _ => Err(A::Error::custom("unknown field of a leg")),
            };
            if let Err(error) = read {
                let key: String = key.chars().take(64).collect();
                self.field.set(Some(format!("legs[{}].{key}", self.place)));
                return Err(error);
            }
        }
        Ok(raw)
    }
}
