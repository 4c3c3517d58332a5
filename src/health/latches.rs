//! What is up, what is down, and since when: plain values, told the time.

use jiff::Timestamp;
use serde::Serialize;

use crate::telemetry::labels::Dependency;

/// One dependency as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DependencyState {
    /// Its name, as in the label of `settled_dependency_up`.
    pub name: &'static str,
    /// Whether it answers.
    pub up: bool,
    /// Why it doesn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it has been up, or down (whatever the reason).
    pub since: Timestamp,
}

/// A condition and when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What the daemon is doing, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Takes tasks.
    Ready,
    /// Waits for a dependency.
    Waiting,
    /// Takes no tasks because none can be committed.
    Paused,
    /// Finishes what it has and stops.
    Draining,
}

impl Phase {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// The answer to "can it take tasks, and if not, why not?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether the daemon takes tasks.
    pub ready: bool,
    /// What it does.
    pub status: Phase,
    /// Each dependency.
    pub dependencies: Vec<DependencyState>,
    /// Why intake is paused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Condition>,
    /// Why the broker takes no events, if it blocks them. Payments go on; the outbox grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_blocked: Option<Condition>,
}

impl Readiness {
    /// The state in one line, for `systemctl status` and the log.
    pub fn summary(&self) -> String {
        let reasons: Vec<String> = self
            .dependencies
            .iter()
            .filter_map(|state| Some(format!("{}: {}", state.name, state.reason.as_deref()?)))
            .chain(self.paused.iter().map(|paused| paused.reason.clone()))
            .chain(self.broker_blocked.iter().map(|blocked| format!("broker blocks publishing: {}", blocked.reason)))
            .collect();
        if reasons.is_empty() {
            return self.status.name().to_owned();
        }
        format!("{} ({})", self.status.name(), reasons.join("; "))
    }
}

/// The reason before the first attempt to connect.
const NOT_CONNECTED_YET: &str = "not connected yet";

/// What a report that a dependency is down adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Down {
    /// Nothing.
    Known,
    /// It is down as before, for another reason. With several hosts the reasons may alternate.
    OtherReason,
    /// It was up, or nobody had tried.
    News,
}

/// The state behind [`Readiness`]. Every setter says whether something changed.
#[derive(Clone, Debug)]
pub(super) struct Latches {
    dependencies: Vec<DependencyState>,
    paused: Option<Condition>,
    broker_blocked: Option<Condition>,
    draining: bool,
}

impl Latches {
    /// Everything is down until it has been seen up.
    pub(super) fn new(now: Timestamp) -> Self {
        let starting = |dependency: &Dependency| DependencyState {
            name: dependency.name(),
            up: false,
            reason: Some(NOT_CONNECTED_YET.to_owned()),
            since: now,
        };
        Self {
            dependencies: Dependency::ALL.iter().map(starting).collect(),
            paused: None,
            broker_blocked: None,
            draining: false,
        }
    }

    /// `Some(since when it was down)` when it was.
    pub(super) fn set_up(&mut self, dependency: Dependency, now: Timestamp) -> Option<Timestamp> {
        let state = &mut self.dependencies[dependency as usize];
        if state.up {
            return None;
        }
        let was_down_since = state.since;
        (state.up, state.reason, state.since) = (true, None, now);
        Some(was_down_since)
    }

    /// What that is to what was known before.
    pub(super) fn set_down(&mut self, dependency: Dependency, reason: &str, now: Timestamp) -> Down {
        let state = &mut self.dependencies[dependency as usize];
        let down = match state.reason.as_deref() {
            Some(known) if known == reason => return Down::Known,
            Some(NOT_CONNECTED_YET) => Down::News,
            Some(_) => Down::OtherReason,
            None => {
                state.since = now;
                Down::News
            }
        };
        (state.up, state.reason) = (false, Some(reason.to_owned()));
        down
    }

    /// Whether it was not paused before.
    pub(super) fn pause(&mut self, reason: &str, now: Timestamp) -> bool {
        begin(&mut self.paused, reason, now)
    }

