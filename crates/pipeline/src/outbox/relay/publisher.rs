//! Publishes the messages of event batches, finds those that the broker refuses, and decides which are held.
//!
//! The broker closes a channel at the first message that it refuses, without saying which one it was. The unconfirmed
//! messages are then published again in halves. Of `n` messages each is published at most `log2(n) + 1` times until the
//! refused ones are found, however many they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use settled_core::contract::EventKind;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::labels::UnroutableAction;
use crate::metrics::{Metrics, observe};
use crate::outbox::publication::{Encoding, Publication, halves, publications};
use crate::outbox::refusals::{REPLIES, Refusals};
use crate::outbox::routing::{Messages, NotTaken, UnboundKeys};
use crate::outbox::settings::{EventSettings, Unroutable};
use crate::outbox::sink::{Channel, Refusal, RelayError, Session};
use crate::store::{EventBatch, Unrouted};
use crate::traces::{EventRecord, Traces};

/// The most messages that are passed to lapin at once. It completes a publish when its frames are written, so one
/// wake-up of its thread writes them all.
const WRITTEN_TOGETHER: usize = 256;

/// The most bytes that are passed to lapin at once, which copies them. A single message may be longer.
const BYTES_WRITTEN_TOGETHER: usize = 1 << 20;

/// The messages of an event batch, or the event batch as a whole if it cannot be read.
type Row<'p> = Result<Vec<Publication<'p>>, Unrouted>;

/// A session, and the one of its channels that is published on.
type Via<'w, S> = (&'w S, &'w <S as Session>::Channel);

/// Publishes on any channel, and remembers over all sessions what the broker does not take.
pub(super) struct Publisher {
    settings: EventSettings,
    unbound: UnboundKeys,
    refusals: Refusals,
    /// The longest batch in bytes: less than `events.batch_bytes` once the broker has refused one that was too large.
    batch_bytes: AtomicUsize,
    metrics: Arc<Metrics>,
    pub(super) traces: Traces,
}

impl Publisher {
    pub(super) fn new(settings: EventSettings, metrics: Arc<Metrics>) -> Self {
        Self {
            unbound: UnboundKeys::default(),
            refusals: Refusals::new(settings.retry_held),
            batch_bytes: AtomicUsize::new(settings.batch_bytes),
            settings,
            metrics,
            traces: Traces::default(),
        }
    }

    /// Publishes event batches and waits for all confirms. Returns for each event batch the events to hold.
    pub(super) async fn publish<S: Session>(
        &self,
        via: Via<'_, S>,
        event_batches: &[&EventBatch],
    ) -> Result<Vec<Vec<Unrouted>>, RelayError> {
        let rows: Vec<Row<'_>> = event_batches.iter().map(|event_batch| self.read(event_batch)).collect();
        let of = |was_refused| {
            event_batches.iter().zip(&rows).filter(move |(batch, _)| batch.held_reason.is_some() == was_refused)
        };
        let messages: Messages<'_, '_> = of(false).flat_map(|(_, row)| row).flatten().collect();
        let mut not_taken = match self.settings.unroutable {
            Unroutable::Hold => self.publish_unrefused(via, messages).await?,
            Unroutable::Discard => self.publish_bound(via, messages).await?,
        };
        // What was refused before is published alone, so that no other event is repeated because of it.
        for (_, row) in of(true) {
            self.publish_bisecting(via, row.iter().flatten().collect(), &mut not_taken).await?;
        }
        let held = rows.iter().map(|row| match row {
            Ok(messages) => self.count_and_hold(messages, &not_taken),
            Err(unreadable) => vec![unreadable.clone()],
        });
        Ok(held.collect())
    }

