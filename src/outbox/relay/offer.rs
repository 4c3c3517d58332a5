//! Publishing the messages of parcels, finding those that the broker refuses, and deciding what is
//! kept.
//!
//! The broker closes a channel at the first message that it refuses, without saying which one it was.
//! Of `n` messages that are out, each is published at most `log2(n) + 1` times until those that are
//! refused are found, however many they are.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::{error, warn};

use super::{Relay, Taken};
use crate::contract::EventKind;
use crate::outbox::Unroutable;
use crate::outbox::publication::{BatchLimits, Publication, halves, publications};
use crate::outbox::refusals::{REPLIES, Refusal};
use crate::outbox::routing::{Messages, NotTaken};
use crate::outbox::session::{Channel, RelayError, Session, Sink};
use crate::sabotage::{self, Defect};
use crate::store::Parcel;
use crate::store::outbox::Unrouted;
use crate::telemetry::labels::UnroutableAction;
use crate::telemetry::metrics::observe;

/// How many messages are given to lapin at a time: it answers a publish when its frames are written,
/// so its thread wakes up once for all of them and writes them together.
const WRITTEN_TOGETHER: usize = 256;

/// How many bytes are given to lapin at a time, which copies them; a message may be longer.
const BYTES_WRITTEN_TOGETHER: usize = 1 << 20;

/// The messages of a parcel, or all of it if it can't be read.
type Row<'p> = Result<Vec<Publication<'p>>, Unrouted>;

/// A session, and its channel that is published on.
type Way<'w, B> = (&'w <B as Sink>::Session, &'w <<B as Sink>::Session as Session>::Channel);

