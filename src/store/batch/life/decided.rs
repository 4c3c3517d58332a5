//! From the ledger's outcomes to the rows of all that is more than a plain transfer: pure.

use std::borrow::Cow;

use uuid::Uuid;

use super::super::decided::{Decided, has_plain_request};
use super::super::write::OpenedRow;
use super::{AgendaRow, HoldRow, LegRow, LegUpdateRow, Life, MovementColumns, Progress, TaskRow, TermsRow, UpdateRow};
use crate::contract::{Message, PaymentState, Task, TaskBody, Terms};
use crate::ledger::{Account, AccountStatus, Item, Movement, Outcome, Payment, PaymentLeg};

impl<'a> Decided<'_, 'a> {
    /// The row of a task of this batch, new or resumed, with its legs and holds.
    pub(in super::super) fn write_task(
        &self,
        item: &Item<'a>,
        message: &'a Message,
        outcome: &Outcome,
        life: &mut Life<'a>,
    ) {
        let task = item.task;
        // Where the batch leaves it, which can be further than the outcome.
        let last = self.payments.get(&task.id);
        let acted = if let Outcome::Acted(acted) = outcome { Some(acted) } else { None };
        let whole = last.or_else(|| acted.and_then(|acted| acted.payment.as_ref()).filter(|own| own.id == task.id));
        let state = last.map(|own| own.state).or_else(|| outcome.state()).unwrap_or(PaymentState::Rejected);
        let version = last.map_or(1, |own| own.version);
        let reason = if let Outcome::Rejected(rejection) = outcome { Some(rejection.name()) } else { None };
        let posted = whole.filter(|own| !own.listed && own.moves_money());
        let progress = posted.and_then(|own| own.legs.first()).map(progress);
        let (movement, legs) = self.movement(item, outcome);
        let expires_at = whole.and_then(|own| own.expires_at);
        if item.resumes {
            if !self.waits_as_before(item) {
                let version_before = self.payments_before.get(&task.id).map_or(version - 1, |own| own.version);
                let (state, decided_at) = (state.name(), Some(self.now));
                let id = task.id;
                life.updates.push(UpdateRow {
                    id,
                    version,
                    version_before,
                    state,
                    reason,
                    movement,
                    progress,
                    legs,
                    expires_at,
                    decided_at,
                });
            }
        } else {
            life.tasks.push(TaskRow {
                id: task.id,
                version,
                task_type: task.body.task_type().name(),
                state: state.name(),
                reason,
                parent: task.body.payment_id(),
                movement,
                progress,
                legs,
                min_balance: if let TaskBody::OpenAccount(open) = &task.body { open.min_balance } else { None },
                expires_at,
                received_at: message.received_at,
                fingerprint: *task.fingerprint.as_bytes(),
                publisher: message.properties.publisher.as_deref(),
                reference: task.body.reference(),
                metadata: task.body.metadata(),
                request: (!has_plain_request(task)).then(|| request(task, &message.body)).flatten(),
            });
        }
        self.write_legs(item, outcome, whole, life);
        if let Some(own) = whole {
            self.write_holds(None, own, life);
        }
        self.write_agenda(item, message, outcome, state, life);
    }

    /// From where to where a task goes, as far as it is one movement; else how many legs it has.
    fn movement(&self, item: &Item<'_>, outcome: &Outcome) -> (MovementColumns, Option<i16>) {
        let one = |(debit, credit): (usize, usize), amount, currency| MovementColumns {
            debit: Some(self.accounts[debit].id),
            credit: Some(self.accounts[credit].id),
            amount: Some(amount),
            currency: Some(currency),
            ..MovementColumns::default()
        };
        let pair = item.pairs.first().map(|(debit, credit)| (debit.0, credit.0));
        let asked = match (&item.task.body, pair) {
            (TaskBody::Transfer(transfer), Some(pair)) => one(pair, transfer.amount, transfer.currency),
            (TaskBody::Authorize(authorize), Some(pair)) => match &authorize.terms {
                Terms::One(leg) => one(pair, leg.amount, leg.currency),
                Terms::Legs(legs) => return (MovementColumns::default(), count(legs.len())),
            },
            (TaskBody::Split(split), _) => return (MovementColumns::default(), count(split.legs.len())),
            (TaskBody::OpenAccount(open), Some((account, _))) => {
                let currency = Some(open.currency);
                MovementColumns { debit: Some(self.accounts[account].id), currency, ..MovementColumns::default() }
            }
            (_, Some((account, _))) => {
                MovementColumns { debit: Some(self.accounts[account].id), ..MovementColumns::default() }
            }
            (TaskBody::FollowUp(follow_up), None) => {
                MovementColumns { amount: follow_up.action.amount(), ..MovementColumns::default() }
            }
            (_, None) => MovementColumns::default(),
        };
        match outcome {
            Outcome::Settled { debit, credit } => {
                let (debit_seq, credit_seq) = (Some(debit.after.version), Some(credit.after.version));
                (MovementColumns { debit_seq, credit_seq, ..asked }, None)
            }
            Outcome::Acted(acted) => match (&acted.payment, acted.movements.as_slice()) {
                (Some(parent), made @ [_, ..]) if parent.listed => {
                    (MovementColumns { amount: acted.moved, ..MovementColumns::default() }, count(made.len()))
                }
                (Some(parent), [made]) => (self.made(parent, made), None),
                _ => (asked, None),
            },
            _ => (asked, None),
        }
    }

    fn made(&self, payment: &Payment, movement: &Movement) -> MovementColumns {
        let Movement { leg, debit, credit } = movement;
        MovementColumns {
            debit: Some(self.accounts[debit.after.account.0].id),
            credit: Some(self.accounts[credit.after.account.0].id),
            amount: Some(credit.amount),
            currency: payment.legs.get(usize::from(*leg)).map(|leg| leg.currency),
            debit_seq: Some(debit.after.version),
            credit_seq: Some(credit.after.version),
        }
    }

    /// The legs of a payment that has just been made, or what a follow-up did with each.
    fn write_legs(&self, item: &Item<'_>, outcome: &Outcome, own: Option<&Payment>, life: &mut Life<'a>) {
        let Outcome::Acted(acted) = outcome else { return };
        let Some(payment) = acted.payment.as_ref().filter(|payment| payment.listed) else { return };
        let row = |leg: u8, movement, progress| LegRow { payment: item.task.id, leg: leg.into(), movement, progress };
        if payment.id != item.task.id {
            life.legs.extend(acted.movements.iter().map(|made| row(made.leg, self.made(payment, made), None)));
            return;
        }
        for (ix, leg) in (0..).zip(&own.unwrap_or(payment).legs) {
            let made = acted.movements.iter().find(|made| made.leg == ix).map(|made| self.made(payment, made));
            let asked = MovementColumns {
                debit: Some(self.accounts[leg.debit.0].id),
                credit: Some(self.accounts[leg.credit.0].id),
                amount: Some(leg.amount),
                currency: Some(leg.currency),
                ..MovementColumns::default()
            };
            life.legs.push(row(ix, made.unwrap_or(asked), Some(progress(leg))));
        }
    }

    fn write_agenda(
        &self,
        item: &Item<'_>,
        message: &Message,
        outcome: &Outcome,
        last: PaymentState,
        life: &mut Life<'a>,
    ) {
        let (deadline, waits_for) = match outcome {
            Outcome::Scheduled(at) => (*at, None),
            Outcome::Parked { on, deadline } => (*deadline, Some(*on)),
            _ => {
                life.agenda_done.extend(item.resumes.then_some(item.task.id));
                return;
            }
        };
        if !last.is_pending() {
            // Another task of the batch has called it off.
            life.agenda_done.extend(item.resumes.then_some(item.task.id));
            return;
        }
        // Plain strings and a number.
        let properties =
            serde_json::to_string(&message.properties.of_a_task_that_waits()).unwrap_or_else(|_| "{}".into());
        let agenda = if item.resumes { &mut life.agenda_again } else { &mut life.agenda };
        let woken = self.woken.get(&item.task.id).copied().unwrap_or(0);
        agenda.push(AgendaRow { task: item.task.id, deadline, waits_for, woken, properties });
        if let Some(on) = waits_for {
            // What it waits for may have moved in this batch, before or after; or it came meanwhile, and
            // has woken whoever waited before that was written here.
            let version = |payment: Option<&Payment>| payment.map(|payment| payment.version);
            let moved = version(self.payments.get(&on)) != version(self.payments_before.get(&on));
            life.wakes.extend((moved || self.too_late.contains(&on)).then_some(on));
        }
    }

    /// The payments that were there before, and that the batch has moved without being their task.
    pub(in super::super) fn others(&self, life: &mut Life<'a>) {
        life.transitions.extend_from_slice(&self.decision.transitions);
        // Of a resumed task whose row the batch writes as such. One that another daemon was faster to
        // apply, or that is set aside, may still be acted on by others of the batch.
        let is_written = |(item, outcome): &(&Item<'_>, &Outcome)| {
            item.resumes && !matches!(outcome, Outcome::Duplicate | Outcome::SetAside { .. })
        };
        let items = self.layout.items.iter().zip(&self.decision.outcomes);
        let resumed: std::collections::HashSet<Uuid> = items.filter(is_written).map(|(item, _)| item.task.id).collect();
        for (id, before) in self.payments_before.iter().filter(|(id, _)| !resumed.contains(*id)) {
            let Some(after) = self.payments.get(id).filter(|after| after.version != before.version) else { continue };
            let progress = (!after.listed).then(|| after.legs.first().map(progress)).flatten();
            life.updates.push(UpdateRow {
                id: *id,
                version: after.version,
                version_before: before.version,
                state: after.state.name(),
                reason: None,
                movement: MovementColumns::default(),
                progress,
                legs: None,
                expires_at: None,
                decided_at: None,
            });
            if after.listed {
                let changed = (0i16..).zip(before.legs.iter().zip(&after.legs)).filter(|(_, (was, is))| was != is);
                let update = |(leg, (_, is))| LegUpdateRow { payment: *id, leg, progress: self::progress(is) };
                life.leg_updates.extend(changed.map(update));
            }
            self.write_holds(Some(before), after, life);
            life.agenda_done.extend((before.state.is_pending() && !after.state.is_pending()).then_some(*id));
            life.wakes.extend(self.someone_waits.then_some(*id));
        }
    }

    fn write_holds(&self, before: Option<&Payment>, after: &Payment, life: &mut Life<'a>) {
        for (ix, leg) in (0i16..).zip(&after.legs) {
            let was =
                before.and_then(|before| before.legs.get(usize::from(ix.unsigned_abs())).map(|leg| before.held(leg)));
            let (was, is) = (was.unwrap_or(0), after.held(leg));
            let expires_at = after.expires_at.unwrap_or(self.now);
            let row =
                HoldRow { payment: after.id, leg: ix, account: self.accounts[leg.debit.0].id, amount: is, expires_at };
            match (was, is) {
                (was, is) if was == is => {}
                (0, _) => life.holds.push(row),
                (_, 0) => life.holds_ended.push(row),
                _ => life.holds_changed.push(row),
            }
        }
    }

    /// An account's row, if more of it changed than a balance.
    pub(in super::super) fn terms(before: &Account, after: &Account, opened: &[OpenedRow]) -> Option<TermsRow> {
        let terms = |account: &Account| (account.status, account.min_balance, account.max_balance, account.shortfall);
        let was = match before.status {
            AccountStatus::Unopened => opened
                .iter()
                .find(|row| row.account == before.id)
                .map_or(terms(before), |row| (AccountStatus::Open, row.min_balance, None, 0)),
            _ => terms(before),
        };
        (was != terms(after)).then_some(TermsRow {
            account: after.id,
            posted: after.posted,
            version: after.version,
            version_before: before.version,
            status: after.status,
            min_balance: after.min_balance,
            max_balance: after.max_balance,
            shortfall: after.shortfall,
        })
    }
}

const fn progress(leg: &PaymentLeg) -> Progress {
    Progress { captured: leg.captured, refunded: leg.refunded, charged_back: leg.charged_back }
}

/// What a task asks for, as it is kept: its message's body. A daemon of an earlier version may take the task
/// up again, and knows only `null` for no limit.
fn request<'a>(task: &Task, body: &'a [u8]) -> Option<Cow<'a, str>> {
    match task.body.asks_for_no_limit() {
        true => Some(task.to_stored_json().into()),
        false => std::str::from_utf8(body).ok().map(Cow::Borrowed),
    }
}

fn count(legs: usize) -> Option<i16> {
    i16::try_from(legs).ok()
}
