//! What the broker refuses by closing the channel, and what is therefore not sent to it for a while.
//!
//! A refusal is about one message (it is too large) or about everything with its target: the exchange
//! is gone, or the user may not write to it. Of the second kind one message is tried again at a time.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::publication::Publication;
use super::routing::{Messages, NotTaken};
use crate::telemetry::labels::RefusalReason;

/// Whose target are all replies: they go to the default exchange, whatever their queue.
pub(super) const REPLIES: &str = "reply";

/// The reply code and text of a `channel.close`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// AMQP's reply code, such as 403; 0 if it isn't known.
    pub code: u16,
    /// The broker's words, such as `ACCESS_REFUSED - write access to exchange …`.
    pub text: String,
}

impl Refusal {
    const CONTENT_TOO_LARGE: u16 = 311;
    const ACCESS_REFUSED: u16 = 403;
    const NOT_FOUND: u16 = 404;
    const PRECONDITION_FAILED: u16 = 406;

    /// Whether the exchange is gone.
    pub fn is_not_found(&self) -> bool {
        self.code == Self::NOT_FOUND
    }

    /// Whether it is about this message, and not about all messages with the same target.
    pub fn is_about_the_message(&self) -> bool {
        matches!(self.code, Self::CONTENT_TOO_LARGE | Self::PRECONDITION_FAILED)
    }

    /// As it is counted.
    pub const fn reason(&self) -> RefusalReason {
        match self.code {
            Self::ACCESS_REFUSED => RefusalReason::AccessRefused,
            Self::NOT_FOUND => RefusalReason::NotFound,
            Self::CONTENT_TOO_LARGE | Self::PRECONDITION_FAILED => RefusalReason::PreconditionFailed,
            _ => RefusalReason::Other,
        }
    }
}

/// The targets that are refused, each with the reason.
#[derive(Debug)]
pub(super) struct Refusals {
    retry: Duration,
    targets: Mutex<HashMap<String, Refused>>,
}

#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    /// When the next message is tried.
    until: Instant,
}

impl Refusals {
    /// Nothing is refused; a target that is will be tried again every `retry`.
    pub(super) fn new(retry: Duration) -> Self {
        Self { retry, targets: Mutex::default() }
    }

    /// Notes that a message was refused when it was alone. Returns whether its target was not
    /// refused before.
    pub(super) fn learn(&self, message: &Publication<'_>, refusal: &Refusal) -> bool {
        if refusal.is_about_the_message() {
            return true;
        }
        let refused = Refused { refusal: refusal.clone(), until: Instant::now() + self.retry };
        self.targets.lock().insert(target(message).to_owned(), refused).is_none()
    }

    /// Notes that messages were taken.
    pub(super) fn forget(&self, taken: &[&Publication<'_>]) {
        let mut targets = self.targets.lock();
        if !targets.is_empty() {
            taken.iter().for_each(|message| drop(targets.remove(target(message))));
        }
    }

    /// Takes out of `messages` those whose target is refused: `not_taken` gets to know why. One of
    /// each target whose time has come is returned, to be tried alone.
    pub(super) fn sort_out<'m, 'a>(
        &self,
        messages: &mut Messages<'m, 'a>,
        not_taken: &mut NotTaken,
    ) -> Messages<'m, 'a> {
        let mut targets = self.targets.lock();
        let mut tried = Vec::new();
        if targets.is_empty() {
            return tried;
        }
        messages.retain(|message| {
            let Some(refused) = targets.get_mut(target(message)) else { return true };
            if refused.until <= Instant::now() {
                refused.until = Instant::now() + self.retry;
                tried.push(*message);
            } else {
                not_taken.refusals.insert(message.id_on_the_wire().into_owned(), refused.refusal.clone());
            }
            false
        });
        tried
    }
}

fn target<'m>(message: &'m Publication<'_>) -> &'m str {
    if message.reply_to.is_some() { REPLIES } else { &message.routing_key }
}
