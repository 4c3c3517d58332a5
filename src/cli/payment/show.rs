//! One task with everything the ledger knows about it, as JSON and for people.

use jiff::Timestamp;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use settled_core::contract::{Currencies, Currency, Properties};
use settled_store::queries::payment::{
    Life, Moved, Parent, Step, StoredEntry, StoredTask, Waits, WholeLeg, WholePayment,
};
use uuid::Uuid;

use super::super::human::{amount, or_dash, time};
use super::super::output::{Table, Text};
use super::timeline::{self, state};

/// Serializes a payment: its event's `data`, and fields that only the ledger knows.
pub(in crate::cli) struct Shown<'a>(pub(in crate::cli) &'a StoredTask);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Payment<'a, D> {
            #[serde(flatten)]
            data: D,
            iso_status: &'static str,
            received_at: Timestamp,
            entries: &'a [StoredEntry],
        }
        let stored = self.0;
        stored.with_event(Properties::default(), "", |event| {
            let iso_status = stored.state.iso_status();
            let Self(StoredTask { received_at, entries, .. }) = self;
            Payment { data: event.data(), iso_status, received_at: *received_at, entries }.serialize(serializer)
        })
    }
}

/// Serializes a payment with its steps and related tasks.
pub(super) struct Whole<'a>(pub(super) &'a Life);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(flatten)]
            payment: Shown<'a>,
            steps: &'a [Step],
            follow_ups: Vec<Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent: Option<&'a Parent>,
            #[serde(skip_serializing_if = "Option::is_none")]
            waits: Option<&'a Waits>,
            awaited_by: &'a [Uuid],
        }
        let Life { task, steps, follow_ups, parent, waits, awaited_by } = self.0;
        Document {
            payment: Shown(task),
            steps,
            follow_ups: follow_ups.iter().map(without_payment).collect::<Result<_, _>>().map_err(S::Error::custom)?,
            parent: parent.as_ref(),
            waits: waits.as_ref(),
            awaited_by,
        }
        .serialize(serializer)
    }
}

/// Serializes a follow-up without its payment, which the document contains already.
fn without_payment(follow_up: &StoredTask) -> serde_json::Result<Value> {
    let mut document = serde_json::to_value(Shown(follow_up))?;
    document.as_object_mut().map(|fields| fields.remove("payment"));
    Ok(document)
}

/// The fields of a task that are shown, in this order.
const FIELDS: [&str; 15] = [
    "account",
    "debit_account",
    "credit_account",
    "amount",
    "currency",
    "leg",
    "final",
    "expires_in",
    "min_balance",
    "max_balance",
    "execute_at",
    "after",
    "reference",
    "metadata",
    "payment_id",
];

/// Returns the task's fields, the state of each leg, and the timeline.
pub(super) fn human(life: &Life, currencies: &Currencies) -> Text {
    let Life { task: stored, parent, awaited_by, .. } = life;
    let mut lines = vec![
        ("payment", stored.task.id.to_string()),
        ("type", stored.task.body.task_type().name().to_owned()),
        ("state", format!("{}, {} in ISO 20022", state(stored), stored.state.iso_status())),
        ("version", stored.version.to_string()),
    ];
    let asked: Value = serde_json::from_str(&stored.task.to_json()).unwrap_or_default();
    let currency = asked.get("currency").and_then(Value::as_str).and_then(Currency::parse).or_else(|| currency(life));
    let fields = FIELDS.into_iter().filter_map(|name| Some((name, asked.get(name)?)));
    lines.extend(fields.map(|(name, value)| (name, field(name, value, currency, currencies))));
    if stored.task.body.payment_id().is_some() {
        lines.push(("", parent.as_ref().map_or_else(|| "which is not there yet".to_owned(), in_short)));
    }
    lines.extend([
        ("publisher", or_dash(stored.publisher.as_ref())),
        ("received_at", time(stored.received_at)),
        ("settled_at", time(stored.settled_at)),
    ]);
    lines.extend(awaited_by.iter().map(|id| ("awaited by", id.to_string())));
    let mut text = Text::default();
    text.pairs(lines);
    if let Some(legs) = asked.get("legs").and_then(Value::as_array)
        && stored.payment.as_ref().is_none_or(|payment| payment.legs.is_empty())
    {
        text.line("");
        text.table(&requested_legs(legs, currencies));
    }
    if let Some(payment) = &stored.payment
        && parent.is_none()
        && !payment.legs.is_empty()
    {
        text.line("");
        text.table(&legs(payment, currencies));
    }
    text.line("");
    text.append(timeline::draw(life, currencies));
    text
}

/// Returns the currency of the payment's legs if all have the same.
fn currency(life: &Life) -> Option<Currency> {
    let legs = &life.task.payment.as_ref()?.legs;
    let first = legs.first()?.currency;
    legs.iter().all(|leg| leg.currency == first).then_some(first)
}

/// Formats a field of the task.
fn field(name: &str, value: &Value, currency: Option<Currency>, currencies: &Currencies) -> String {
    match (value, currency) {
        (Value::Null, _) => "none".to_owned(),
        (Value::String(text), _) => text.clone(),
        (Value::Number(number), currency) if ["amount", "min_balance", "max_balance"].contains(&name) => {
            match (number.as_i64(), currency) {
                (Some(minor), Some(currency)) => format!("{} {currency}", currencies.format(currency, minor)),
                _ => format!("{number} minor units"),
            }
        }
        (other, _) => other.to_string(),
    }
}

fn in_short(parent: &Parent) -> String {
    let Parent { payment, moved } = parent;
    let now = format!("{}, now {}", payment.task_type, payment.state);
    match moved {
        Some(Moved { version, from, to }) => {
            format!("{now}; this took it from {} to {}, version {version}", from.name(), to.name())
        }
        None => now,
    }
}

/// Returns the legs of a task that has not been applied.
fn requested_legs(legs: &[Value], currencies: &Currencies) -> Table {
    let text = |leg: &Value, name: &str| leg.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |(number, leg): (usize, &Value)| {
        let currency = text(leg, "currency");
        let minor = leg.get("amount").and_then(Value::as_i64).unwrap_or_default();
        let money = amount(currencies, Some(&currency), minor);
        [number.to_string(), text(leg, "debit_account"), text(leg, "credit_account"), money, currency]
    };
    Table::of([">LEG", "FROM", "TO", ">AMOUNT", ""], legs.iter().enumerate().map(row))
}

/// Returns the legs of a payment with their current amounts.
fn legs(payment: &WholePayment, currencies: &Currencies) -> Table {
    let headings = [">LEG", "FROM", "TO", ">AMOUNT", ">HELD", ">CAPTURED", ">REFUNDED", ">CHARGED BACK", ""];
    let row = |(number, leg): (usize, &WholeLeg)| {
        let WholeLeg { debit_account, credit_account, currency, amount, captured, refunded, charged_back } = leg;
        let held = if payment.state.is_held() { amount - captured } else { 0 };
        let [amount, held, captured, refunded, charged_back] =
            [*amount, held, *captured, *refunded, *charged_back].map(|minor| currencies.format(*currency, minor));
        let (from, to) = (debit_account.to_string(), credit_account.to_string());
        [number.to_string(), from, to, amount, held, captured, refunded, charged_back, currency.to_string()]
    };
    Table::of(headings, payment.legs.iter().enumerate().map(row))
}

#[cfg(test)]
mod tests;
