//! The timeline of a task.

use std::collections::HashMap;

use jiff::Timestamp;
use settled_core::contract::{Currencies, Currency, PaymentState};
use settled_store::queries::payment::{EventName, Life, Step, StoredEntry, StoredTask, WholeLeg};

use super::super::human::time;
use super::super::output::Text;

/// One entry of the timeline.
struct Entry {
    at: Timestamp,
    /// `●` is a new state, `○` an event that left the state as it was, `◌` a future event.
    mark: char,
    title: String,
    details: Vec<String>,
}

/// Draws past events, the oldest first, and the next future event.
pub(super) fn draw(life: &Life, currencies: &Currencies) -> Text {
    let timeline = Timeline::of(life, currencies);
    let mut entries: Vec<Entry> = life.steps.iter().map(|step| timeline.step(step)).collect();
    let others = life.follow_ups.iter().filter(|task| !timeline.is_step(task));
    entries.extend(others.map(|task| timeline.without_step(task)));
    // Stable: steps at the same time stay in the order of their versions.
    entries.sort_by_key(|entry| entry.at);
    // Not sorted: this time is by the daemon's clock, all others are by the database's.
    entries.insert(0, timeline.received());
    entries.extend(timeline.next());
    let last = entries.len() - 1;
    let mut text = Text::default();
    for (ix, entry) in entries.iter().enumerate() {
        block(entry, ix == last, &mut text);
    }
    text
}

fn block(entry: &Entry, is_last: bool, text: &mut Text) {
    let Entry { at, mark, title, details } = entry;
    let at = time(*at);
    text.line(format!("{at} {mark} {title}"));
    let line = if is_last { ' ' } else { '│' };
    for detail in details {
        text.line(format!("{:width$} {line}     {detail}", "", width = at.len()));
    }
    if !is_last {
        text.line(format!("{:width$} │", "", width = at.len()));
    }
}

struct Timeline<'a> {
    life: &'a Life,
    currencies: &'a Currencies,
    account_currencies: HashMap<&'a str, Currency>,
}

impl<'a> Timeline<'a> {
    fn of(life: &'a Life, currencies: &'a Currencies) -> Self {
        let legs = life.task.payment.iter().flat_map(|payment| &payment.legs);
        let both = |leg: &'a WholeLeg| {
            [(leg.debit_account.as_str(), leg.currency), (leg.credit_account.as_str(), leg.currency)]
        };
        Self { life, currencies, account_currencies: legs.flat_map(both).collect() }
    }

    /// Returns whether the follow-up caused one of the steps.
    fn is_step(&self, follow_up: &StoredTask) -> bool {
        self.life.steps.iter().any(|step| step.cause == Some(follow_up.task.id))
    }

    fn received(&self) -> Entry {
        let stored = &self.life.task;
        let by = stored.publisher.as_ref().map(|publisher| format!(", published by {publisher}")).unwrap_or_default();
        Entry { at: stored.received_at, mark: '○', title: format!("received{by}"), details: Vec::new() }
    }

    fn step(&self, step: &Step) -> Entry {
        let own = &self.life.task;
        let mut details = Vec::new();
        let by = self.life.follow_ups.iter().find(|task| Some(task.task.id) == step.cause);
        match (by, step.cause) {
            (Some(follow_up), _) => {
                details.push(self.describe(follow_up));
                details.extend(self.entries(&follow_up.entries));
            }
            (None, None) => details.push("the hold ran out".to_owned()),
            // Its own entries belong to the step in which it was applied.
            (None, Some(_)) if !step.state.is_pending() => details.extend(self.entries(&own.entries)),
            _ => {}
        }
        if let (PaymentState::Rejected, Some(rejection)) = (step.state, own.rejection) {
            details.push(format!("{} ({})", rejection.name(), rejection.iso_code()));
        }
        details.push(event(&step.event));
        let title = format!("{} ({}), version {}", step.state.name(), step.iso_status, step.version);
        Entry { at: step.at, mark: '●', title, details }
    }

    /// Returns the entry of a follow-up that left the payment as it was.
    fn without_step(&self, follow_up: &StoredTask) -> Entry {
        let details = vec![event(&EventName::of(follow_up))];
        let title = format!("{}: {}", self.describe(follow_up), state(follow_up));
        Entry { at: follow_up.settled_at, mark: '○', title, details }
    }

    /// Describes a follow-up in one line.
    fn describe(&self, follow_up: &StoredTask) -> String {
        let task = &follow_up.task;
        let mut text = format!("{} {}", task.body.task_type().name(), task.id);
        let mut currencies = self.account_currencies.values();
        let first = currencies.next();
        let one = first.filter(|first| currencies.all(|other| other == *first));
        if let Some(amount) = follow_up.moved {
            let money = |one: &Currency| format!("{} {one}", self.currencies.format(*one, amount));
            let money = one.map_or_else(|| amount.to_string(), money);
            text += &format!(", {money}");
        }
        let notes = [("published by", follow_up.publisher.as_deref()), ("reference", task.body.reference())];
        for (name, note) in notes {
            text += &note.map(|note| format!(", {name} {note}")).unwrap_or_default();
        }
        text
    }

    fn entries(&self, entries: &[StoredEntry]) -> Vec<String> {
        let row = |entry: &StoredEntry| {
            let currency = self.account_currencies.get(entry.account.as_str());
            let money = |minor: i64| {
                currency.map_or_else(|| minor.to_string(), |currency| self.currencies.format(*currency, minor))
            };
            let unit = currency.map(|currency| format!(" {currency}")).unwrap_or_default();
            let name = format!("entry {} of {}", entry.seq, entry.account);
            (name, money(entry.amount), format!("{}{unit}", money(entry.balance_after)))
        };
        let rows: Vec<_> = entries.iter().map(row).collect();
        let width = |of: fn(&(String, String, String)) -> usize| rows.iter().map(of).max().unwrap_or_default();
        let (names, amounts) = (width(|row| row.0.chars().count()), width(|row| row.1.len()));
        rows.iter()
            .map(|(name, amount, after)| format!("{name:<names$}  {amount:>amounts$}, balance {after}"))
            .collect()
    }

    /// Returns what happens next without another task.
    fn next(&self) -> Option<Entry> {
        let Life { task, waits, .. } = self.life;
        let future = |at, title: String| Entry { at, mark: '◌', title, details: Vec::new() };
        if let Some(waits) = waits {
            let title = match waits.waits_for {
                Some(id) => format!("rejected, unless {id} has come to where this can be applied"),
                None => "applied".to_owned(),
            };
            return Some(future(waits.deadline, title));
        }
        let payment = task.payment.as_ref().filter(|payment| payment.id == task.task.id && payment.state.is_held())?;
        payment.expires_at.map(|at| future(at, "what is still held is released".to_owned()))
    }
}

fn event(event: &EventName) -> String {
    format!("event {} {}", event.kind.name(), event.id)
}

/// Formats the state, of a rejected task with the reason.
pub(in crate::cli) fn state(stored: &StoredTask) -> String {
    match stored.rejection {
        None => stored.state.name().to_owned(),
        Some(rejection) => format!("rejected: {} ({})", rejection.name(), rejection.iso_code()),
    }
}
