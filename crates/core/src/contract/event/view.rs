//! A payment as events and the command line show it.

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::contract::{Currency, PaymentState, TaskType};

/// A payment, or a task that waits, with its amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentView<'a> {
    /// The id of its task.
    pub id: Uuid,
    /// The type of its task.
    pub task_type: TaskType,
    /// Its state.
    pub state: PaymentState,
    /// The number of states that it has had.
    pub version: i32,
    /// While money is held: when the hold runs out.
    pub expires_at: Option<Timestamp>,
    /// Whether the task has `legs`, and not the fields of one movement.
    pub listed: bool,
    /// The movements that the task asks for; none for a follow-up or a task about an account.
    pub legs: Vec<LegView<'a>>,
}

/// One movement of a payment; amounts are in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LegView<'a> {
    /// Name of the account that pays.
    pub debit_account: &'a str,
    /// Name of the account that is paid.
    pub credit_account: &'a str,
    /// The currency of both accounts.
    pub currency: Currency,
    /// The amount that the task asks for.
    pub amount: i64,
    /// The amount that is held.
    pub held: i64,
    /// The amount that was posted.
    pub captured: i64,
    /// The amount that was refunded.
    pub refunded: i64,
    /// The amount that was charged back and has not come again.
    pub charged_back: i64,
}

/// The sums of the legs.
#[derive(Serialize)]
struct Totals {
    currency: Currency,
    amount: i64,
    held: i64,
    captured: i64,
    refunded: i64,
    charged_back: i64,
}

impl PaymentView<'_> {
    /// Returns the currency of one leg, or of all; `None` if they have several.
    pub(super) fn currency(&self, leg: Option<u8>) -> Option<Currency> {
        let currency = self.legs.get(leg.map_or(0, usize::from))?.currency;
        (leg.is_some() || self.legs.iter().all(|leg| leg.currency == currency)).then_some(currency)
    }

    /// Returns `None` if the legs have several currencies.
    fn totals(&self) -> Option<Totals> {
        let currency = self.currency(None)?;
        let sum = |of: fn(&LegView<'_>) -> i64| self.legs.iter().map(of).sum();
        Some(Totals {
            currency,
            amount: sum(|leg| leg.amount),
            held: sum(|leg| leg.held),
            captured: sum(|leg| leg.captured),
            refunded: sum(|leg| leg.refunded),
            charged_back: sum(|leg| leg.charged_back),
        })
    }
}

impl Serialize for PaymentView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", self.task_type.name())?;
        map.serialize_entry("state", &self.state)?;
        map.serialize_entry("iso_status", self.state.iso_status())?;
        map.serialize_entry("version", &self.version)?;
        if let (false, [leg]) = (self.listed, self.legs.as_slice()) {
            map.serialize_entry("debit_account", leg.debit_account)?;
            map.serialize_entry("credit_account", leg.credit_account)?;
        }
        if let Some(totals) = self.totals() {
            map.serialize_entry("currency", &totals.currency)?;
            map.serialize_entry("amount", &totals.amount)?;
            map.serialize_entry("held", &totals.held)?;
            map.serialize_entry("captured", &totals.captured)?;
            map.serialize_entry("refunded", &totals.refunded)?;
            map.serialize_entry("charged_back", &totals.charged_back)?;
        }
        if let Some(expires_at) = self.expires_at {
            map.serialize_entry("expires_at", &expires_at)?;
        }
        if self.listed {
            map.serialize_entry("legs", &self.legs)?;
        }
        map.end()
    }
}