    /// Returns the messages of an event batch, with spans. One that cannot be read is held as it is.
    fn read<'p>(&self, event_batch: &'p EventBatch) -> Row<'p> {
        let encoding = Encoding { batch_bytes: self.batch_bytes.load(Ordering::Relaxed), ..self.settings.encoding() };
        let mut row = publications(event_batch.id, &event_batch.body, encoding).map_err(|error| {
            error!(row = event_batch.id, %error, "an outbox row can't be read: held for a person to look at");
            let (lines, events) = (event_batch.body.clone(), event_batch.events.cast_signed().max(1));
            Unrouted { key: "unreadable".into(), reason: None, lines, events }
        })?;
        if self.traces.are_on() {
            row.iter_mut().for_each(Publication::begin_span);
        }
        Ok(row)
    }

    /// Publishes messages as [`Self::publish_unrefused`] does, but of each routing key without a queue only one, unless
    /// a queue takes that one. The others count as returned.
    async fn publish_bound<S: Session>(
        &self,
        via: Via<'_, S>,
        messages: Messages<'_, '_>,
    ) -> Result<NotTaken, RelayError> {
        let (published, withheld) = self.unbound.split(messages);
        let mut not_taken = self.publish_unrefused(via, published.clone()).await?;
        let (bound, discarded) = self.unbound.update(&published, withheld, &not_taken);
        not_taken.extend(self.publish_unrefused(via, bound).await?);
        not_taken.returned.extend(discarded.iter().map(|message| message.id_on_the_wire().into_owned()));
        Ok(not_taken)
    }

    /// Publishes messages whose target is not refused, and waits for all confirms. Returns the messages that were not
    /// taken.
    async fn publish_unrefused<S: Session>(
        &self,
        via: Via<'_, S>,
        mut messages: Messages<'_, '_>,
    ) -> Result<NotTaken, RelayError> {
        let mut not_taken = NotTaken::default();
        for probe in self.refusals.withhold(&mut messages, &mut not_taken) {
            self.publish_bisecting(via, vec![probe], &mut not_taken).await?;
        }
        self.publish_bisecting(via, messages, &mut not_taken).await?;
        Ok(not_taken)
    }

    /// Publishes messages, and those that a closed channel left unconfirmed in halves, until each is either confirmed
    /// or known to be refused.
    async fn publish_bisecting<S: Session>(
        &self,
        via: Via<'_, S>,
        messages: Messages<'_, '_>,
        not_taken: &mut NotTaken,
    ) -> Result<(), RelayError> {
        let mut groups = vec![messages];
        let mut declared_again = false;
        while let Some(group) = groups.pop() {
            let (refusal, mut rest) = match self.publish_group(via.1, &group, not_taken).await? {
                None => {
                    self.refusals.clear(&group);
                    continue;
                }
                Some(refused) => refused,
            };
            via.0.reopen(via.1, &refusal).await?;
            if refusal.is_not_found() && !std::mem::replace(&mut declared_again, true) {
                groups.push(rest);
                continue;
            }
            match rest[..] {
                [message] if refusal.is_about_the_message() && message.events > 1 => {
                    self.publish_halves(via, message, not_taken).await?;
                }
                [message] => {
                    self.record_refusal(message, &refusal, not_taken);
                    let mut probes = Messages::new();
                    for group in &mut groups {
                        probes.extend(self.refusals.withhold(group, not_taken));
                    }
                    groups.extend(probes.into_iter().map(|message| vec![message]));
                }
                _ => {
                    let second = rest.split_off(rest.len() / 2);
                    groups.extend([second, rest]);
                }
            }
        }
        Ok(())
    }

    /// Publishes messages and waits for all confirms. If the broker closes the channel, returns the refusal and the
    /// messages that are not confirmed.
    async fn publish_group<'m, 'a>(
        &self,
        channel: &impl Channel,
        messages: &[&'m Publication<'a>],
        not_taken: &mut NotTaken,
    ) -> Result<Option<(Refusal, Messages<'m, 'a>)>, RelayError> {
        if messages.is_empty() {
            return Ok(None);
        }
        let began = Instant::now();
        let mut confirms = Vec::with_capacity(messages.len());
        let mut left = messages;
        while !left.is_empty() {
            let (together, later) = left.split_at(written_together(left));
            channel.send_all(together, &mut confirms).await?;
            left = later;
        }
        let mut refusal: Option<Refusal> = None;
        let (mut unconfirmed, mut taken) = (Vec::new(), Vec::new());
        for (message, confirm) in messages.iter().zip(confirms) {
            let confirmation = match confirm.await {
                Ok(confirmation) => confirmation,
                Err(RelayError::Refused(why)) => {
                    unconfirmed.push(*message);
                    // Prefers the broker's reply code to 0, which lapin's error about a closed channel has.
                    if refusal.as_ref().is_none_or(|known| known.code < why.code) {
                        refusal = Some(why);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !confirmation.taken {
                not_taken.nacked.insert(message.id_on_the_wire().into_owned());
            } else if let Some(span) = &message.span {
                let confirmed = self.traces.now().unwrap_or(span.sent);
                taken.push((*message, EventRecord { confirmed, ..(**span).clone() }));
            }
            not_taken.returned.extend(confirmation.returned);
        }
        observe(&self.metrics.event_confirm_seconds, began.elapsed());
        // Now that all confirms are in, it is known which messages were returned.
        for (_, span) in taken.into_iter().filter(|(message, _)| !not_taken.has_returned(message)) {
            self.traces.published(span);
        }
        match refusal {
            None => Ok(None),
            Some(Refusal { code: 0, text }) => Err(RelayError::Broker(text)),
            Some(refusal) => Ok(Some((refusal, unconfirmed))),
        }
    }

    /// Publishes a batch that is too large as two, and makes the batches to come smaller.
    async fn publish_halves<S: Session>(
        &self,
        via: Via<'_, S>,
        batch: &Publication<'_>,
        not_taken: &mut NotTaken,
    ) -> Result<(), RelayError> {
        let longest = batch.body.len() / 2;
        if self.batch_bytes.fetch_min(longest, Ordering::Relaxed) > longest {
            let bytes = batch.body.len();
            warn!(bytes, longest, "the broker finds a batch of events too large: from here on they are shorter");
        }
        let halves = halves(batch);
        for half in &halves {
            Box::pin(self.publish_bisecting(via, vec![half], not_taken)).await?;
        }
        not_taken.halves.insert(batch.id_on_the_wire().into_owned(), halves);
        Ok(())
    }

    /// Records that the broker refused a message that was published alone.
    fn record_refusal(&self, message: &Publication<'_>, refusal: &Refusal, not_taken: &mut NotTaken) {
        let id = message.id_on_the_wire();
        if self.refusals.record(message, refusal) {
            let (key, bytes, reply_to) = (&*message.routing_key, message.body.len(), message.reply_to.as_deref());
            warn!(%id, key, reply_to, bytes, reason = refusal.text, "the broker refuses an event: it is held");
        }
        not_taken.refusals.insert(id.into_owned(), refusal.clone());
    }

    /// Counts messages by what became of them. Returns those to hold, grouped by routing key and reason.
    fn count_and_hold(&self, messages: &[Publication<'_>], not_taken: &NotTaken) -> Vec<Unrouted> {
        let mut held: Vec<Unrouted> = Vec::new();
        for message in messages {
            self.count_message(message, not_taken, &mut held);
        }
        held
    }

    fn count_message(&self, message: &Publication<'_>, not_taken: &NotTaken, held: &mut Vec<Unrouted>) {
        let id = message.id_on_the_wire();
        if let Some(halves) = not_taken.halves.get(&*id) {
            return halves.iter().for_each(|half| self.count_message(half, not_taken, held));
        }
        let (nacked, refusal) = (not_taken.nacked.contains(&*id), not_taken.refusals.get(&*id));
        if !nacked && refusal.is_none() && !not_taken.returned.contains(&*id) {
            if let Some(kind) = EventKind::from_name(&message.routing_key) {
                self.metrics.events_published(kind).increment(message.events.into());
            }
            return;
        }
        if let Some(refusal) = refusal {
            self.metrics.events_refused(refusal.reason()).increment(message.events.into());
        } else {
            // A full queue will have room again; a reply queue that is gone has no consumer.
            let discard = !nacked && (self.settings.unroutable == Unroutable::Discard || message.reply_to.is_some());
            let action = if discard { UnroutableAction::Discarded } else { UnroutableAction::Held };
            self.metrics.events_unroutable(action).increment(message.events.into());
            if discard {
                return;
            }
        }
        hold(message, refusal, held);
    }
}

/// Adds a message to those that are held with the same key and reason.
fn hold(message: &Publication<'_>, refusal: Option<&Refusal>, held: &mut Vec<Unrouted>) {
    let key = match (&message.reply_to, refusal) {
        (None, _) => message.routing_key.to_string(),
        (Some(_), Some(_)) => REPLIES.to_owned(),
        (Some(queue), None) => format!("{REPLIES}:{queue}"),
    };
    let (reason, events) = (refusal.map(|refusal| refusal.text.as_str()), message.events.cast_signed());
    match held.iter_mut().find(|held| held.key == key && held.reason.as_deref() == reason) {
        Some(unrouted) => {
            unrouted.lines.extend_from_slice(&message.lines);
            unrouted.events += events;
        }
        None => {
            let (reason, lines) = (reason.map(ToOwned::to_owned), message.lines.to_vec());
            held.push(Unrouted { key, reason, lines, events });
        }
    }
}

/// Returns how many of the messages are passed to lapin at once: at least one.
fn written_together(messages: &[&Publication<'_>]) -> usize {
    let mut bytes = 0;
    let fit = messages.iter().take(WRITTEN_TOGETHER).take_while(|message| {
        bytes += message.body.len();
        bytes <= BYTES_WRITTEN_TOGETHER
    });
    fit.count().max(1)
}
