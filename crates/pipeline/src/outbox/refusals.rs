//! Remembers which targets the broker refuses, and withholds their messages for a while.
//!
//! The broker refuses by closing the channel, either because of one message, which is too large, or because of its
//! target: the exchange does not exist, or the user may not write to it. Of a refused target, one message at a time is
//! tried again.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::publication::Publication;
use super::routing::{Messages, NotTaken};
use super::sink::Refusal;

/// The target of all replies, which go to the default exchange. It is also the key under which they are held.
pub(super) const REPLIES: &str = "reply";

/// The targets that the broker refuses: routing keys, and [`REPLIES`].
#[derive(Debug)]
pub(super) struct Refusals {
    retry: Duration,
    targets: Mutex<HashMap<String, Refused>>,
}

#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    /// When the next message may be tried.
    until: Instant,
}

impl Refusals {
    /// Begins without refused targets. Each will be tried again every `retry`.
    pub(super) fn new(retry: Duration) -> Self {
        Self { retry, targets: Mutex::default() }
    }

    /// Records that the broker refused a message that was published alone. Returns whether that is news: false if its
    /// target was refused before.
    pub(super) fn record(&self, message: &Publication<'_>, refusal: &Refusal) -> bool {
        if refusal.is_about_the_message() {
            return true;
        }
        let refused = Refused { refusal: refusal.clone(), until: Instant::now() + self.retry };
        self.targets.lock().insert(target(message).to_owned(), refused).is_none()
    }

    /// Records that the broker accepted messages: their targets are no longer refused.
    pub(super) fn clear(&self, accepted: &[&Publication<'_>]) {
        let mut targets = self.targets.lock();
        if !targets.is_empty() {
            accepted.iter().for_each(|message| drop(targets.remove(target(message))));
        }
    }

    /// Removes from `messages` those whose target is refused, and adds the reasons to `not_taken`. Returns, of each
    /// target that may be tried again, one of them, to be published alone.
    pub(super) fn withhold<'m, 'a>(
        &self,
        messages: &mut Messages<'m, 'a>,
        not_taken: &mut NotTaken,
    ) -> Messages<'m, 'a> {
        let mut targets = self.targets.lock();
        let mut probes = Vec::new();
        if targets.is_empty() {
            return probes;
        }
        messages.retain(|message| {
            let Some(refused) = targets.get_mut(target(message)) else { return true };
            if refused.until <= Instant::now() {
                refused.until = Instant::now() + self.retry;
                probes.push(*message);
            } else {
                not_taken.refusals.insert(message.id_on_the_wire().into_owned(), refused.refusal.clone());
            }
            false
        });
        probes
    }
}

fn target<'m>(message: &'m Publication<'_>) -> &'m str {
    if message.reply_to.is_some() { REPLIES } else { &message.routing_key }
}
