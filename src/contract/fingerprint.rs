//! What tells a repetition of a task from another task with the same id.

use aws_lc_rs::digest;
use smallvec::SmallVec;

use super::TaskBody;

/// The first 128 bits of the SHA-256 of a task's canonical fields: of what is asked for, not
/// of the bytes that ask. Field order, white space, escapes and a spelled-out default don't
/// change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of what `body` asks for.
    pub fn of(body: &TaskBody) -> Self {
        let mut fields = Fields(SmallVec::new());
        fields.text(body.task_type().name());
        match body {
            TaskBody::OpenAccount(open) => {
                fields.text(open.account.as_str());
                fields.text(open.currency.as_str());
                fields.optional(open.min_balance.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
            }
            TaskBody::Transfer(transfer) => {
                fields.text(transfer.debit_account.as_str());
                fields.text(transfer.credit_account.as_str());
                fields.bytes(&transfer.amount.to_be_bytes());
                fields.text(transfer.currency.as_str());
                fields.optional(transfer.reference.as_ref().map(|text| text.as_bytes()));
                fields.optional(transfer.metadata.as_ref().map(|text| text.as_bytes()));
            }
        }
        let hash = digest::digest(&digest::SHA256, &fields.0);
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_ref()[..16]);
        Self(short)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A fingerprint read back from the database; `None` unless it has 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Fields with their lengths, so that no two different lists of fields are the same bytes.
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
}
