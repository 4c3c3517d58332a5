//! Reads the fields of all types of tasks in one pass. Refuses unknown and repeated fields, an array in place of the
//! object, floats and `\u0000`.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use compact_str::CompactString;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::json::{Integer, Text, Whole, put, put_with};
use super::legs::{Legs, RawLeg};
use super::limits::Limit;
use super::metadata::Metadata;
use super::{Origin, Refusal};
use crate::contract::Leg;

/// The last place in `legs`.
const LAST_LEG: u64 = Leg::MOST as u64 - 1;
/// The longest `expires_in`.
const MOST_SECONDS: u64 = u32::MAX as u64;

/// The fields of all types of tasks. A type takes its own; one that is left over is a field that the type doesn't have.
#[derive(Debug, Default)]
pub(super) struct RawTask<'a> {
    /// Who has written the JSON.
    pub(super) origin: Origin,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) task_type: Option<Cow<'a, str>>,
    pub(super) account: Option<Cow<'a, str>>,
    /// The fields of one movement. Some types have only one or two of them.
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
        let read = json.deserialize_map(TaskFields { origin, field: &field }).and_then(|raw| {
            field.set(None);
            json.end().map(|()| raw)
        });
        read.map_err(|error| Refusal { field: field.take(), detail: error.to_string() })
    }

    /// Returns a field that was given and not taken.
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

/// Reads the object. Keeps the name of the field that it is reading, for the error message.
struct TaskFields<'c> {
    origin: Origin,
    field: &'c Cell<Option<String>>,
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
