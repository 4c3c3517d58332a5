//! Lists of payments, the newest first, in pages.
//!
//! Payments have no index that is sorted by time, because each payment would have to pay for it. They have one that
//! finds those of a period (BRIN). So a search looks at one period after another, each further back, until the page is
//! full or the time for the search is over.

use std::cmp;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Error, PaymentRow, columns, payment_row};
use crate::queries::limit_statements;
use crate::sql::named;
use settled_core::contract::PaymentState;

#[derive(Clone, Copy, Debug, Default)]
pub struct PaymentFilter<'a> {
    pub state: Option<&'a str>,
    pub task_type: Option<&'a str>,
    /// Only those that debit or credit this account, also with one of their legs, and tasks about it.
    pub account: Option<&'a str>,
    pub reference: Option<&'a str>,
    pub publisher: Option<&'a str>,
    /// Only those that act on this payment.
    pub payment: Option<Uuid>,
    /// Only those decided at this time or later.
    pub since: Option<Timestamp>,
    /// Only those that come after this place in the list.
    pub before: Option<Cursor>,
    pub limit: i64,
}

/// A place in the list, which is sorted by time and id in descending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub settled_at: Timestamp,
    pub id: Uuid,
}

impl Cursor {
    /// Returns the place before all payments that were decided earlier.
    pub const fn at(time: Timestamp) -> Self {
        Self { settled_at: time, id: Uuid::nil() }
    }

    /// Returns the place of a payment, or `None` if there is no such payment.
    pub async fn of(client: &Client, id: Uuid) -> Result<Option<Self>, Error> {
        let row = named!(client.query_opt("SELECT settled_at FROM payment WHERE id = {id}", id = id))?;
        Ok(row.map(|row| Self { settled_at: row.get("settled_at"), id }))
    }
}

/// A page of the list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub payments: Vec<PaymentRow>,
    /// Set if the time for the search was over before the page was full. Of what comes after this place, the page has only
    /// payments that moved the balance of the account in the filter.
    pub searched_back_to: Option<Cursor>,
}

/// Returns the selected payments, the newest first. Looks for them for about `patience`. Changes settings of the session.
///
/// Follow-ups of a payment, and what waits or is held unless there is a lot of it, are found by an index.
pub async fn list(client: &Client, filter: &PaymentFilter<'_>, patience: Duration) -> Result<Page, Error> {
    // An index that finds a period is always better than reading all payments, which the planner may doubt.
    client.batch_execute("SET enable_seqscan = off; SET jit = off").await?;
    let account = match filter.account {
        None => None,
        Some(name) => match named!(client.query_opt("SELECT id FROM account WHERE name = {name}", name = name))? {
            None => return Ok(Page::default()),
            Some(row) => Some(row.get(0)),
        },
    };
    let search = Search { client, filter, account };
    let (mut found, searched_back_to) = match search.few().await? {
        Some(source) => {
            limit_statements(client, patience).await?;
            (search.places(source, search.since(), search.before(), filter.limit).await?, None)
        }
        None => search.walk(Instant::now() + patience).await?,
    };
    // The rest is found by keys.
    limit_statements(client, patience.max(BY_KEY)).await?;
    if let (Some(place), Some(_)) = (searched_back_to, account) {
        let missing = filter.limit - count(&found);
        found.extend(search.moved(place, missing).await?);
    }
    Ok(Page { payments: rows(client, &found).await?, searched_back_to })
}

/// Payments, under the name `p`, and the order in which an index returns them, if it has one.
#[derive(Clone, Copy)]
struct Source(&'static str, &'static str);

const BY_TIME: &str = "p.settled_at DESC, p.id DESC";
const ALL: Source = Source("payment p WHERE true", BY_TIME);
const WAITING: Source = Source("payment p WHERE p.id IN (SELECT task_id FROM agenda)", BY_TIME);
const HELD: Source = Source("payment p WHERE p.id IN (SELECT payment_id FROM hold)", BY_TIME);
/// The tasks of an account are applied one after the other, so this is the order of time, too.
const MOVED: Source =
    Source("entry e JOIN payment p ON p.id = e.payment_id WHERE e.account = {account}", "e.account DESC, e.seq DESC");