    /// `Some(the pause)` when it was paused.
    pub(super) fn resume(&mut self) -> Option<Condition> {
        self.paused.take()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Whether it was not blocked before.
    pub(super) fn block(&mut self, reason: &str, now: Timestamp) -> bool {
        begin(&mut self.broker_blocked, reason, now)
    }

    /// `Some(the block)` when it was blocked.
    pub(super) fn unblock(&mut self) -> Option<Condition> {
        self.broker_blocked.take()
    }

    /// Whether it was not draining before. There is no way back.
    pub(super) fn drain(&mut self) -> bool {
        !std::mem::replace(&mut self.draining, true)
    }

    pub(super) fn readiness(&self) -> Readiness {
        let status = if self.draining {
            Phase::Draining
        } else if self.dependencies.iter().any(|state| !state.up) {
            Phase::Waiting
        } else if self.paused.is_some() {
            Phase::Paused
        } else {
            Phase::Ready
        };
        Readiness {
            ready: status == Phase::Ready,
            status,
            dependencies: self.dependencies.clone(),
            paused: self.paused.clone(),
            broker_blocked: self.broker_blocked.clone(),
        }
    }
}

/// Begins a condition, or brings its reason up to date.
fn begin(condition: &mut Option<Condition>, reason: &str, now: Timestamp) -> bool {
    match condition {
        Some(present) => {
            reason.clone_into(&mut present.reason);
            false
        }
        None => {
            *condition = Some(Condition { reason: reason.to_owned(), since: now });
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn all_up() -> Latches {
        let mut latches = Latches::new(at(0));
        for &dependency in Dependency::ALL {
            latches.set_up(dependency, at(1));
        }
        latches
    }

    #[test]
    fn a_new_daemon_waits_for_everything() {
        let readiness = Latches::new(at(0)).readiness();
        assert_eq!((readiness.ready, readiness.status), (false, Phase::Waiting));
        assert!(readiness.dependencies.iter().all(|state| !state.up && state.since == at(0)));
        assert!(readiness.summary().starts_with("waiting (postgres: not connected yet; broker_intake: "));
    }

    #[test]
    fn a_change_is_a_change_once() {
        let mut latches = Latches::new(at(0));
        assert_eq!(latches.set_up(Dependency::Postgres, at(3)), Some(at(0)));
        assert_eq!(latches.set_up(Dependency::Postgres, at(4)), None);
        assert_eq!(latches.set_down(Dependency::Postgres, "refused", at(5)), Down::News);
        assert_eq!(latches.set_down(Dependency::Postgres, "refused", at(6)), Down::Known);
        assert_eq!(latches.set_down(Dependency::BrokerIntake, "refused", at(6)), Down::News);
        assert!(latches.pause("disk full", at(7)));
        assert!(!latches.pause("disk full", at(8)));
        assert_eq!(latches.resume().map(|pause| pause.since), Some(at(7)));
        assert_eq!(latches.resume(), None);
        assert!(latches.block("memory", at(8)));
        assert!(latches.unblock().is_some());
        assert!(latches.drain());
        assert!(!latches.drain());
    }

    #[test]
    fn another_reason_does_not_reset_the_time() {
        let mut latches = all_up();
        latches.set_down(Dependency::BrokerIntake, "refused", at(5));
        assert_eq!(latches.set_down(Dependency::BrokerIntake, "timed out", at(9)), Down::OtherReason);
        let state = &latches.readiness().dependencies[Dependency::BrokerIntake as usize];
        assert_eq!((state.since, state.reason.as_deref()), (at(5), Some("timed out")));
    }

    #[test]
    fn ready_means_all_up_and_neither_paused_nor_draining() {
        let mut latches = all_up();
        assert_eq!(latches.readiness().summary(), "ready");
        latches.block("disk alarm", at(2));
        assert!(latches.readiness().ready, "payments go on while the broker takes no events");
        latches.pause("the disk is full", at(2));
        assert_eq!(latches.readiness().status, Phase::Paused);
        latches.resume();
        latches.set_down(Dependency::BrokerRelay, "gone", at(3));
        assert_eq!(latches.readiness().status, Phase::Waiting);
        latches.drain();
        assert_eq!(latches.readiness().status, Phase::Draining);
    }
}
