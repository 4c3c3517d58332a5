//! The JSON Schemas of `schemas/`: what the contract says, for machines.
//!
//! The types here only describe; their bounds are the contract's own constants, and the tests
//! prove that a schema and the code agree. Nothing of this is in the binary.
#![allow(dead_code, reason = "types that only describe")]

mod tests;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::decode::{MAX_KEY_CHARS, MAX_KEYS, MAX_REFERENCE_CHARS, MAX_VALUE_CHARS};
use super::{MAX_AMOUNT, MAX_BALANCE, Rejection};

/// PostgreSQL stores no NUL.
const NO_NUL: &str = "^[^\\u0000]*$";

/// A payment task: the body of a message to the exchange `payments`, with the routing key
/// `task.<type>`.
///
/// A document that fits is never a dead letter for its form, nor rejected as
/// `amount_out_of_range`. Beyond what a schema can say: no field may be repeated, an integer is
/// written without fraction and exponent, and the body has at most 64 KiB.
#[derive(JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(title = "settled: task")]
enum Task {
    /// Opens an account with a balance of zero.
    OpenAccount {
        /// The idempotency key of the task, for ever.
        id: Id,
        /// The account to open.
        account: AccountName,
        /// The only currency that the account will hold.
        currency: Currency,
        /// The balance, in minor units, below which the account may not fall. `null` is no
        /// limit. 0 when left out.
        #[schemars(skip_serializing_if = "absent")]
        min_balance: MinBalance,
    },
    /// Moves money from one account to another.
    Transfer {
        /// The idempotency key of the task, for ever.
        id: Id,
        /// The account that pays.
        debit_account: AccountName,
        /// The account that is paid: another one.
        credit_account: AccountName,
        /// How much, in minor units of the currency.
        amount: Amount,
        /// The currency of both accounts.
        currency: Currency,
        /// The publisher's own reference.
        #[schemars(skip_serializing_if = "absent")]
        reference: Reference,
        /// The publisher's own keys and values.
        #[schemars(skip_serializing_if = "absent")]
        metadata: Metadata,
    },
}

/// What became of a task: the body of a reply and of an event in the format `single`, the
/// `data` of an event in the format `batch`.
///
/// Later versions may add fields.
#[derive(JsonSchema)]
#[schemars(title = "settled: event data")]
struct EventData {
    /// The task's id.
    id: Id,
    /// The task's type.
    r#type: TaskType,
    /// What became of it.
    state: State,
    /// Grows with every change of the payment.
    #[schemars(range(min = 1))]
    version: i32,
    /// Why it was rejected; only then.
    #[schemars(skip_serializing_if = "absent")]
    reason: Rejection,
    /// The same as an ISO 20022 external status reason code.
    #[schemars(skip_serializing_if = "absent")]
    reason_code: ReasonCode,
    /// `open_account`: the account.
    #[schemars(skip_serializing_if = "absent")]
    account: AccountName,
    /// `transfer`: the account that pays.
    #[schemars(skip_serializing_if = "absent")]
    debit_account: AccountName,
    /// `transfer`: the account that is paid.
    #[schemars(skip_serializing_if = "absent")]
    credit_account: AccountName,
    /// `transfer`: how much, in minor units, as the task said it: outside the bounds of an
    /// amount if it was rejected for that.
    #[schemars(skip_serializing_if = "absent")]
    amount: i64,
    /// As the task said it.
    currency: Currency,
    /// `open_account`: the limit, in minor units, as the task said it; `null` is none.
    #[schemars(skip_serializing_if = "absent")]
    min_balance: Option<i64>,
    /// As the task said it.
    #[schemars(skip_serializing_if = "absent")]
    reference: Reference,
    /// As the task said it, keys sorted.
    #[schemars(skip_serializing_if = "absent")]
    metadata: Metadata,
    /// The `app_id` of the task's message.
    #[schemars(skip_serializing_if = "absent")]
    publisher: String,
    /// When it was decided, by the database's clock.
    #[schemars(extend("format" = "date-time"))]
    settled_at: String,
    /// The balances right after: both accounts of a settled transfer (the one that paid comes
    /// first), the account of an `open_account` that settled, none of a rejected task.
    #[schemars(length(max = 2))]
    balances: Vec<Balance>,
}

/// An account's balance right after the payment.
#[derive(JsonSchema)]
struct Balance {
    /// Whose.
    account: AccountName,
    /// The sum of its entries, in minor units.
    #[schemars(range(min = -MAX_BALANCE, max = MAX_BALANCE))]
    posted: i64,
    /// What is reserved of it, in minor units.
    #[schemars(range(min = 0, max = MAX_BALANCE))]
    held: i64,
    /// The number of its entries: of two balances of an account, the one with the higher
    /// version is the later one.
    #[schemars(range(min = 0))]
    version: i64,
}

/// A UUID in its usual spelling. Version 7 is recommended.
#[derive(JsonSchema)]
struct Id(
    #[schemars(
        regex(pattern = "^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$"),
        extend("format" = "uuid")
    )]
    String,
);

/// The name of an account.
#[derive(JsonSchema)]
struct AccountName(#[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9:._-]{0,63}$"))] String);

/// An ISO 4217 code. One that ISO 4217 doesn't list is rejected as `unknown_currency`.
#[derive(JsonSchema)]
struct Currency(#[schemars(regex(pattern = "^[A-Z]{3}$"))] String);

/// An amount in minor units.
#[derive(JsonSchema)]
struct Amount(#[schemars(range(min = 1, max = MAX_AMOUNT))] i64);

/// The publisher's own reference.
#[derive(JsonSchema)]
struct Reference(#[schemars(length(min = 1, max = MAX_REFERENCE_CHARS), regex(pattern = NO_NUL))] String);

/// An object of strings.
struct Metadata;

impl JsonSchema for Metadata {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The publisher's own keys and values.",
            "type": "object",
            "maxProperties": MAX_KEYS,
            "propertyNames": { "minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": NO_NUL },
            "additionalProperties": { "type": "string", "maxLength": MAX_VALUE_CHARS, "pattern": NO_NUL },
        })
    }
}

struct MinBalance;

impl JsonSchema for MinBalance {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MinBalance".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "null"], "minimum": -MAX_BALANCE, "maximum": 0, "default": 0 })
    }
}

/// The types of tasks.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
enum TaskType {
    OpenAccount,
    Transfer,
}

/// What became of a task.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
enum State {
    Settled,
    Rejected,
}

struct ReasonCode;

impl JsonSchema for ReasonCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReasonCode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Rejection::ALL.map(Rejection::iso_code) })
    }
}

/// The schema of what is written as a `T`.
fn schema_of<T: JsonSchema>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(unwrap_lines).transform(&mut schema);
    schema
}

/// The lines of a doc comment end where the source's do: only its paragraphs mean something.
fn unwrap_lines(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}