impl<B: Sink> Relay<B> {
    /// Publishes parcels and waits for all confirms; returns what is to be held of each.
    pub(super) async fn publish(
        &self,
        way: Way<'_, B>,
        parcels: &[Taken<'_, B>],
    ) -> Result<Vec<Vec<Unrouted>>, RelayError> {
        let rows: Vec<Row<'_>> = parcels.iter().map(|parcel| self.read(parcel)).collect();
        let is_suspect = |parcel: &Taken<'_, B>| parcel.held_reason.is_some();
        let of = |suspect| parcels.iter().zip(&rows).filter(move |(parcel, _)| is_suspect(parcel) == suspect);
        let messages: Messages<'_, '_> = of(false).flat_map(|(_, row)| row).flatten().collect();
        let mut not_taken = match self.settings.unroutable {
            Unroutable::Hold => self.offer(way, messages).await?,
            Unroutable::Discard => self.offer_if_bound(way, messages).await?,
        };
        // What was refused before is alone, so that nobody's events come again because of it.
        for (_, row) in of(true) {
            self.find(way, row.iter().flatten().collect(), &mut not_taken).await?;
        }
        let held = rows.iter().map(|row| match row {
            Ok(messages) => self.sort_out(messages, &not_taken),
            Err(unreadable) => vec![unreadable.clone()],
        });
        Ok(held.collect())
    }

    /// The messages of a parcel; one that can't be read is held as it is.
    fn read<'p>(&self, parcel: &'p Parcel) -> Row<'p> {
        let bytes = self.batch_bytes.load(Ordering::Relaxed);
        let limits = BatchLimits { events: self.settings.batch_events, bytes };
        publications(parcel.id, &parcel.body, self.settings.format, limits).map_err(|error| {
            error!(row = parcel.id, %error, "an outbox row can't be read: held for a person to look at");
            let (lines, events) = (parcel.body.clone(), parcel.events.cast_signed().max(1));
            Unrouted { key: "unreadable".into(), reason: None, lines, events }
        })
    }

    /// As [`Relay::offer`], without offering what is known to come back.
    async fn offer_if_bound(&self, way: Way<'_, B>, messages: Messages<'_, '_>) -> Result<NotTaken, RelayError> {
        let (published, withheld) = self.unbound.split(messages);
        let mut not_taken = self.offer(way, published.clone()).await?;
        let (welcome, discarded) = self.unbound.learn(&published, withheld, &not_taken);
        not_taken.extend(self.offer(way, welcome).await?);
        not_taken.returned.extend(discarded.iter().map(|message| message.id_on_the_wire().into_owned()));
        Ok(not_taken)
    }

    /// Publishes and waits for all confirms; returns what was not taken.
    async fn offer(&self, way: Way<'_, B>, mut messages: Messages<'_, '_>) -> Result<NotTaken, RelayError> {
        let mut not_taken = NotTaken::default();
        for tried in self.refusals.sort_out(&mut messages, &mut not_taken) {
            self.find(way, vec![tried], &mut not_taken).await?;
        }
        self.find(way, messages, &mut not_taken).await?;
        Ok(not_taken)
    }

    /// Publishes messages until each is taken, or known not to be.
    async fn find(
        &self,
        way: Way<'_, B>,
        messages: Messages<'_, '_>,
        not_taken: &mut NotTaken,
    ) -> Result<(), RelayError> {
        let mut groups = vec![messages];
        let mut declared_again = false;
        while let Some(group) = groups.pop() {
            let (refusal, mut rest) = match self.send(way.1, &group, not_taken).await? {
                None => {
                    self.refusals.forget(&group);
                    continue;
                }
                Some(refused) => refused,
            };
            way.0.reopen(way.1, &refusal).await?;
            if refusal.is_not_found() && !std::mem::replace(&mut declared_again, true) {
                groups.push(rest);
                continue;
            }
            match rest[..] {
                [message] if refusal.is_about_the_message() && message.events > 1 => {
                    self.send_halves(way, message, not_taken).await?;
                }
                [message] => {
                    self.refused(message, &refusal, not_taken);
                    let mut tried = Messages::new();
                    for group in &mut groups {
                        tried.extend(self.refusals.sort_out(group, not_taken));
                    }
                    groups.extend(tried.into_iter().map(|message| vec![message]));
                }
                _ => {
                    let second = rest.split_off(rest.len() / 2);
                    groups.extend([second, rest]);
                }
            }
        }
        Ok(())
    }

    /// Publishes messages and waits for all confirms. Returns, if the broker closes the channel, why
    /// and what is not confirmed.
    async fn send<'m, 'a>(
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
        if sabotage::has(Defect::ConfirmNotAwaited) {
            return Ok(None);
        }
        let mut refusal: Option<Refusal> = None;
        let mut unconfirmed = Vec::new();
        for (message, confirm) in messages.iter().zip(confirms) {
            let confirmation = match confirm.await {
                Ok(confirmation) => confirmation,
                Err(RelayError::Refused(why)) => {
                    unconfirmed.push(*message);
                    // The broker's own words rather than lapin's about a closed channel.
                    if refusal.as_ref().is_none_or(|known| known.code < why.code) {
                        refusal = Some(why);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !confirmation.taken {
                not_taken.refused.insert(message.id_on_the_wire().into_owned());
            }
            if !sabotage::has(Defect::ReturnedEventCounted) {
                not_taken.returned.extend(confirmation.returned);
            }
        }
        observe(&self.metrics.event_confirm_seconds, began.elapsed());
        match refusal {
            None => Ok(None),
            Some(Refusal { code: 0, text }) => Err(RelayError::Broker(text)),
            Some(refusal) => Ok(Some((refusal, unconfirmed))),
        }
    }

    /// Publishes a batch that is too large as two; the batches to come are made smaller.
    async fn send_halves(
        &self,
        way: Way<'_, B>,
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
            Box::pin(self.find(way, vec![half], not_taken)).await?;
        }
        not_taken.halves.insert(batch.id_on_the_wire().into_owned(), halves);
        Ok(())
    }

    /// Notes that the broker refuses this message, which it got alone.
    fn refused(&self, message: &Publication<'_>, refusal: &Refusal, not_taken: &mut NotTaken) {
        let id = message.id_on_the_wire();
        if self.refusals.learn(message, refusal) {
            let (key, bytes, reply_to) = (&*message.routing_key, message.body.len(), message.reply_to.as_deref());
            warn!(%id, key, reply_to, bytes, reason = refusal.text, "the broker refuses an event: it is held");
        }
        not_taken.refusals.insert(id.into_owned(), refusal.clone());
    }

    /// Counts, and returns what is to be held, by routing key and reason.
    fn sort_out(&self, messages: &[Publication<'_>], not_taken: &NotTaken) -> Vec<Unrouted> {
        let mut held: Vec<Unrouted> = Vec::new();
        for message in messages {
            self.sort_out_one(message, not_taken, &mut held);
        }
        held
    }

    fn sort_out_one(&self, message: &Publication<'_>, not_taken: &NotTaken, held: &mut Vec<Unrouted>) {
        let id = message.id_on_the_wire();
        if let Some(halves) = not_taken.halves.get(&*id) {
            return halves.iter().for_each(|half| self.sort_out_one(half, not_taken, held));
        }
        let (full, refusal) = (not_taken.refused.contains(&*id), not_taken.refusals.get(&*id));
        if !full && refusal.is_none() && !not_taken.returned.contains(&*id) {
            if let Some(kind) = EventKind::from_name(&message.routing_key) {
                self.metrics.events_published(kind).increment(message.events.into());
            }
            return;
        }
        if let Some(refusal) = refusal {
            self.metrics.events_refused(refusal.reason()).increment(message.events.into());
        } else {
            // A full queue empties; nobody waits at a reply queue that is gone.
            let discard = !full && (self.settings.unroutable == Unroutable::Discard || message.reply_to.is_some());
            let action = if discard { UnroutableAction::Discarded } else { UnroutableAction::Held };
            self.metrics.events_unroutable(action).increment(message.events.into());
            if discard {
                return;
            }
        }
        keep(message, refusal, held);
    }
}

/// Adds a message to those with the same key and reason.
fn keep(message: &Publication<'_>, refusal: Option<&Refusal>, held: &mut Vec<Unrouted>) {
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

/// How many of the messages are given to lapin together: at least one.
fn written_together(messages: &[&Publication<'_>]) -> usize {
    let mut bytes = 0;
    let fit = messages.iter().take(WRITTEN_TOGETHER).take_while(|message| {
        bytes += message.body.len();
        bytes <= BYTES_WRITTEN_TOGETHER
    });
    fit.count().max(1)
}
