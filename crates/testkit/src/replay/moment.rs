//! Replays the steps that have the same time, so that their order has to be found.

use super::model::Before;
use super::run::Run;

/// Limits for one moment: how often it is started again with one more known precedence, and how many attempts that
/// may take. Real moments need less, and the limits end the search for impossible records.
const TRIES: usize = 50;
const ATTEMPTS: usize = 100_000;

/// A step, and another that must come after it.
type Precedence = (usize, usize);

/// When to do steps that came after a delayed step in its batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// As soon as they give what is recorded.
    Less,
    /// After the delayed step, if they have an account in common with it.
    More,
}

/// The steps of a moment that have been done.
#[derive(Default)]
struct Done {
    /// Each with the length of `before` when it was done.
    steps: Vec<(usize, usize)>,
    before: Vec<Before>,
    attempts: usize,
}

impl Run<'_> {
    /// Does the steps of one moment, given in the order of arrival. Returns those that could not be done.
    ///
    /// Each step is done as soon as it gives what is recorded. If one never does, another step whose position isn't
    /// recorded, such as a freeze, may have been done too early. Then everything is undone, and that step has to come
    /// later.
    pub(super) fn moment(&mut self, steps: &[usize]) -> Vec<usize> {
        let mut precedence = Vec::new();
        let (mut attempts, mut is_last) = (0, false);
        loop {
            let (mut done, left) = self.pass(steps, &precedence);
            attempts += done.attempts;
            let held = if is_last { self.held(steps, &left, &precedence) } else { Vec::new() };
            if !held.is_empty() {
                precedence.extend(held);
                self.take_back(&mut done.before, 0);
                continue;
            }
            if left.is_empty() || is_last {
                // The entries have been compared.
                self.model.entries.clear();
                return left;
            }
            match self.overtaken(&left, &mut done) {
                Some(next) if precedence.len() < TRIES && attempts < ATTEMPTS && !precedence.contains(&next) => {
                    precedence.push(next);
                }
                _ => is_last = true,
            }
            self.take_back(&mut done.before, 0);
        }
    }

    fn pass(&mut self, steps: &[usize], precedence: &[Precedence]) -> (Done, Vec<usize>) {
        let (mut done, mut left) = (Done::default(), Vec::new());
        for step in steps {
            left.push(*step);
            let mut from = left.len() - 1;
            loop {
                let mark = done.before.len();
                done.attempts += left.len() - from;
                let next = (from..left.len()).find(|place| {
                    let is_done = |first: usize| done.steps.iter().any(|(step, _)| *step == first);
                    let mut those = precedence.iter().filter(|(_, then)| *then == left[*place]);
                    those.all(|(first, _)| is_done(*first)) && self.attempt(left[*place], &mut done.before)
                });
                let Some(place) = next else { break };
                done.steps.push((left.remove(place), mark));
                // Steps before `place` may have waited for this one.
                from = 0;
            }
        }
        (done, left)
    }

    /// Undoes steps, last first, until a step in `left` gives what is recorded: it belongs before the step undone
    /// last. Returns both.
    fn overtaken(&mut self, left: &[usize], done: &mut Done) -> Option<Precedence> {
        while let Some((then, mark)) = done.steps.pop().filter(|_| done.attempts < ATTEMPTS) {
            self.take_back(&mut done.before, mark);
            done.attempts += left.len();
            if let Some(first) = left.iter().find(|step| self.attempt(**step, &mut done.before)) {
                return Some((*first, then));
            }
        }
        None
    }

    /// Returns the steps that have to wait for those in `left`: steps after them in the same batch that share an
    /// account with them, and steps that share an account with those in turn.
    fn held(&self, steps: &[usize], left: &[usize], precedence: &[Precedence]) -> Vec<Precedence> {
        let mut held = Vec::new();
        if self.patience == Patience::Less {
            return held;
        }
        let at = |step: &usize| self.script.steps[*step].at;
        for batch in steps.chunk_by(|one, other| at(one) == at(other)) {
            let mut waits: Vec<(usize, Vec<String>)> = Vec::new();
            for step in batch {
                let accounts = self.accounts(*step);
                let meets = |(_, others): &&(usize, Vec<String>)| others.iter().any(|name| accounts.contains(name));
                let first = waits.iter().find(meets).map(|(first, _)| *first);
                if left.contains(step) {
                    waits.push((*step, accounts));
                } else if let Some(first) = first {
                    held.push((first, *step));
                    waits.push((*step, accounts));
                }
            }
        }
        held.retain(|next| !precedence.contains(next));
        held
    }

    pub(super) fn take_back(&mut self, done: &mut Vec<Before>, to: usize) {
        for before in done.drain(to..).rev() {
            self.model.take_back(before);
        }
    }
}
