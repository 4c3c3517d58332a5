//! Which fault strikes when: a pure function of the faults, the time and the seed, so that a run can
//! be repeated.

use std::time::Duration;

use fastrand::Rng;

use super::fault::Fault;

/// Without a count, a fault strikes so often that all of them together leave this much time to each
/// strike.
const USUAL_GAP: Duration = Duration::from_secs(6);
/// One of so many times a daemon stands still for longer than anybody waits for a sign of life.
const LONG_ONES: usize = 10;
const LONG: Duration = Duration::from_secs(25);
/// How far a strike may be from its place in an even spread, as a part of the distance.
const JITTER: f64 = 0.4;
/// How much of the time passes before the first strike, at the most.
const LEAD: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strike {
    /// When, from the begin of the load; later if the one before is not over by then.
    pub(super) at: Duration,
    pub(super) fault: Fault,
    pub(super) hold: Duration,
    pub(super) draw: u32,
}

/// When to strike, in order. A fault without a count of its own has `usual`, or else its share of the
/// time; `hold` is for all that last, instead of what is usual for them.
pub(super) fn schedule(
    faults: &[(Fault, Option<usize>)],
    usual: Option<usize>,
    (duration, hold): (Duration, Option<Duration>),
    seed: u64,
) -> Vec<Strike> {
    let mut rng = Rng::with_seed(seed);
    let share = duration.as_secs_f64() / USUAL_GAP.as_secs_f64() / faults.len().max(1) as f64;
    let share = (share as usize).max(1);
    let mut strikes: Vec<(Fault, Duration)> = Vec::new();
    for (fault, count) in faults {
        let count = count.or(usual).unwrap_or(share);
        strikes.extend((1..=count).map(|nth| (*fault, lasting(*fault, nth, hold, &mut rng))));
    }
    rng.shuffle(&mut strikes);
    let lead = LEAD.min(duration / 10);
    let gap = (duration - lead).as_secs_f64() / strikes.len().max(1) as f64;
    let place = |(place, (fault, hold)): (usize, (Fault, Duration))| {
        let jitter = (rng.f64() - 0.5) * 2.0 * JITTER;
        let at = lead + Duration::from_secs_f64(gap * (place as f64 + 0.5 + jitter));
        Strike { at, fault, hold, draw: rng.u32(..) }
    };
    strikes.into_iter().enumerate().map(place).collect()
}

fn lasting(fault: Fault, nth: usize, hold: Option<Duration>, rng: &mut Rng) -> Duration {
    let Some(range) = fault.lasts() else { return Duration::ZERO };
    // Drawn in any case: what is said of one thing changes nothing else.
    let usual = Duration::from_millis(rng.u64(range));
    let long = fault == Fault::Freeze && nth.is_multiple_of(LONG_ONES);
    hold.or(long.then_some(LONG)).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn all(usual: Option<usize>, hold: Option<Duration>, seed: u64) -> Vec<Strike> {
        let faults: Vec<_> = Fault::value_variants().iter().map(|fault| (*fault, None)).collect();
        schedule(&faults, usual, (MINUTE, hold), seed)
    }

    #[test]
    fn a_schedule_is_a_pure_function_of_its_seed() {
        assert_eq!(all(None, None, 7), all(None, None, 7));
        assert_ne!(all(None, None, 7), all(None, None, 8));
        let whom = |strikes: Vec<Strike>| strikes.into_iter().map(|strike| (strike.at, strike.fault, strike.draw));
        assert!(whom(all(None, None, 7)).eq(whom(all(None, Some(MINUTE), 7))));
    }

    #[test]
    fn every_fault_strikes_as_often_as_it_is_to_within_the_time_and_in_order() {
        let strikes = all(Some(3), None, 1);
        for fault in Fault::value_variants() {
            assert_eq!(strikes.iter().filter(|strike| strike.fault == *fault).count(), 3, "{fault}");
        }
        assert!(strikes.is_sorted_by_key(|strike| strike.at));
        assert!(strikes.iter().all(|strike| strike.at < MINUTE && strike.hold <= Duration::from_secs(8)));
        let counted = schedule(&[(Fault::Kill, Some(4)), (Fault::Term, None)], None, (MINUTE, None), 1);
        assert_eq!(counted.iter().filter(|strike| strike.fault == Fault::Kill).count(), 4);
        assert_eq!(counted.len(), 4 + 5);
    }

    #[test]
    fn a_daemon_is_frozen_for_longer_than_a_heartbeat_now_and_then() {
        let strikes = schedule(&[(Fault::Freeze, Some(30))], None, (MINUTE, None), 1);
        assert_eq!(strikes.iter().filter(|strike| strike.hold > Duration::from_secs(20)).count(), 3);
        let held = schedule(&[(Fault::DbStop, Some(1))], None, (MINUTE, Some(10 * MINUTE)), 1);
        assert_eq!(held[0].hold, 10 * MINUTE);
    }
}
