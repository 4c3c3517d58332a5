//! Which payment an event is about, for logs that keep what is of one payment together.

use std::borrow::Cow;

use serde::Deserialize;
use settled_core::contract::EventKind;

use super::publication::Publication;

/// The one field that is looked for in an event's data.
#[derive(Deserialize)]
struct ActsOn {
    payment_id: Option<String>,
}

impl Publication<'_> {
    /// Returns the id of the payment that a single event is about: the one that its task acts on, or else the task's own.
    pub fn payment_id(&self) -> Cow<'_, str> {
        let kind = EventKind::from_name(&self.routing_key);
        let acts_on =
            if kind.is_none_or(may_act_on_a_payment) { serde_json::from_slice(&self.body).ok() } else { None };
        match acts_on {
            Some(ActsOn { payment_id: Some(id) }) => id.into(),
            _ => self.correlation_id.as_deref().unwrap_or(&self.message_id).into(),
        }
    }
}

/// Whether an event of this kind may be of a task that acts on another one. Most are not, and their data is not read.
const fn may_act_on_a_payment(kind: EventKind) -> bool {
    match kind {
        EventKind::PaymentCaptured
        | EventKind::PaymentVoided
        | EventKind::PaymentRefunded
        | EventKind::PaymentChargedBack
        | EventKind::PaymentChargebackReversed
        | EventKind::PaymentCanceled
        | EventKind::PaymentScheduled
        | EventKind::PaymentParked
        | EventKind::PaymentRejected => true,
        EventKind::AccountOpened
        | EventKind::AccountClosed
        | EventKind::AccountFrozen
        | EventKind::AccountUnfrozen
        | EventKind::AccountLimitsSet
        | EventKind::AccountScheduled
        | EventKind::AccountParked
        | EventKind::AccountRejected
        | EventKind::PaymentSettled
        | EventKind::PaymentAuthorized
        | EventKind::PaymentExpired
        | EventKind::TaskDeadLettered => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::outbox::publication::{Encoding, publications};
    use crate::outbox::settings::{EventFormat, HeaderPrefix};

    /// Returns the payment of an event of this type and data, whose task is `t`.
    fn payment(kind: &str, data: &str) -> String {
        let encoding = Encoding {
            format: EventFormat::Single,
            header_prefix: HeaderPrefix::Colon,
            batch_events: 1,
            batch_bytes: 1,
        };
        let line = format!(r#"{{"id":"t/1","source":"s","type":"{kind}","subject":"t","time":"t","data":{data}}}"#);
        publications(1, line.as_bytes(), encoding).expect("an event")[0].payment_id().into_owned()
    }

    #[test]
    fn an_event_is_about_the_payment_that_its_task_acts_on_or_is() {
        let acts = r#"{"id":"t","type":"capture","payment_id":"p","metadata":{"payment_id":"m"}}"#;
        for kind in ["captured", "voided", "refunded", "charged_back", "chargeback_reversed", "canceled", "rejected"] {
            assert_eq!(payment(&format!("payment.{kind}"), acts), "p", "{kind}");
        }
        // A word of a later version.
        assert_eq!(payment("payment.divided", acts), "p");
        let is = r#"{"id":"t","type":"transfer","metadata":{"payment_id":"m"}}"#;
        for kind in ["payment.settled", "payment.authorized", "payment.rejected", "payment.parked", "account.opened"] {
            assert_eq!(payment(kind, is), "t", "{kind}");
        }
        assert_eq!(payment("task.dead_lettered", r#"{"id":"t","state":"dead_lettered"}"#), "t");
    }
}
