//! Fingerprints: they tell a repeated task from another task with the same id.

use aws_lc_rs::digest;
use smallvec::SmallVec;

use super::{AccountChange, Action, Leg, TaskBody, Terms, When};

/// The first 128 bits of the SHA-256 of a task's canonical fields. Order of fields, white space, escapes and a default
/// that is written out don't change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Returns the fingerprint of a task.
    ///
    /// Stored fingerprints are compared for ever: fields that have always existed keep their bytes, and a field that is
    /// new is appended only if the task has it.
    pub fn of(body: &TaskBody, when: When) -> Self {
        let mut fields = Fields(SmallVec::new());
        fields.text(body.task_type().name());
        match body {
            TaskBody::OpenAccount(open) => {
                fields.text(open.account.as_str());
                fields.text(open.currency.as_str());
                fields.optional_amount(open.min_balance);
            }
            TaskBody::Transfer(transfer) => {
                fields.text(transfer.debit_account.as_str());
                fields.text(transfer.credit_account.as_str());
                fields.bytes(&transfer.amount.to_be_bytes());
                fields.text(transfer.currency.as_str());
            }
            TaskBody::Split(split) => fields.legs(&split.legs),
            TaskBody::Authorize(authorize) => {
                match &authorize.terms {
                    Terms::One(leg) => fields.leg(leg),
                    Terms::Legs(legs) => fields.legs(legs),
                }
                fields.optional(authorize.expires_in.map(u32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice));
            }
            TaskBody::FollowUp(follow_up) => {
                fields.bytes(follow_up.payment_id.as_bytes());
                fields.optional_amount(follow_up.action.amount());
                fields.optional(follow_up.action.leg().map(|leg| [leg]).as_ref().map(<[u8; 1]>::as_slice));
                fields.0.push(u8::from(matches!(follow_up.action, Action::Capture { is_final: true, .. })));
            }
            TaskBody::ChangeAccount(change) => {
                fields.text(change.account.as_str());
                if let AccountChange::SetLimits(limits) = change.change {
                    for limit in [limits.min_balance, limits.max_balance] {
                        fields.0.push(u8::from(limit.is_some()));
                        fields.optional_amount(limit.flatten());
                    }
                }
            }
        }
        if !body.task_type().is_about_an_account() {
            fields.optional(body.reference().map(str::as_bytes));
            fields.optional(body.metadata().map(str::as_bytes));
        }
        if let Some(at) = when.execute_at {
            fields.text("execute_at");
            fields.bytes(&at.as_nanosecond().to_be_bytes());
        }
        if let Some(after) = when.after {
            fields.text("after");
            fields.bytes(after.as_bytes());
        }
        Self::of_bytes(&fields.0)
    }

    /// The fingerprint of canonical fields.
    fn of_bytes(bytes: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_ref()[..16]);
        Self(short)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads a fingerprint from the database. Returns `None` unless it has 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Fields, each after its length, so that different lists of fields have different bytes.
struct Fields(SmallVec<[u8; 512]>);

impl Fields {
    fn bytes(&mut self, field: &[u8]) {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
    }

    fn text(&mut self, field: &str) {
        self.bytes(field.as_bytes());
    }

    fn optional(&mut self, field: Option<&[u8]>) {
        self.0.push(u8::from(field.is_some()));
        self.bytes(field.unwrap_or_default());
    }

    fn optional_amount(&mut self, amount: Option<i64>) {
        self.optional(amount.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }

    fn leg(&mut self, leg: &Leg) {
        self.text(leg.debit_account.as_str());
        self.text(leg.credit_account.as_str());
        self.bytes(&leg.amount.to_be_bytes());
        self.text(leg.currency.as_str());
    }

    /// Begins with more bytes than a name can have, so that a list is never taken for the fields of one movement.
    fn legs(&mut self, legs: &[Leg]) {
        self.bytes(&[(legs.len() as u64).to_be_bytes().as_slice(), &[0; 64]].concat());
        for leg in legs {
            self.leg(leg);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::contract::{Properties, decode};

    /// What ledgers have stored since the first version: a task that is published again must be
    /// known again.
    #[test]
    fn the_fingerprints_of_tasks_that_have_always_been_there_stay() {
        let known = [
            (
                r#""type":"transfer","debit_account":"customer:alice","credit_account":"merchant:42","amount":1250,"currency":"USD""#,
                "999e2bb687663210ab32f1153423712a",
            ),
            (
                r#""type":"transfer","debit_account":"a","credit_account":"b","amount":-1,"currency":"JPY","reference":"order-123","metadata":{"z":"1","channel":"web"}"#,
                "853ea1f375dee061efb1e2f5deb3dffa",
            ),
            (
                r#""type":"transfer","debit_account":"a","credit_account":"b","amount":1,"currency":"USD","metadata":{}"#,
                "63702eb132367212205793be6f3a9c7d",
            ),
            (
                r#""type":"open_account","account":"customer:alice","currency":"USD""#,
                "848dca429e0cf80f33d35182560a2e90",
            ),
            (
                r#""type":"open_account","account":"world","currency":"USD","min_balance":"none""#,
                "150d3fc29fdd10e8a7f2294480a5cfa4",
            ),
            (
                r#""type":"open_account","account":"a","currency":"EUR","min_balance":-500"#,
                "32b0b685946a1348aeb5feae40d53ce1",
            ),
        ];
        for (fields, fingerprint) in known {
            let body = format!(r#"{{"id":"01920000-0000-7000-8000-000000000001",{fields}}}"#);
            let task = decode(body.as_bytes(), &Properties::default()).expect("a task");
            assert_eq!(Uuid::from_bytes(*task.fingerprint.as_bytes()).simple().to_string(), fingerprint, "{fields}");
        }
    }
}
