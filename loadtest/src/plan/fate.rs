//! What the load makes of every task in the end: a ledger of a few lines, without the daemon's code.

use settled_core::contract::PaymentState;
use settled_pipeline::labels::Outcome;

use super::{Act, Ask, Message, Plan};

/// Where a task stands when all is done, and how much of it; amounts are in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) state: PaymentState,
    /// What was asked for; of a follow-up what it moves.
    pub(crate) amount: i64,
    captured: i64,
    refunded: i64,
    charged_back: i64,
    is_hold: bool,
    is_over: bool,
}

impl Plan {
    /// The fate of every number of the plan's ids.
    pub(crate) fn fates(&self) -> Vec<Option<Fate>> {
        let mut fates = vec![None; self.ids];
        let decided = || self.opening.iter().chain(&self.load).filter(|message| message.is_decided());
        for message in decided() {
            fates[message.id] = Some(Fate::of(message));
        }
        for message in decided() {
            let Ask::FollowUp { parent, act, amount, .. } = message.ask else { continue };
            if let Some(parent) = fates.get_mut(parent).and_then(Option::as_mut) {
                parent.meet(act, amount);
            }
        }
        fates.iter_mut().flatten().for_each(Fate::settle);
        fates
    }
}

impl Fate {
    /// What was posted, what has gone back, and what was taken back from outside.
    pub(crate) fn progress(&self) -> [i64; 3] {
        [self.captured, self.refunded, self.charged_back]
    }

    fn of(message: &Message) -> Self {
        let state = match message.outcome {
            Outcome::Rejected(_) => PaymentState::Rejected,
            _ => PaymentState::Settled,
        };
        let is_hold = matches!(message.ask, Ask::Authorize { .. });
        let amount = message.ask.amount();
        let is_posted =
            state == PaymentState::Settled && matches!(message.ask, Ask::Transfer { .. } | Ask::Split { .. });
        let captured = if is_posted { amount } else { 0 };
        Self { state, amount, captured, refunded: 0, charged_back: 0, is_hold, is_over: false }
    }

    /// What acts on it may come in any order: only sums count.
    fn meet(&mut self, act: Act, amount: i64) {
        match act {
            Act::Capture { is_final } => {
                self.captured += amount;
                self.is_over |= is_final || self.captured == self.amount;
            }
            Act::Void => self.is_over = true,
            Act::Refund => self.refunded += amount,
            Act::Chargeback => self.charged_back += amount,
            Act::ChargebackReversal => self.charged_back -= amount,
            Act::Cancel => (self.state, self.captured) = (PaymentState::Canceled, 0),
        }
    }

    fn settle(&mut self) {
        if self.state != PaymentState::Settled {
            return;
        }
        self.state = match (self.captured, self.is_hold && !self.is_over) {
            (0, true) => PaymentState::Authorized,
            (0, false) if self.is_hold => PaymentState::Voided,
            (_, true) => PaymentState::PartiallyCaptured,
            _ if self.charged_back > 0 => PaymentState::ChargedBack,
            (captured, _) if captured > 0 && self.refunded == captured => PaymentState::Refunded,
            _ if self.refunded > 0 => PaymentState::PartiallyRefunded,
            _ => PaymentState::Settled,
        };
    }
}
