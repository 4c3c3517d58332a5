//! The steps of the replay in their recorded order, read from the rows before any of them is done.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::contract::{PaymentState, Rejection};
use super::recorded::{Payment, Recorded, Transition};

/// Maximum time from a transaction's reading of the clock to its commit. Until then, others see the state before it.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(60);

/// A decision on a task, or the expiry of a hold.
pub(super) struct Step {
    pub(super) at: Timestamp,
    pub(super) deed: Deed,
    /// The resulting state and version.
    pub(super) state: PaymentState,
    pub(super) version: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// The task at this index was decided.
    Decide(usize),
    /// The hold of this payment expired.
    RunOut(Uuid),
}

/// A task that waited, or that was rejected after waiting. It changes only the task itself.
pub(super) struct Wait {
    /// Index of the task.
    pub(super) task: usize,
    /// A waiting state, or rejected.
    pub(super) state: PaymentState,
    /// Earliest time at which the task may have been found to have to wait.
    pub(super) from: Timestamp,
    /// Latest time for that.
    pub(super) to: Timestamp,
}

/// Everything that happened.
#[derive(Default)]
pub(super) struct Script {
    /// In the recorded order.
    pub(super) steps: Vec<Step>,
    pub(super) waits: Vec<Wait>,
    /// The change that each follow-up made to its payment.
    pub(super) acts: HashMap<Uuid, Transition>,
    /// Index of each task.
    pub(super) places: HashMap<Uuid, usize>,
    /// When each task was decided, unless it is still waiting.
    decided: Vec<Option<Timestamp>>,
}

impl Script {
    /// Derives the steps from the records.
    ///
    /// # Errors
    ///
    /// Describes rows that contradict each other.
    pub(super) fn of(recorded: &Recorded) -> Result<Self, String> {
        let mut script = Self::default();
        for (place, payment) in recorded.payments.iter().enumerate() {
            script.places.insert(payment.task.id, place);
            let transitions = recorded.transitions.get(&payment.task.id).map_or(&[][..], Vec::as_slice);
            script.life(place, payment, transitions).map_err(|found| format!("{}: {found}", payment.task.id))?;
        }
        script.nothing_of_nobody(recorded)?;
        let order = |step: &Step| match step.deed {
            // The scheduler ends holds before it resumes tasks.
            Deed::RunOut(payment) => (step.at, None, payment),
            Deed::Decide(place) => {
                let Payment { task, received_at, .. } = &recorded.payments[place];
                // Scheduled tasks are resumed in the order of their due times.
                let due = task.when.execute_at.filter(|_| step.version > 1);
                let came = due.map_or(*received_at, |due| due.max(*received_at));
                (step.at, Some(came), task.id)
            }
        };
        script.steps.sort_by_cached_key(order);
        Ok(script)
    }

    /// Adds the steps and waits of one task.
    fn life(&mut self, place: usize, payment: &Payment, transitions: &[Transition]) -> Result<(), String> {
        let own = Some(payment.task.id);
        let first = transitions.first().map_or(payment.state, |transition| transition.from);
        let mut before = (first, 1);
        for step in transitions {
            if (step.from, step.version) != (before.0, before.1 + 1) {
                return Err(format!("{step:?} does not follow {before:?}"));
            }
            before = (step.to, step.version);
        }
        if before != (payment.state, payment.version) {
            return Err(format!("it is {:?} at version {}, not {before:?}", payment.state, payment.version));
        }
        // `settled_at` of a task that was tried again is the time of the last try that changed its state.
        let looks = || transitions.iter().filter(|transition| transition.cause == own);
        if looks().next_back().is_some_and(|last| last.at != payment.settled_at) {
            return Err(format!("it was decided at {}, its transitions say otherwise", payment.settled_at));
        }
        let came = payment.received_at;
        let early = came.saturating_sub(ON_ITS_WAY).unwrap_or(Timestamp::MIN);
        let decided_before = self.steps.len();
        match (first, looks().next()) {
            // The exact time of arrival is recorded only if the task was not tried again.
            (PaymentState::Scheduled, None) => {
                let (from, to) = (payment.settled_at, payment.settled_at);
                self.waits.push(Wait { task: place, state: first, from, to });
            }
            (PaymentState::Scheduled, Some(look)) => {
                self.waits.push(Wait { task: place, state: first, from: came, to: look.at });
            }
            (PaymentState::Parked, look) => {
                let to = look.map_or(payment.settled_at, |look| look.at);
                self.waits.push(Wait { task: place, state: first, from: early, to });
            }
            _ => {
                let (state, version) = (first, 1);
                self.steps.push(Step { at: payment.settled_at, deed: Deed::Decide(place), state, version });
            }
        }
        for step in transitions {
            let Transition { version, at, to, .. } = *step;
            match step.cause {
                None => self.steps.push(Step { at, deed: Deed::RunOut(payment.task.id), state: to, version }),
                cause if cause == own && !step.from.is_pending() => {
                    return Err(format!("it was decided twice: {step:?}"));
                }
                cause if cause == own && to.is_pending() => {
                    self.waits.push(Wait { task: place, state: to, from: early, to: at });
                }
                cause if cause == own => {
                    self.steps.push(Step { at, deed: Deed::Decide(place), state: to, version });
                    if to == PaymentState::Rejected && payment.reason.is_some_and(is_for_want_of_another) {
                        let from = early.max(at.saturating_sub(ON_ITS_WAY).unwrap_or(Timestamp::MIN));
                        self.waits.push(Wait { task: place, state: to, from, to: at });
                    }
                }
                Some(cause) => {
                    if let Some(other) = self.acts.insert(cause, *step) {
                        return Err(format!("{cause} did two things: {other:?}, {step:?}"));
                    }
                }
            }
        }
        let is_decision = |step: &Step| step.deed == Deed::Decide(place);
        self.decided.push(self.steps[decided_before..].iter().find(|step| is_decision(step)).map(|step| step.at));
        Ok(())
    }

    /// Checks that every change and every entry was made by an existing task, at the time of its decision.
    fn nothing_of_nobody(&self, recorded: &Recorded) -> Result<(), String> {
        let decided = |id: &Uuid| self.places.get(id).and_then(|place| self.decided[*place]);
        if let Some(id) = recorded.transitions.keys().find(|id| !self.places.contains_key(id)) {
            return Err(format!("there are transitions of {id}, and no such task"));
        }
        if let Some(id) = recorded.entries.keys().find(|id| decided(id).is_none()) {
            return Err(format!("there are entries of {id}, which was never decided"));
        }
        match self.acts.iter().find(|(cause, act)| decided(cause) != Some(act.at)) {
            Some((cause, act)) => Err(format!("{act:?} is not of when its cause was decided: {:?}", decided(cause))),
            None => Ok(()),
        }
    }
}

/// Returns true if a task that waited too long for another one is rejected for this reason.
const fn is_for_want_of_another(reason: Rejection) -> bool {
    matches!(
        reason,
        Rejection::PaymentNotFound
            | Rejection::DependencyNotFound
            | Rejection::NotCaptured
            | Rejection::AmountExceedsRemaining
    )
}

/// Returns the reason if the step is a rejection.
pub(super) fn reason(payment: &Payment, step: &Step) -> Option<Rejection> {
    payment.reason.filter(|_| step.state == PaymentState::Rejected)
}