const FILTER: &str = "
       AND p.settled_at >= {from} AND p.settled_at <= {to} AND (p.settled_at, p.id) < ({to}, {last})
       AND ({state}::text IS NULL OR p.state = {state}::text::payment_state)
       AND ({task_type}::text IS NULL OR p.type = {task_type}::text::task_type)
       AND ({account}::bigint IS NULL OR p.debit_account = {account} OR p.credit_account = {account}
            OR p.legs IS NOT NULL AND EXISTS (
               SELECT FROM leg WHERE leg.payment_id = p.id AND {account} IN (leg.debit_account, leg.credit_account)))
       AND ({reference}::text IS NULL OR p.reference = {reference})
       AND ({publisher}::text IS NULL OR p.publisher = {publisher})
       AND ({payment}::uuid IS NULL OR p.parent_id = {payment})";

/// So many rows of a small table are looked at at once.
const FEW: i64 = 10_000;

/// Length of the first period.
const FIRST: SignedDuration = SignedDuration::from_secs(1);

/// The least time limit for what keys find.
const BY_KEY: Duration = Duration::from_secs(10);

/// Time limit for a period longer than the first: it is tried again with a shorter one.
const STEP: Duration = Duration::from_secs(1);

/// If a period took less than this, the next one is longer.
const EASY: Duration = Duration::from_millis(250);

struct Search<'a> {
    client: &'a Client,
    filter: &'a PaymentFilter<'a>,
    /// The id of the account in the filter.
    account: Option<i64>,
}

