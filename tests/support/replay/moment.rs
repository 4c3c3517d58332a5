//! The steps of one moment, among which the clock tells no order.

use super::model::Before;
use super::run::Run;

/// How often a moment is begun again with one more step that has to come before another, and how
/// many attempts that may cost: enough for what real moments leave open, and an end for what never
/// was.
const TRIES: usize = 50;
const ATTEMPTS: usize = 100_000;

/// One step that comes before another.
type Precedence = (usize, usize);

/// What is done with those that came after a step that is left, in its batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// They are done as soon as they come to what is recorded.
    Less,
    /// They wait with it where they meet.
    More,
}

/// What was done of a moment.
#[derive(Default)]
struct Done {
    /// Each with how much there was to be taken back before it.
    steps: Vec<(usize, usize)>,
    before: Vec<Before>,
    attempts: usize,
}

impl Run<'_> {
    /// Does the steps of one moment, given in the order in which they came; answers those that have
    /// not had their turn.
    ///
    /// Each is done as soon as it comes to what is recorded. One that never does may have been
    /// overtaken by another that nothing tells the place of, a freeze for instance: then all is taken
    /// back, and that one has to wait.
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
                // They were compared already.
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
                // Whoever has had to wait for it.
                from = 0;
            }
        }
        (done, left)
    }

    /// Takes back what was done, last first, until one of those that are left comes to what is
    /// recorded: it belongs before what was taken back last.
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

    /// What has to wait with those that are left: what came after them in the same batch and has an
    /// account in common with them, and what came after that in turn.
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
