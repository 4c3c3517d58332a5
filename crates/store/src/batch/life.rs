//! From the ledger's outcomes to the rows of all that is more than a plain transfer: pure.

use std::borrow::Cow;

use uuid::Uuid;

use super::decided::{DecidedBatch, has_plain_request};
use super::rows::{
    AgendaRow, HoldRow, LegRow, LegUpdateRow, Life, MovementColumns, OpenedRow, Progress, TaskRow, TermsRow, UpdateRow,
};
use settled_core::contract::{Message, PaymentState, Rejection, Task, TaskBody, Terms};
use settled_core::ledger::state::Stage;
use settled_core::ledger::{Account, AccountIx, AccountStatus, Acted, Item, Movement, Outcome, Payment, PaymentLeg};

impl<'a> DecidedBatch<'_, 'a> {
    /// The row of a task of this batch, new or resumed, with its legs and holds: as the batch leaves it, which can
    /// be further than the outcome.
    pub(super) fn write_task(&self, ix: usize, message: &'a Message, life: &mut Life<'a>) {
        let (item, outcome) = (&self.layout.items[ix], &self.decision.outcomes[ix]);
        let Some(own) = self.decision.payment(ix, item, &self.payments) else { return };
        let own = &*own;
        match self.decision.steps[ix].and_then(|step| step.before) {
            None => life.tasks.push(TaskRow {
                progress: only_leg(own).map(progress),
                expires_at: own.expires_at,
                request: (!has_plain_request(item.task)).then(|| request(item.task, &message.body)).flatten(),
                ..self.task_row(item, message, outcome, own.stage)
            }),
            Some(before) if before != own.stage => life.updates.push(self.update_row(item, outcome, own, before)),
            Some(_) => {}
        }
        self.write_legs(item, outcome, own, life);
        self.write_holds(None, own, life);
        self.write_agenda(item, message, outcome, own.state(), life);
    }

    /// The row of a new task that is at `stage`, with all that a plain transfer or account opening needs.
    pub(super) fn task_row(
        &self,
        item: &Item<'a>,
        message: &'a Message,
        outcome: &Outcome,
        stage: Stage,
    ) -> TaskRow<'a> {
        let task = item.task;
        let (movement, legs) = self.movement(item, outcome);
        TaskRow {
            id: task.id,
            version: stage.version(),
            task_type: task.body.task_type().name(),
            state: stage.state().name(),
            reason: outcome.rejection().map(Rejection::name),
            parent: task.body.payment_id(),
            movement,
            progress: None,
            legs,
            min_balance: if let TaskBody::OpenAccount(open) = &task.body { open.min_balance } else { None },
            expires_at: None,
            received_at: message.received_at,
            fingerprint: *task.fingerprint.as_bytes(),
            publisher: message.properties.publisher.as_deref(),
            reference: task.body.reference(),
            metadata: task.body.metadata(),
            request: None,
        }
    }

    fn update_row(&self, item: &Item<'_>, outcome: &Outcome, own: &Payment, before: Stage) -> UpdateRow {
        let (movement, legs) = self.movement(item, outcome);
        UpdateRow {
            id: own.id,
            version: own.version(),
            version_before: before.version(),
            state: own.state().name(),
            reason: outcome.rejection().map(Rejection::name),
            movement,
            progress: only_leg(own).map(progress),
            legs,
            expires_at: own.expires_at,
            decided_at: Some(self.locked.now),
        }
    }

    /// Returns the columns of the one movement that a task asks for or has made; and the number of its legs if it has
    /// legs instead.
    fn movement(&self, item: &Item<'_>, outcome: &Outcome) -> (MovementColumns, Option<i16>) {
        let (asked, legs) = self.asked(item);
        if legs.is_some() {
            return (asked, legs);
        }
        if let Outcome::Settled { debit, credit } = outcome {
            let (debit_seq, credit_seq) = (Some(debit.after.version), Some(credit.after.version));
            return (MovementColumns { debit_seq, credit_seq, ..asked }, None);
        }
        let Some(Acted { payment: Some(payment), movements, moved, .. }) = outcome.acted() else {
            return (asked, None);
        };
        match movements.as_slice() {
            made @ [_, ..] if payment.listed => {
                (MovementColumns { amount: *moved, ..MovementColumns::default() }, count(made.len()))
            }
            [made] => (self.made(payment, made), None),
            [] | [_, ..] => (asked, None),
        }
    }

    /// Returns the columns of the one movement that a task asks for, or the number of its legs.
    fn asked(&self, item: &Item<'_>) -> (MovementColumns, Option<i16>) {
        let none = MovementColumns::default();
        let account = |place: AccountIx| Some(self.accounts[place.0].id);
        let debit = || item.pairs.first().and_then(|(debit, _)| account(*debit));
        let credit = || item.pairs.first().and_then(|(_, credit)| account(*credit));
        let one = |amount, currency| MovementColumns {
            debit: debit(),
            credit: credit(),
            amount: Some(amount),
            currency: Some(currency),
            ..none
        };
        match &item.task.body {
            TaskBody::Transfer(transfer) => (one(transfer.amount, transfer.currency), None),
            TaskBody::Authorize(authorize) => match &authorize.terms {
                Terms::One(leg) => (one(leg.amount, leg.currency), None),
                Terms::Legs(legs) => (none, count(legs.len())),
            },
            TaskBody::Split(split) => (none, count(split.legs.len())),
            TaskBody::OpenAccount(open) => {
                (MovementColumns { debit: debit(), currency: Some(open.currency), ..none }, None)
            }
            TaskBody::ChangeAccount(_) => (MovementColumns { debit: debit(), ..none }, None),
            TaskBody::FollowUp(follow_up) => (MovementColumns { amount: follow_up.action.amount(), ..none }, None),
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
    fn write_legs(&self, item: &Item<'_>, outcome: &Outcome, own: &Payment, life: &mut Life<'a>) {
        let Some(acted) = outcome.acted() else { return };
        let Some(payment) = acted.payment.as_ref().filter(|payment| payment.listed) else { return };
        let row = |leg: u8, movement, progress| LegRow { payment: item.task.id, leg: leg.into(), movement, progress };
        if payment.id != item.task.id {
            life.legs.extend(acted.movements.iter().map(|made| row(made.leg, self.made(payment, made), None)));
            return;
        }
        for (ix, leg) in (0..).zip(&own.legs) {
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
        // Another task of the batch may have canceled it since.
        let Some(deadline) = outcome.deadline().filter(|_| last.is_pending()) else {
            life.agenda_done.extend(item.resumes.then_some(item.task.id));
            return;
        };
        let waits_for = if let Outcome::Parked { on, .. } = outcome { Some(*on) } else { None };
        // Plain strings and a number.
        let properties =
            serde_json::to_string(&message.properties.of_a_task_that_waits()).unwrap_or_else(|_| "{}".into());
        let agenda = if item.resumes { &mut life.agenda_again } else { &mut life.agenda };
        let woken = self.locked.woken.get(&item.task.id).copied().unwrap_or(0);
        agenda.push(AgendaRow { task: item.task.id, deadline, waits_for, woken, properties });
        if let Some(on) = waits_for {
            // What it waits for may have moved in this batch, before or after; or it came meanwhile, and
            // has woken whoever waited before that was written here.
            let version = |payment: Option<&Payment>| payment.map(Payment::version);
            let moved = version(self.payments.get(&on)) != version(self.locked.payments.get(&on));
            life.wakes.extend((moved || self.locked.too_late.contains(&on)).then_some(on));
        }
    }

    /// The payments that were there before, and that the batch has moved without being their task.
    pub(super) fn others(&self, life: &mut Life<'a>) {
        life.transitions.extend_from_slice(&self.decision.transitions);
        // Of a resumed task whose row the batch writes as such. One that another daemon was faster to
        // apply, or that is deferred, may still be acted on by others of the batch.
        let is_written = |(item, outcome): &(&Item<'_>, &Outcome)| {
            item.resumes && !matches!(outcome, Outcome::Duplicate | Outcome::Deferred { .. })
        };
        let items = self.layout.items.iter().zip(&self.decision.outcomes);
        let resumed: std::collections::HashSet<Uuid> = items.filter(is_written).map(|(item, _)| item.task.id).collect();
        for (id, before) in self.locked.payments.iter().filter(|(id, _)| !resumed.contains(*id)) {
            let Some(after) = self.payments.get(id).filter(|after| after.stage != before.stage) else { continue };
            life.updates.push(UpdateRow {
                id: *id,
                version: after.version(),
                version_before: before.version(),
                state: after.state().name(),
                progress: only_leg(after).map(progress),
                ..UpdateRow::default()
            });
            if after.listed {
                let changed = (0i16..).zip(before.legs.iter().zip(&after.legs)).filter(|(_, (was, is))| was != is);
                let update = |(leg, (_, is))| LegUpdateRow { payment: *id, leg, progress: self::progress(is) };
                life.leg_updates.extend(changed.map(update));
            }
            self.write_holds(Some(before), after, life);
            life.agenda_done.extend((before.state().is_pending() && !after.state().is_pending()).then_some(*id));
            life.wakes.extend(self.locked.someone_waits.then_some(*id));
        }
    }

    fn write_holds(&self, before: Option<&Payment>, after: &Payment, life: &mut Life<'a>) {
        for (ix, leg) in (0i16..).zip(&after.legs) {
            let before = before.and_then(|before| Some(before.held(before.legs.get(usize::from(ix.unsigned_abs()))?)));
            let rows = match (before.unwrap_or(0), after.held(leg)) {
                (was, is) if was == is => continue,
                (0, _) => &mut life.holds,
                (_, 0) => &mut life.holds_ended,
                _ => &mut life.holds_changed,
            };
            let (account, amount) = (self.accounts[leg.debit.0].id, after.held(leg));
            let expires_at = after.expires_at.unwrap_or(self.locked.now);
            rows.push(HoldRow { payment: after.id, leg: ix, account, amount, expires_at });
        }
    }

    /// An account's row, if more of it changed than a balance.
    pub(super) fn terms(before: &Account, after: &Account, opened: &[OpenedRow]) -> Option<TermsRow> {
        let terms = |account: &Account| (account.status, account.min_balance, account.max_balance, account.shortfall);
        let was = match before.status {
            AccountStatus::Unopened => opened
                .iter()
                .find(|row| row.account == before.id)
                .map_or(terms(before), |row| (AccountStatus::Open, row.min_balance, None, 0)),
            AccountStatus::Open | AccountStatus::Frozen | AccountStatus::Closed => terms(before),
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

/// The leg of a payment that has one in its own columns.
fn only_leg(payment: &Payment) -> Option<&PaymentLeg> {
    payment.legs.first().filter(|_| !payment.listed)
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
