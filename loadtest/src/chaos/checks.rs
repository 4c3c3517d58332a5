//! Whether a run was what it claims to be, and what faults have to leave alone besides the books.

use std::time::Duration;

use super::fault::Fault;
use super::record::{Exit, Struck};
use super::schedule::Strike;
use crate::judge::verdict::{self, none};
use crate::report::model::Check;

/// How much of the rate has to have been published.
const LEAST_RATE: f64 = 0.85;
/// How long a daemon may take to end when it is asked to.
const MOST_TO_END: f64 = 10.0;
/// How long a half-open connection may go unnoticed.
const MOST_TO_FIND: f64 = 20.0;
/// How long a fault has to last for the memory to tell anything.
const LONG: f64 = 60.0;
/// How much more memory may be used during a long one.
const MOST_MEMORY: f64 = 1.1;

#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) strikes: &'a [Strike],
    pub(super) struck: &'a [Struck],
    /// How many tasks had to be in flight.
    pub(super) in_flight: u64,
    /// Messages per second: wanted, and published and confirmed.
    pub(super) rates: [f64; 2],
    /// How often PostgreSQL had to end a wait of two sessions for each other.
    pub(super) deadlocks: usize,
    /// Whether what the project promises is a part of the verdict.
    pub(super) goals: bool,
}

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let struck = |applies: fn(&Struck) -> bool| facts.struck.iter().filter(move |struck| applies(struck));
    let any = |applies: fn(&Struck) -> bool| struck(applies).next().is_some();
    let mut checks = vec![
        (
            format!("every fault struck, with {} tasks in flight, and all went on after it", facts.in_flight),
            faults(facts),
        ),
        (format!("at least {:.0} messages per second were published", facts.rates[0] * LEAST_RATE), load(facts)),
        ("two batches never waited for each other".to_owned(), deadlocks(facts)),
    ];
    if any(|struck| struck.exit.is_some()) {
        let ended = struck(|struck| struck.exit.is_some());
        let wrong = ended.filter(|struck| !struck.exit.is_some_and(in_order)).map(ToString::to_string).collect();
        checks.push(("a daemon that was asked to end did, with 0 and within 10 s".to_owned(), none(wrong)));
        let again = struck(|struck| struck.exit.is_some() && struck.repeated > struck.in_flight);
        let again = again.map(|struck| format!("{} repeated of {struck}", struck.repeated)).collect();
        checks.push(("nothing came again beyond what was in flight when it was asked".to_owned(), none(again)));
    }
    if any(is_long) {
        let grown = struck(|struck| is_long(struck) && struck.rss[1] as f64 > struck.rss[0] as f64 * MOST_MEMORY);
        let grown = grown.map(|struck| format!("{} to {} bytes during {struck}", struck.rss[0], struck.rss[1]));
        checks.push(("the daemons' memory grew by at most 10 % during long faults".to_owned(), none(grown.collect())));
    }
    if facts.goals {
        let late = facts.struck.iter().filter(|struck| !kept(struck)).map(ToString::to_string).collect();
        checks.push(("all went on as soon as it is promised".to_owned(), none(late)));
    }
    checks.into_iter().map(|(holds, found)| verdict::check(&holds, found)).collect()
}

const fn is_long(struck: &Struck) -> bool {
    struck.held_s >= LONG
}

fn in_order(exit: Exit) -> bool {
    exit.code == Some(0) && exit.after_s <= MOST_TO_END
}

/// Whether a strike was survived as soon as it is promised.
pub(super) fn kept(struck: &Struck) -> bool {
    let goal = struck.fault.goal().map_or(f64::INFINITY, |goal| goal.as_secs_f64());
    let found = struck.found_s.is_none_or(|found| found <= MOST_TO_FIND);
    found && struck.recovered_s.is_some_and(|recovered| recovered <= goal)
}

