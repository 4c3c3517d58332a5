//! When a reflex acts and when its action is undone. Plain values: the caller passes the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Mode;

/// The most actions of one reflex within an hour. What comes and goes more often needs a person.
pub const MOST: usize = 3;

/// See [`MOST`].
const PERIOD: Duration = Duration::from_secs(3600);

/// One reflex, of one subject.
#[derive(Debug, Default)]
pub(super) struct Latch {
    state: State,
    /// When it acted within the last [`PERIOD`].
    acted: VecDeque<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is no cause.
    #[default]
    Idle,
    /// There is a cause, and nothing was done.
    Seen,
    /// The action is in effect.
    Acting,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There is a cause, and the mode is [`Mode::Observe`].
    Observed,
    /// The action begins.
    Acted,
    /// There is a cause, and the reflex has acted [`MOST`] times within the hour.
    Suppressed,
    /// The action ends, because its cause has gone.
    Undone,
    /// The action ends, because somebody has changed the mode.
    CalledOff,
}

impl Latch {
    /// Looks whether there is a cause. Returns what has changed.
    pub(super) fn step(&mut self, cause: bool, mode: Mode, now: Instant) -> Option<Change> {
        let (state, change) = match (self.state, mode, cause) {
            (State::Acting, Mode::Act, true) => return None,
            (State::Acting, Mode::Act, false) => (State::Idle, Some(Change::Undone)),
            (State::Acting, Mode::Off | Mode::Observe, _) => (State::Idle, Some(Change::CalledOff)),
            (_, Mode::Off, _) | (_, _, false) => (State::Idle, None),
            (_, Mode::Act, true) if self.may_act(now) => {
                self.acted.push_back(now);
                (State::Acting, Some(Change::Acted))
            }
            (State::Seen, _, true) => return None,
            (State::Idle, Mode::Act, true) => (State::Seen, Some(Change::Suppressed)),
            (State::Idle, Mode::Observe, true) => (State::Seen, Some(Change::Observed)),
        };
        self.state = state;
        change
    }

    /// Whether the action is in effect.
    pub(super) fn is_acting(&self) -> bool {
        self.state == State::Acting
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_forgettable(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.state == State::Idle && self.acted.is_empty()
    }

    fn may_act(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.acted.len() < MOST
    }

    fn forget(&mut self, now: Instant) {
        while self.acted.front().is_some_and(|acted| now.duration_since(*acted) >= PERIOD) {
            self.acted.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_lasts_as_long_as_its_cause() {
        let (mut latch, now) = (Latch::default(), Instant::now());
        assert_eq!(latch.step(false, Mode::Act, now), None);
        assert_eq!(latch.step(true, Mode::Act, now), Some(Change::Acted));
        assert_eq!(latch.step(true, Mode::Act, now), None);
        assert!(latch.is_acting());
        assert_eq!(latch.step(false, Mode::Act, now), Some(Change::Undone));
        assert!(!latch.is_acting());
    }

    #[test]
    fn observing_tells_once_and_does_nothing() {
        let (mut latch, now) = (Latch::default(), Instant::now());
        assert_eq!(latch.step(true, Mode::Observe, now), Some(Change::Observed));
        assert_eq!(latch.step(true, Mode::Observe, now), None);
        assert_eq!(latch.step(false, Mode::Observe, now), None);
        assert_eq!(latch.step(true, Mode::Observe, now), Some(Change::Observed));
        assert!(!latch.is_acting());
        assert_eq!(latch.step(true, Mode::Act, now), Some(Change::Acted), "a reload takes effect at once");
    }

    #[test]
    fn another_mode_calls_an_action_off() {
        for mode in [Mode::Observe, Mode::Off] {
            let (mut latch, now) = (Latch::default(), Instant::now());
            latch.step(true, Mode::Act, now);
            assert_eq!(latch.step(true, mode, now), Some(Change::CalledOff));
            assert!(!latch.is_acting());
        }
    }

    #[test]
    fn what_flaps_is_left_alone_after_three_actions_within_the_hour() {
        let (mut latch, begin) = (Latch::default(), Instant::now());
        let minute = |minutes: u64| begin + Duration::from_secs(60 * minutes);
        for time in 0..3 {
            assert_eq!(latch.step(true, Mode::Act, minute(time)), Some(Change::Acted));
            assert_eq!(latch.step(false, Mode::Act, minute(time)), Some(Change::Undone));
        }
        assert_eq!(latch.step(true, Mode::Act, minute(3)), Some(Change::Suppressed));
        assert_eq!(latch.step(true, Mode::Act, minute(59)), None);
        assert!(!latch.is_acting());
        assert_eq!(latch.step(true, Mode::Act, minute(60)), Some(Change::Acted), "the first is an hour ago");
        assert!(!latch.is_forgettable(minute(60)));
        latch.step(false, Mode::Act, minute(60));
        assert!(latch.is_forgettable(minute(120)));
    }
}
