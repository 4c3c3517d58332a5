//! The tasks. Which fields a type has, and which of them it has to have, is what the decoder says of an example.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::values::{AccountName, Amount, Currency, Id, LegPlace, Metadata, Moment, NewLimit, OpeningLimit, Reference};
use super::{meaning, tests};
use crate::contract::{Leg, Properties, TaskType, decode};

const ABOUT: &str = "A payment task: the body of a message to the exchange `payments`, with the routing key \
    `task.<type>`.\n\n\
    A document that fits is never a dead letter for its form, nor rejected as `amount_out_of_range`. Beyond what a \
    schema can say: no field may be repeated, an integer is written without fraction and exponent, a task doesn't name \
    itself in `payment_id` or `after`, the date of `execute_at` exists and its year is one of those in UTC as well, and \
    the body has at most 64 KiB.";

pub(super) struct Task;

impl JsonSchema for Task {
    fn schema_name() -> Cow<'static, str> {
        "Task".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let alternatives: Vec<Schema> =
            tests::tasks::whole().iter().map(|example| alternative(example, generator)).collect();
        json_schema!({ "title": "settled: task", "description": ABOUT, "oneOf": alternatives })
    }
}

/// The tasks of the example's type that have `legs`, or have none, as the example.
fn alternative(example: &Value, generator: &mut SchemaGenerator) -> Schema {
    let fields = example.as_object().expect("an object");
    let task_type = fields["type"].as_str().and_then(TaskType::from_name).expect("a type");
    let about = match (task_type, fields.contains_key("legs")) {
        (TaskType::Transfer, true) => json!("Moves money between several accounts: all legs or none."),
        (TaskType::Authorize, true) => json!("Holds money on the debit accounts of all legs, or on none."),
        _ => meaning::<TaskType>(task_type.name()),
    };
    let is_required = |name: &&String| {
        let mut without = fields.clone();
        without.remove(*name);
        decode(Value::from(without).to_string().as_bytes(), &Properties::default()).is_err()
    };
    let required: Vec<&String> = fields.keys().filter(is_required).collect();
    let properties: Map<String, Value> =
        fields.keys().map(|name| (name.clone(), field(name, task_type, generator).to_value())).collect();
    let mut schema = json_schema!({
        "description": about,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "required": required,
    });
    if task_type == TaskType::SetLimits {
        schema.insert("anyOf".into(), json!([{ "required": ["min_balance"] }, { "required": ["max_balance"] }]));
    }
    schema
}

/// The schema of a field, with what it means in a task of this type.
fn field(name: &str, task_type: TaskType, of: &mut SchemaGenerator) -> Schema {
    use TaskType::{Authorize, Chargeback, ChargebackReversal, CloseAccount, FreezeAccount, OpenAccount, Transfer};
    let (mut schema, about) = match (name, task_type) {
        ("type", _) => return json_schema!({ "type": "string", "const": task_type.name() }),
        ("id", _) => (of.subschema_for::<Id>(), "The idempotency key of the task, for ever."),
        ("execute_at", _) => (
            of.subschema_for::<Moment>(),
            "The task is applied at this time, by the database's clock; until then it is `scheduled`. A time that has \
             passed is at once.",
        ),
        ("after", _) => (
            of.subschema_for::<Id>(),
            "The id of another task: this one is applied only after that one has had its outcome, and rejected as \
             `dependency_failed` if that one was rejected or canceled.",
        ),
        ("reference", _) => (of.subschema_for::<Reference>(), "The publisher's own reference."),
        ("metadata", _) => (of.subschema_for::<Metadata>(), "The publisher's own keys and values."),
        ("account", OpenAccount) => (of.subschema_for::<AccountName>(), "The account to open."),
        ("account", CloseAccount) => (of.subschema_for::<AccountName>(), "The account to close."),
        ("account", FreezeAccount) => (of.subschema_for::<AccountName>(), "The account to freeze."),
        ("account", TaskType::UnfreezeAccount) => (of.subschema_for::<AccountName>(), "The account to unfreeze."),
        ("account", _) => (of.subschema_for::<AccountName>(), "The account that gets the limits."),
        ("debit_account", _) => (of.subschema_for::<AccountName>(), "The account that pays."),
        ("credit_account", _) => (of.subschema_for::<AccountName>(), "The account that is paid: another one."),
        ("currency", OpenAccount) => (of.subschema_for::<Currency>(), "The only currency that the account will hold."),
        ("currency", _) => (of.subschema_for::<Currency>(), "The currency of both accounts."),
        ("amount", Transfer | Authorize) => (of.subschema_for::<Amount>(), "How much, in minor units of the currency."),
        ("amount", Chargeback | ChargebackReversal) => {
            (of.subschema_for::<Amount>(), "How much, in minor units of the payment's currency.")
        }
        ("amount", _) => (
            of.subschema_for::<Amount>(),
            "How much, in minor units of the payment's currency. Left out, it is all that is left.",
        ),
        ("legs", Transfer) => (legs(of), "The movements, made in this order."),
        ("legs", _) => (legs(of), "The movements that the money is held for."),
        ("expires_in", _) => (
            json_schema!({ "type": "integer", "format": "uint32", "minimum": 1, "maximum": u32::MAX }),
            "For how long the money is held, in seconds from when the task is applied. Left out, it is the operator's \
             default; longer than the operator's maximum is rejected as `expiry_out_of_range`.",
        ),
        ("payment_id", _) => (
            of.subschema_for::<Id>(),
            "The id of the task that is acted on: a `transfer` or `authorize`, never a capture; for `cancel` any task.",
        ),
        ("leg", _) => (
            of.subschema_for::<LegPlace>(),
            "One leg of a payment with `legs`. Left out, all of them take part, in proportion to what is left of each.",
        ),
        ("final", _) => (
            json_schema!({ "type": "boolean", "default": true }),
            "`true` releases what is still held after this capture; `false` keeps it held for another one.",
        ),
        ("min_balance", OpenAccount) => (
            of.subschema_for::<OpeningLimit>(),
            "The balance, in minor units, below which the account may not fall. `\"none\"` is no limit. 0 when left \
             out.",
        ),
        ("min_balance", _) => (
            of.subschema_for::<NewLimit>(),
            "What the available balance (posted minus held) may not fall below, in minor units; `\"none\"` is no \
             limit. Left out, it stays as it is.",
        ),
        ("max_balance", _) => (
            of.subschema_for::<NewLimit>(),
            "What the posted balance may not rise above, in minor units; `\"none\"` is no limit. Left out, it stays as \
             it is.",
        ),
        (other, _) => panic!("nothing is said of the field {other}"),
    };
    schema.insert("description".into(), json!(about));
    schema
}

fn legs(of: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": of.subschema_for::<Movement>(), "minItems": 1, "maxItems": Leg::MOST })
}

/// A movement of money from one account to another.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Movement {
    /// The account that pays.
    debit_account: AccountName,
    /// The account that is paid: another one.
    credit_account: AccountName,
    /// How much, in minor units of the currency.
    amount: Amount,
    /// The currency of both accounts.
    currency: Currency,
}