/// What is promised of a fault, for people.
pub(super) fn promise(fault: Fault) -> String {
    let goal = fault.goal().as_ref().map(Duration::as_secs);
    let of = if fault.is_told_by_events() { "event" } else { "commit" };
    let goal = goal.map_or("–".to_owned(), |seconds| format!("{of} ≤ {seconds} s"));
    if fault == Fault::HalfOpen { format!("found ≤ {MOST_TO_FIND:.0} s, {goal}") } else { goal }
}

/// A run that injected nothing has proven nothing.
fn faults(facts: &Facts<'_>) -> Result<(), String> {
    if facts.strikes.is_empty() {
        return Err("nothing was to strike".to_owned());
    }
    let failed = facts.struck.iter().filter(|struck| struck.failure.is_some()).map(ToString::to_string);
    let mut wrong: Vec<String> = failed.collect();
    let done = facts.struck.iter().filter(|struck| struck.counts()).count();
    if done < facts.strikes.len() {
        wrong.push(format!("{done} of {} struck", facts.strikes.len()));
    }
    none(wrong)
}

fn load(facts: &Facts<'_>) -> Result<(), String> {
    let [wanted, reached] = facts.rates;
    if reached >= wanted * LEAST_RATE { Ok(()) } else { Err(format!("{reached:.0} per second")) }
}

fn deadlocks(facts: &Facts<'_>) -> Result<(), String> {
    if facts.deadlocks == 0 { Ok(()) } else { Err(format!("PostgreSQL found {} deadlocks", facts.deadlocks)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(fault: Fault) -> Strike {
        Strike { at: Duration::ZERO, fault, hold: Duration::ZERO, draw: 0 }
    }

    fn struck(fault: Fault, recovered_s: f64) -> Struck {
        let struck = Struck::new(&strike(fault), Duration::ZERO, None);
        Struck { in_flight: 60, recovered_s: Some(recovered_s), ..struck }
    }

    fn failed(strikes: &[Strike], struck: &[Struck], rate: f64, deadlocks: usize) -> Vec<String> {
        let facts = Facts { strikes, struck, in_flight: 50, rates: [600.0, rate], deadlocks, goals: true };
        checks(&facts).into_iter().filter_map(|check| check.found).collect()
    }

    #[test]
    fn a_run_that_injected_nothing_fails() {
        assert_eq!(failed(&[], &[], 600.0, 0), ["nothing was to strike"]);
        assert_eq!(failed(&[strike(Fault::Kill)], &[], 600.0, 0), ["0 of 1 struck"]);
        let missed = Struck { failure: Some("not 50 in flight".to_owned()), ..struck(Fault::Kill, 0.5) };
        let found = failed(&[strike(Fault::Kill)], &[missed], 600.0, 0);
        assert!(found[0].contains("not 50 in flight") && found[0].ends_with("0 of 1 struck"), "{found:?}");
    }

    #[test]
    fn a_load_that_was_not_there_a_deadlock_and_a_promise_that_is_broken_fail() {
        let (strikes, good) = ([strike(Fault::Kill)], [struck(Fault::Kill, 1.9)]);
        assert!(failed(&strikes, &good, 511.0, 0).is_empty());
        assert_eq!(failed(&strikes, &good, 400.0, 0), ["400 per second"]);
        assert_eq!(failed(&strikes, &good, 600.0, 2), ["PostgreSQL found 2 deadlocks"]);
        let late = failed(&strikes, &[struck(Fault::Kill, 2.1)], 600.0, 0);
        assert!(late.len() == 1 && late[0].contains("went on after 2.10 s"), "{late:?}");
    }

    #[test]
    fn a_daemon_has_to_end_in_order_and_to_bring_nothing_back() {
        let exit = |code| Some(Exit { after_s: 0.2, code });
        let term = |code, repeated| Struck { exit: exit(code), repeated, ..struck(Fault::Term, 0.5) };
        let strikes = [strike(Fault::Term)];
        assert!(failed(&strikes, &[term(Some(0), 60)], 600.0, 0).is_empty());
        assert!(failed(&strikes, &[term(Some(1), 0)], 600.0, 0)[0].contains("ended with 1"));
        assert!(failed(&strikes, &[term(Some(0), 61)], 600.0, 0)[0].contains("61 repeated"));
    }
}
