//! What can be wrong with a message, and the field its dead letter then has to name.

use clap::ValueEnum;
use settled_core::contract::{DeadReason, MAX_BODY_BYTES};

use super::body::Body;

/// A way in which a message is no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broken {
    NotJson,
    CutOff,
    Array,
    AmountMissing,
    AmountRepeated,
    AmountFloat,
    /// A field with a typing error in its name.
    UnknownField,
    CurrencyLowercase,
    /// An escaped NUL, which PostgreSQL could not store.
    Nul,
    NotUtf8,
    /// A `message_id` that is not the body's id.
    OtherMessageId,
    OtherContentType,
    /// One byte more than a body may have.
    Oversize,
}

impl Broken {
    pub(crate) const fn reason(self) -> DeadReason {
        if matches!(self, Self::Oversize) { DeadReason::Oversize } else { DeadReason::Malformed }
    }

    /// The field that the dead letter names, if one is at fault.
    pub(crate) const fn field(self) -> Option<&'static str> {
        match self {
            Self::NotJson | Self::CutOff | Self::Array | Self::Oversize => None,
            Self::AmountMissing | Self::AmountRepeated | Self::AmountFloat => Some("amount"),
            Self::UnknownField => Some("amuont"),
            Self::CurrencyLowercase => Some("currency"),
            Self::Nul | Self::NotUtf8 => Some("reference"),
            Self::OtherMessageId => Some("message_id"),
            Self::OtherContentType => Some("content_type"),
        }
    }

    /// Breaks the bytes of a good transfer. Its properties are the publisher's to break.
    pub(super) fn apply(self, good: Vec<u8>, body: &Body<'_>) -> Vec<u8> {
        let amount = format!("\"amount\":{}", body.amount.unwrap_or_default());
        match self {
            Self::NotJson => format!("please settle {}", body.id).into_bytes(),
            Self::CutOff => good[..good.len() - 1].to_vec(),
            Self::Array => format!(r#"["{}","transfer",1]"#, body.id).into_bytes(),
            Self::AmountMissing => replace(&good, &format!("{amount},"), b""),
            Self::AmountRepeated => replace(&good, &amount, format!("{amount},{amount}").as_bytes()),
            Self::AmountFloat => replace(&good, &amount, br#""amount":12.50"#),
            Self::UnknownField => replace(&good, "\"amount\"", br#""amuont""#),
            Self::CurrencyLowercase => replace(&good, "\"USD\"", br#""usd""#),
            Self::Nul => replace(&good, "order-", br"order\u0000"),
            Self::NotUtf8 => replace(&good, "order-", b"order\xff"),
            Self::OtherMessageId | Self::OtherContentType => good,
            Self::Oversize => {
                let mut bytes = good;
                bytes.resize(MAX_BODY_BYTES + 1, b' ');
                bytes
            }
        }
    }
}

/// `bytes` with the first `from` replaced; a body without it is returned as it is.
fn replace(bytes: &[u8], from: &str, to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from.as_bytes()) {
        Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
