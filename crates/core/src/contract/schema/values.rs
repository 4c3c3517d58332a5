//! The values that tasks and events are made of.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::contract::decode::{MAX_KEY_CHARS, MAX_KEYS, MAX_REFERENCE_CHARS, MAX_VALUE_CHARS};
use crate::contract::{DeadReason, Leg, MAX_AMOUNT, MAX_BALANCE, NO_LIMIT, PaymentState, Rejection, TaskType};

/// PostgreSQL stores no NUL.
const NO_NUL: &str = "^[^\\u0000]*$";
/// RFC 3339 with capital letters and an offset, from 2002 to 9998, at most microseconds.
const MOMENT: &str = "^(200[2-9]|20[1-9][0-9]|2[1-9][0-9]{2}|[3-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])\
    (:[0-5][0-9]){2}(\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// A UUID in its usual spelling.
const UUID: &str = "^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$";
/// One that nobody has set.
const UNSET_UUID: &str = "^(0{8}-0{4}-[0-9A-Fa-f]0{3}-[0-9A-Fa-f]0{3}-0{12}|\
    [Ff]{8}-[Ff]{4}-[0-9A-Fa-f][Ff]{3}-[0-9A-Fa-f][Ff]{3}-[Ff]{12})$";

/// A UUID in its usual spelling. Version 7 is recommended. What an id is before anybody has set it is
/// refused: all bits 0 or all bits 1, beside the digits of version and variant.
#[derive(JsonSchema)]
pub(in crate::contract) struct Id(
    #[schemars(regex(pattern = UUID), extend("format" = "uuid", "not" = { "pattern": UNSET_UUID }))] String,
);

/// The id of a task: a UUID.
#[derive(JsonSchema)]
pub(in crate::contract) struct TaskId(#[schemars(regex(pattern = UUID), extend("format" = "uuid"))] String);

/// The name of an account.
#[derive(JsonSchema)]
pub(in crate::contract) struct AccountName(#[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9:._-]{0,63}$"))] String);

/// An ISO 4217 code. An account is opened in one that ISO 4217 lists as active or the operator has added;
/// another is rejected as `unknown_currency`.
#[derive(JsonSchema)]
pub(in crate::contract) struct Currency(#[schemars(regex(pattern = "^[A-Z]{3}$"))] String);

/// An amount in minor units.
#[derive(JsonSchema)]
pub(in crate::contract) struct Amount(#[schemars(range(min = 1, max = MAX_AMOUNT))] i64);

/// A date and time of the years 2002 to 9998 with its offset from UTC, as RFC 3339 writes it: capital `T`
/// and `Z`, at most six digits of a second.
#[derive(JsonSchema)]
pub(in crate::contract) struct Moment(#[schemars(regex(pattern = MOMENT), extend("format" = "date-time"))] String);

/// A moment, as events say it.
#[derive(JsonSchema)]
#[schemars(inline)]
pub(in crate::contract) struct Time(#[schemars(extend("format" = "date-time"))] String);

/// The place of a leg in the payment's `legs`; the first is 0.
#[derive(JsonSchema)]
pub(in crate::contract) struct LegPlace(#[schemars(range(min = 0, max = Leg::MOST - 1))] u8);

/// The publisher's own reference.
#[derive(JsonSchema)]
pub(in crate::contract) struct Reference(
    #[schemars(length(min = 1, max = MAX_REFERENCE_CHARS), regex(pattern = NO_NUL))] String,
);

/// Declares types whose schema is written out.
macro_rules! written {
    ($($(#[$doc:meta])* $name:ident, $inline:literal: $schema:expr;)+) => {
        $(
            $(#[$doc])*
            pub(in crate::contract) struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn inline_schema() -> bool {
                    $inline
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        )+
    };
}

written! {
    /// An object of strings.
    Metadata, false: json_schema!({
        "description": "The publisher's own keys and values.",
        "type": "object",
        "maxProperties": MAX_KEYS,
        "propertyNames": { "minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": NO_NUL },
        "additionalProperties": { "type": "string", "maxLength": MAX_VALUE_CHARS, "pattern": NO_NUL },
    });
    /// The limit that an account is opened with.
    OpeningLimit, true: json_schema!({
        "if": { "const": NO_LIMIT },
        "else": { "type": "integer", "minimum": -MAX_BALANCE, "maximum": 0 },
        "default": 0,
    });
    /// A limit that an account gets.
    NewLimit, true: json_schema!({
        "if": { "const": NO_LIMIT },
        "else": { "type": "integer", "minimum": -MAX_BALANCE, "maximum": MAX_BALANCE },
    });
    /// An amount as a task said it.
    AskedAmount, true: json_schema!({ "type": "integer", "format": "int64" });
    /// A limit as a task said it.
    AskedLimit, true: json_schema!({ "type": ["integer", "null"], "format": "int64" });
    /// The types of tasks.
    TypeName, true: one_of(TaskType::ALL.map(TaskType::name));
    /// ISO 20022 external status reason codes.
    ReasonCode, true: one_of(Rejection::ALL.map(Rejection::iso_code));
    /// Why a message is a dead letter.
    DeadReasonName, true: one_of(DeadReason::ALL.map(DeadReason::name));
    /// ISO 20022 external payment transaction status codes.
    IsoStatus, true: one_of(PaymentState::ALL.map(PaymentState::iso_status));
}

/// One of these, each named once.
fn one_of(values: impl IntoIterator<Item = &'static str>) -> Schema {
    let mut known = BTreeSet::new();
    let values: Vec<Value> =
        values.into_iter().filter(|value| known.insert(*value)).map(|value| json!(value)).collect();
    json_schema!({ "type": "string", "enum": values })
}
