//! A task's life, drawn from top to bottom: pure.

use std::collections::HashMap;

use jiff::Timestamp;

use super::super::human::time;
use super::super::output::Text;
use super::state;
use crate::contract::{Currencies, Currency, PaymentState};
use crate::store::queries::payment::{EventName, Life, Step, StoredEntry, StoredTask};

/// Something that happened, with what belongs to it.
struct Happened {
    at: Timestamp,
    /// `●` is a new state, `○` something that left the payment as it was, `◌` what is to come.
    mark: char,
    title: String,
    details: Vec<String>,
}

/// One block for each thing that happened, the first one first, and what is still to come.
pub(super) fn draw(life: &Life, currencies: &Currencies) -> Text {
    let drawing = Drawing::of(life, currencies);
    let mut happened: Vec<Happened> = life.steps.iter().map(|step| drawing.step(step)).collect();
    happened.extend(life.follow_ups.iter().filter(|task| !drawing.is_told(task)).map(|task| drawing.aside(task)));
    // Stable: what happened in one moment stays in the order of the states.
    happened.sort_by_key(|happened| happened.at);
    // By the daemon's clock, where all else is by the database's.
    happened.insert(0, drawing.received());
    happened.extend(drawing.to_come());
    let last = happened.len() - 1;
    let mut text = Text::default();
    for (ix, happened) in happened.iter().enumerate() {
        block(happened, ix == last, &mut text);
    }
    text
}

fn block(happened: &Happened, is_last: bool, text: &mut Text) {
    let Happened { at, mark, title, details } = happened;
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

struct Drawing<'a> {
    life: &'a Life,
    currencies: &'a Currencies,
    /// An account has one.
    account_currencies: HashMap<&'a str, Currency>,
}

impl<'a> Drawing<'a> {
    fn of(life: &'a Life, currencies: &'a Currencies) -> Self {
        let legs = life.task.payment.iter().flat_map(|payment| &payment.legs);
        let both = |leg: &'a crate::store::queries::payment::WholeLeg| {
            [(leg.debit_account.as_str(), leg.currency), (leg.credit_account.as_str(), leg.currency)]
        };
        Self { life, currencies, account_currencies: legs.flat_map(both).collect() }
    }

    /// Whether one of the steps is this follow-up's.
    fn is_told(&self, follow_up: &StoredTask) -> bool {
        self.life.steps.iter().any(|step| step.cause == Some(follow_up.task.id))
    }

    fn received(&self) -> Happened {
        let stored = &self.life.task;
        let by = stored.publisher.as_ref().map(|publisher| format!(", published by {publisher}")).unwrap_or_default();
        Happened { at: stored.received_at, mark: '○', title: format!("received{by}"), details: Vec::new() }
    }

    fn step(&self, step: &Step) -> Happened {
        let own = &self.life.task;
        let mut details = Vec::new();
        let by = self.life.follow_ups.iter().find(|task| Some(task.task.id) == step.cause);
        match (by, step.cause) {
            (Some(follow_up), _) => {
                details.push(self.by(follow_up));
                details.extend(self.entries(&follow_up.entries));
            }
            (None, None) => details.push("the hold ran out".to_owned()),
            // Its own entries are of the moment in which it was applied.
            (None, Some(_)) if !step.state.is_pending() => details.extend(self.entries(&own.entries)),
            _ => {}
        }
        if let (PaymentState::Rejected, Some(rejection)) = (step.state, own.rejection) {
            details.push(format!("{} ({})", rejection.name(), rejection.iso_code()));
        }
        details.push(told(&step.event));
        let title = format!("{} ({}), version {}", step.state.name(), step.iso_status, step.version);
        Happened { at: step.at, mark: '●', title, details }
    }

    /// A follow-up that left the payment as it was.
    fn aside(&self, follow_up: &StoredTask) -> Happened {
        let details = vec![told(&EventName::of(follow_up))];
        let title = format!("{}: {}", self.by(follow_up), state(follow_up));
        Happened { at: follow_up.settled_at, mark: '○', title, details }
    }

    /// A follow-up in one line.
    fn by(&self, follow_up: &StoredTask) -> String {
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

    /// What happens next, by itself.
    fn to_come(&self) -> Option<Happened> {
        let Life { task, waits, .. } = self.life;
        let come = |at, title: String| Happened { at, mark: '◌', title, details: Vec::new() };
        if let Some(waits) = waits {
            let title = match waits.waits_for {
                Some(id) => format!("rejected, unless {id} has come to where this can be applied"),
                None => "applied".to_owned(),
            };
            return Some(come(waits.deadline, title));
        }
        let payment = task.payment.as_ref().filter(|payment| payment.id == task.task.id && payment.state.is_held())?;
        payment.expires_at.map(|at| come(at, "what is still held is released".to_owned()))
    }
}

fn told(event: &EventName) -> String {
    format!("event {} {}", event.kind.name(), event.id)
}