impl Search<'_> {
    fn before(&self) -> Cursor {
        self.filter.before.unwrap_or(Cursor::at(Timestamp::MAX))
    }

    fn since(&self) -> Timestamp {
        self.filter.since.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns a source that has few payments, if the filter has one.
    async fn few(&self) -> Result<Option<Source>, Error> {
        if self.filter.payment.is_some() {
            // FILTER uses the index by parent.
            return Ok(Some(ALL));
        }
        let (source, size) = match self.filter.state.and_then(PaymentState::from_name) {
            Some(state) if state.is_pending() => (WAITING, "SELECT count(*) FROM (SELECT FROM agenda LIMIT $1) few"),
            Some(state) if state.is_held() => (HELD, "SELECT count(*) FROM (SELECT FROM hold LIMIT $1) few"),
            _ => return Ok(None),
        };
        let size: i64 = self.client.query_one(size, &[&(FEW + 1)]).await?.get(0);
        Ok((size <= FEW).then_some(source))
    }

    /// Looks at one period after another until the page is full. Returns what it has found and, if time was over before
    /// that, how far it has come.
    async fn walk(&self, deadline: Instant) -> Result<(Vec<Cursor>, Option<Cursor>), Error> {
        let floor = self.since();
        let (mut found, mut before, mut length) = (Vec::new(), self.before(), FIRST);
        loop {
            let began = Instant::now();
            let left = deadline.saturating_duration_since(began);
            limit_statements(self.client, if length > FIRST { left.min(STEP) } else { left }).await?;
            let missing = self.filter.limit - count(&found);
            match self.period(floor, before, length, missing).await {
                Ok(Period { places, from }) => {
                    found.extend(places);
                    if from <= floor || count(&found) == self.filter.limit {
                        return Ok((found, None));
                    }
                    before = Cursor::at(from);
                    if began.elapsed() < EASY {
                        length = length.saturating_mul(4);
                    }
                }
                // It has many more payments than the ones before.
                Err(error) if error.is_timeout() && length > FIRST => length = FIRST,
                Err(error) if error.is_timeout() => return Ok((found, Some(before))),
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok((found, Some(before)));
            }
        }
    }

    /// Looks at the period of this length that ends with the last payment before that place, but not beyond `floor`.
    async fn period(
        &self,
        floor: Timestamp,
        before: Cursor,
        length: SignedDuration,
        limit: i64,
    ) -> Result<Period, Error> {
        let Some(end) = self.last_before(floor, before.settled_at).await? else {
            return Ok(Period { places: Vec::new(), from: floor });
        };
        let from = cmp::max(floor, back(end, length));
        Ok(Period { places: self.places(ALL, from, before, limit).await?, from })
    }

    /// Returns a time of which no payment between it and `end` is known, and that has one in the second before it; or
    /// `None` if there is no payment since `floor`.
    async fn last_before(&self, floor: Timestamp, end: Timestamp) -> Result<Option<Timestamp>, Error> {
        let now: Timestamp = self.client.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
        // Nothing but a clock that was set back makes payments later than now.
        let (mut to, mut end, mut length) = (end, cmp::min(end, now), FIRST);
        while !self.has_any(cmp::max(floor, back(end, length)), to).await? {
            end = back(end, length);
            if end <= floor {
                return Ok(None);
            }
            to = end;
            length = length.saturating_mul(4);
        }
        while length > FIRST {
            length /= 2;
            if !self.has_any(cmp::max(floor, back(end, length)), to).await? {
                end = back(end, length);
                to = end;
            }
        }
        Ok(Some(end))
    }

    /// Returns true if a payment was decided between these times, whatever the filter says.
    async fn has_any(&self, from: Timestamp, to: Timestamp) -> Result<bool, Error> {
        let client = self.client;
        let row = named!(client.query_one(
            "SELECT EXISTS (SELECT FROM payment WHERE settled_at >= {from} AND settled_at <= {to})",
            from = from,
            to = to,
        ));
        Ok(row?.get(0))
    }

    /// Returns the payments that moved the balance of the account, which an index finds.
    async fn moved(&self, before: Cursor, limit: i64) -> Result<Vec<Cursor>, Error> {
        let mut most = limit + 1;
        loop {
            let mut places = self.places(MOVED, self.since(), before, most).await?;
            let (read, earliest) = (count(&places), places.last().map(|place| place.settled_at));
            places.sort_unstable_by(|a, b| b.cmp(a));
            places.dedup();
            places.truncate(usize::try_from(limit).unwrap_or_default());
            // Many can have one time, and the index does not sort those. So all of them are needed.
            if read < most || count(&places) == limit && places.last().map(|place| place.settled_at) > earliest {
                return Ok(places);
            }
            most *= 4;
        }
    }

    async fn places(&self, source: Source, from: Timestamp, to: Cursor, limit: i64) -> Result<Vec<Cursor>, Error> {
        let client = self.client;
        let Source(source, order) = source;
        let &PaymentFilter { state, task_type, reference, publisher, payment, .. } = self.filter;
        let rows = named!(dynamic client.query(
            ["SELECT p.settled_at, p.id FROM", source, FILTER, "ORDER BY", order, "LIMIT {limit}"].join(" "),
            from = from,
            to = to.settled_at,
            last = to.id,
            state = state,
            task_type = task_type,
            account = self.account,
            reference = reference,
            publisher = publisher,
            payment = payment,
            limit = limit,
        ));
        Ok(rows?.iter().map(|row| Cursor { settled_at: row.get("settled_at"), id: row.get("id") }).collect())
    }
}

/// What was found in a period, and its beginning.
struct Period {
    places: Vec<Cursor>,
    from: Timestamp,
}

/// Returns the payments at these places, the newest first.
async fn rows(client: &Client, places: &[Cursor]) -> Result<Vec<PaymentRow>, Error> {
    let ids: Vec<Uuid> = places.iter().map(|place| place.id).collect();
    let rows = named!(client.query(
        concat!("SELECT ", columns!(), " FROM payment_named WHERE id = ANY({ids}) ORDER BY settled_at DESC, id DESC"),
        ids = ids,
    ));
    Ok(rows?.iter().map(payment_row).collect())
}

fn back(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.checked_sub(length).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH)
}

fn count(places: &[Cursor]) -> i64 {
    i64::try_from(places.len()).unwrap_or(i64::MAX)
}
