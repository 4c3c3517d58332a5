//! Which dependencies and conditions hold, and since when. Plain values: the caller passes the time.

use jiff::Timestamp;
use serde::Serialize;

use crate::labels::{Dependency, label};

/// Why a dependency is unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The reason, for operators, with what they can do about it.
    pub reason: String,
    /// Whether the server answered and refuses access: a wrong password, a missing permission. Waiting alone does not
    /// help then.
    pub refused: bool,
}

impl Outage {
    /// The server refuses access, for this reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), refused: true }
    }
}

impl From<String> for Outage {
    fn from(reason: String) -> Self {
        Self { reason, refused: false }
    }
}

impl From<&str> for Outage {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// The state of a dependency, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DependencyState {
    /// The name, as in the label of `settled_dependency_up`.
    pub name: &'static str,
    /// Whether the dependency is available.
    pub up: bool,
    /// Why the dependency is down, for operators; `None` while it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the server answers and refuses access, so that somebody has to act. Left out while it does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// When it became up or down. Another reason does not change the time.
    pub since: Timestamp,
}

/// A condition such as a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The latest reason, for operators.
    pub reason: String,
    /// When the condition began.
    pub since: Timestamp,
}

/// Something that a reflex did and that is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// The reflex, as in the labels of `settled_reflex_active`.
    pub reflex: &'static str,
    /// The publisher that it is about, if it is about one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub publisher: String,
    /// Whether no tasks are taken because of it.
    pub pauses: bool,
    /// Its cause, for operators.
    pub reason: String,
    /// When it began.
    pub since: Timestamp,
}

label! {
    /// The phase that the daemon is in.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    Phase {
        /// The daemon takes tasks.
        Ready = "ready",
        /// The daemon waits for a dependency.
        Waiting = "waiting",
        /// The daemon waits for a dependency that refuses access: somebody has to act.
        Refused = "refused",
        /// The daemon takes no tasks, because none can be committed, or because of a reflex.
        Paused = "paused",
        /// The daemon finishes its tasks in flight: it stops, or an operator has drained it.
        Draining = "draining",
        /// An operator has drained the daemon: it has nothing in hand, and takes no tasks until it is resumed.
        Drained = "drained",
    }
}

/// Whether the daemon takes tasks, and the reasons if it does not: the body of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether the daemon takes tasks: the status is [`Phase::Ready`].
    pub ready: bool,
    /// The phase that the daemon is in.
    pub status: Phase,
    /// The state of each dependency, in the order of [`Dependency::ALL`].
    pub dependencies: Vec<DependencyState>,
    /// Why intake is paused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Condition>,
    /// Why the broker blocks publishing, if it does. Payments go on, and the outbox grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_blocked: Option<Condition>,
    /// Since when the daemon takes no tasks because an operator has drained it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Condition>,
    /// Whether the daemon stops.
    #[serde(skip)]
    pub stops: bool,
    /// What the daemon has done by itself and not undone yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reflexes: Vec<Action>,
}

impl Readiness {
    /// Returns status and reasons in one line, for `systemctl status` and the log.
    pub fn summary(&self) -> String {
        let reasons = self.reasons();
        if reasons.is_empty() {
            return self.status.name().to_owned();
        }
        format!("{} ({})", self.status.name(), reasons.join("; "))
    }

    /// Returns what is not as it should be, for operators.
    pub fn reasons(&self) -> Vec<String> {
        self.dependencies
            .iter()
            .filter_map(|state| Some(format!("{}: {}", state.name, state.reason.as_deref()?)))
            .chain(self.paused.iter().map(|paused| paused.reason.clone()))
            .chain(self.maintenance.iter().map(|maintenance| maintenance.reason.clone()))
            .chain(self.reflexes.iter().map(|action| format!("reflex {}: {}", action.reflex, action.reason)))
            .chain(self.broker_blocked.iter().map(|blocked| format!("broker blocks publishing: {}", blocked.reason)))
            .collect()
    }
}

/// The reason that a dependency is down before the first attempt to connect.
const NOT_CONNECTED_YET: &str = "not connected yet";

/// What is new about a report that a dependency is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Down {
    /// It was down before, for the same reason.
    Known,
    /// It was down before, for another reason. With several hosts the reasons may alternate.
    OtherReason,
    /// It was up, or this was the first attempt to connect.
    News,
}

/// The state that [`Readiness`] shows.
#[derive(Clone, Debug)]
pub(super) struct Latches {
    dependencies: Vec<DependencyState>,
    pub(super) paused: Latch,
    pub(super) broker_blocked: Latch,
    pub(super) maintenance: Latch,
    /// Whether everything was finished since the maintenance has begun.
    pub(super) drained: bool,
    pub(super) actions: Vec<Action>,
    /// Whether the drain has begun. It cannot be undone.
    pub(super) draining: bool,
}

/// A condition that begins and ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Latch(Option<Condition>);

impl Latch {
    /// Begins the condition and returns true, or updates its reason and returns false.
    pub(super) fn begin(&mut self, reason: &str, now: Timestamp) -> bool {
        let begins = self.0.is_none();
        let condition = self.0.get_or_insert_with(|| Condition { reason: String::new(), since: now });
        reason.clone_into(&mut condition.reason);
        begins
    }

