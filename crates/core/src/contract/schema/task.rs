//! The tasks. Which fields a type has, and which of them it has to have, is what the decoder says of an example.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

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
            TaskType::ALL.into_iter().map(|task_type| alternative(task_type, generator)).collect();
        // The discriminator is OpenAPI's: validators that know it look at one alternative only, so that what is wrong
        // with a field is not said once for each of the other types.
        json_schema!({
            "title": "settled: task",
            "description": ABOUT,
            "type": "object",
            "discriminator": { "propertyName": "type" },
            "properties": { "type": { "type": "string", "description": "What the task does." } },
            "required": ["type"],
            "oneOf": alternatives,
        })
    }
}

/// The tasks of a type. Where it may have `legs` instead of one movement, the values are described once, and only
/// which of the fields belong together depends on whether there are `legs`.
fn alternative(task_type: TaskType, generator: &mut SchemaGenerator) -> Schema {
    let whole = tests::tasks::whole();
    let forms: Vec<&Map<String, Value>> =
        whole.iter().filter_map(Value::as_object).filter(|fields| fields["type"] == task_type.name()).collect();
    let properties: BTreeMap<&String, Value> = forms
        .iter()
        .flat_map(|form| form.keys())
        .map(|name| (name, field(name, task_type, generator).to_value()))
        .collect();
    let required: Vec<BTreeSet<&String>> = forms.iter().map(|form| required(form)).collect();
    let always = required.iter().cloned().reduce(|all, form| &all & &form).expect("every type has an example");
    let mut schema = json_schema!({
        "description": meaning::<TaskType>(task_type.name()),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "required": always,
    });
    if let [movement, legs] = forms.as_slice() {
        let excluded: Map<String, Value> =
            movement.keys().filter(|name| !legs.contains_key(*name)).map(|name| (name.clone(), json!(false))).collect();
        schema.insert("if".into(), present(["legs"]));
        schema.insert("then".into(), json!({ "properties": excluded }));
        schema.insert("else".into(), present(&required[0] - &always));
    }
    if task_type == TaskType::SetLimits {
        schema.insert("anyOf".into(), json!([present(["min_balance"]), present(["max_balance"])]));
    }
    schema
}

/// Whether all of these fields are there. What is required is named under `properties`, too: strict validators ask for
/// it.
fn present<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Value {
    let properties: Map<String, Value> =
        names.into_iter().map(|name| (name.as_ref().to_owned(), json!(true))).collect();
    json!({ "required": properties.keys().collect::<Vec<_>>(), "properties": properties })
}

/// The fields that a task like this one has to have.
fn required(fields: &Map<String, Value>) -> BTreeSet<&String> {
    let is_required = |name: &&String| {
        let mut without = fields.clone();
        without.remove(*name);
        decode(Value::from(without).to_string().as_bytes(), &Properties::default()).is_err()
    };
    fields.keys().filter(is_required).collect()
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
        ("legs", Transfer) => (
            legs(of),
            "Movements between several accounts, made in this order: all or none. Instead of one movement's fields.",
        ),
        ("legs", _) => (
            legs(of),
            "The movements that the money is held for, on all debit accounts or on none. Instead of one movement's \
             fields.",
        ),
        ("expires_in", _) => (
            json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
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