    /// Ends the condition. Returns since when it was there, if it was.
    pub(super) fn end(&mut self) -> Option<Timestamp> {
        self.0.take().map(|condition| condition.since)
    }

    pub(super) const fn holds(&self) -> bool {
        self.0.is_some()
    }
}

impl Latches {
    /// Begins with all dependencies down that every daemon has.
    pub(super) fn new(now: Timestamp) -> Self {
        let mut latches = Self {
            dependencies: Vec::new(),
            paused: Latch::default(),
            broker_blocked: Latch::default(),
            maintenance: Latch::default(),
            drained: false,
            actions: Vec::new(),
            draining: false,
        };
        for dependency in [Dependency::Postgres, Dependency::BrokerIntake, Dependency::BrokerRelay] {
            latches.add(dependency, now);
        }
        latches
    }

    /// Adds a dependency that is down. Those of [`Dependency::ALL`] before it are there already.
    pub(super) fn add(&mut self, dependency: Dependency, now: Timestamp) {
        self.dependencies.push(DependencyState {
            name: dependency.name(),
            up: false,
            reason: Some(NOT_CONNECTED_YET.to_owned()),
            refused: false,
            since: now,
        });
    }

    /// Returns since when the dependency was down, or `None` if it was up.
    pub(super) fn set_up(&mut self, dependency: Dependency, now: Timestamp) -> Option<Timestamp> {
        let state = self.dependencies.get_mut(dependency as usize).filter(|state| !state.up)?;
        let was_down_since = state.since;
        (state.up, state.reason, state.refused, state.since) = (true, None, false, now);
        Some(was_down_since)
    }

    pub(super) fn set_down(&mut self, dependency: Dependency, outage: impl Into<Outage>, now: Timestamp) -> Down {
        let Outage { reason, refused } = outage.into();
        let state = &mut self.dependencies[dependency as usize];
        let down = match state.reason.as_deref() {
            Some(known) if known == reason => return Down::Known,
            Some(NOT_CONNECTED_YET) => Down::News,
            // That waiting is not enough, or that it is again, is news.
            Some(_) if refused != state.refused => Down::News,
            Some(_) => Down::OtherReason,
            None => {
                state.since = now;
                Down::News
            }
        };
        (state.up, state.reason, state.refused) = (false, Some(reason), refused);
        down
    }

    /// Whether a reflex keeps tasks from being taken.
    pub(super) fn is_held(&self) -> bool {
        self.actions.iter().any(|action| action.pauses)
    }

    pub(super) fn readiness(&self) -> Readiness {
        let in_maintenance = self.maintenance.holds();
        let status = if in_maintenance && self.drained && !self.draining {
            Phase::Drained
        } else if self.draining || in_maintenance {
            Phase::Draining
        } else if self.dependencies.iter().any(|state| state.refused) {
            Phase::Refused
        } else if self.dependencies.iter().any(|state| !state.up) {
            Phase::Waiting
        } else if self.paused.holds() || self.is_held() {
            Phase::Paused
        } else {
            Phase::Ready
        };
        Readiness {
            ready: status == Phase::Ready,
            status,
            dependencies: self.dependencies.clone(),
            paused: self.paused.0.clone(),
            broker_blocked: self.broker_blocked.0.clone(),
            maintenance: self.maintenance.0.clone(),
            stops: self.draining,
            reflexes: self.actions.clone(),
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
        assert!(latches.paused.begin("disk full", at(7)));
        assert!(!latches.paused.begin("disk full", at(8)));
        assert_eq!(latches.paused.end(), Some(at(7)));
        assert_eq!(latches.paused.end(), None);
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
        latches.broker_blocked.begin("disk alarm", at(2));
        assert!(latches.readiness().ready, "payments go on while the broker takes no events");
        latches.paused.begin("the disk is full", at(2));
        assert_eq!(latches.readiness().status, Phase::Paused);
        latches.paused.end();
        latches.set_down(Dependency::BrokerRelay, "gone", at(3));
        assert_eq!(latches.readiness().status, Phase::Waiting);
        assert_eq!(latches.set_down(Dependency::BrokerRelay, Outage::refused("403"), at(4)), Down::News);
        assert_eq!(latches.readiness().status, Phase::Refused);
        latches.set_up(Dependency::BrokerRelay, at(5));
        assert_eq!(latches.readiness().status, Phase::Ready);
        latches.set_down(Dependency::BrokerRelay, "gone", at(6));
        latches.draining = true;
        assert_eq!(latches.readiness().status, Phase::Draining);
    }

    #[test]
    fn maintenance_drains_and_ends() {
        let mut latches = all_up();
        latches.maintenance.begin("drained by an operator", at(2));
        let draining = latches.readiness();
        assert_eq!((draining.ready, draining.status, draining.stops), (false, Phase::Draining, false));
        assert_eq!(draining.summary(), "draining (drained by an operator)");
        latches.drained = true;
        assert_eq!(latches.readiness().status, Phase::Drained);
        latches.draining = true;
        assert_eq!((latches.readiness().status, latches.readiness().stops), (Phase::Draining, true));
        latches.draining = false;
        latches.maintenance.end();
        assert!(latches.readiness().ready);
    }
}
