//! What holds of a stream of events beyond what holds of every subscriber: each is in it once, and in order.

use super::Evidence;
use super::verdict::{Finding, none};
use crate::sink::Log;

/// The checks of a run whose events went to a stream, with what was found instead.
pub(super) fn checks(evidence: &Evidence) -> [(&'static str, Option<Finding>); 2] {
    let received = evidence.received.as_ref();
    let read = received.and_then(|received| Some((received.log.as_ref()?, received)));
    let entries = &evidence.books.entries;
    [
        ("every event is in the stream once", read.map(|(log, _)| once(log))),
        (
            "the events of an account are in the order of its entries, and those of a task in that of its versions",
            read.map(|(log, received)| in_order(log, entries, |number| received.place(number))),
        ),
    ]
}

fn once(log: &Log) -> Finding {
    log.repeated.said().map_or(Ok(()), |repeated| Err(format!("repeated: {repeated}")))
}

/// `entries` are in the order in which accounts have them, and `place` says where in the stream the event of a task is.
/// What did not come is missing, and not out of order.
fn in_order(log: &Log, entries: &[(i64, usize)], place: impl Fn(usize) -> Option<u64>) -> Finding {
    let mut wrong: Vec<String> =
        log.misplaced.said().map(|misplaced| format!("behind a later version: {misplaced}")).into_iter().collect();
    let mut last: Option<(i64, u64)> = None;
    for (account, number) in entries {
        let Some(place) = place(*number) else { continue };
        if let Some((of, before)) = last
            && of == *account
            && place < before
        {
            wrong.push(format!("account {account}: event {place} is of the entry behind that of event {before}"));
        }
        last = Some((*account, place));
    }
    none(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use settled_core::contract::PaymentState;

    use super::*;
    use crate::judge::books::{Books, Payment};
    use crate::judge::verdict;
    use crate::load::{Flights, Script};
    use crate::plan::{Life, Mark, Mix, Plan, Shape, Skew, Stamp};
    use crate::rig::FleetEnd;
    use crate::sink::Received;

    const ONCE: &str = "every event is in the stream once";
    const EVENTS: &str = "every outcome had its event, and there was no other";

    /// The number of the load's first id: those before it open accounts.
    const FIRST: usize = 12;

    fn ids(mark: Mark, numbers: &[usize]) -> impl Iterator<Item = String> {
        numbers.iter().map(move |number| format!("{}/1", mark.id(Stamp { number: *number, scheduled: 0 })))
    }

    /// What is known of four transfers of one account, each applied after the one before, with what a subscriber heard.
    fn evidence(mark: Mark, received: Received) -> Evidence {
        let (life, mix) = (Life::default(), Mix::default());
        let shape = Shape { accounts: 10, skew: Skew::Uniform, mix, life, payload_bytes: 0, seed: 1 };
        let mut plan = Plan::new(&shape, &mark.to_string());
        assert_eq!(plan.opening.len(), FIRST);
        plan.grow(4);
        let paid = |amount| Payment {
            state: PaymentState::Settled,
            rejection: None,
            amount,
            progress: [amount, 0, 0],
            waits: 0,
            committed_at: 0,
        };
        let mut payments = vec![None; FIRST];
        payments.extend(plan.load.iter().map(|message| Some(paid(message.ask.amount()))));
        let entries = plan.load.iter().map(|message| (7, message.id)).collect();
        Evidence {
            lines: Script::new(plan, mark).into_lines(),
            flights: Flights::default(),
            counted: None,
            books: Books { payments, entries, ..Books::default() },
            received: Some(received),
            audit: Ok(json!({ "passed": true })),
            fleet: FleetEnd::default(),
            left: None,
            any_order: false,
            stuck: None,
        }
    }

    /// Which checks of the events fail if those of the load's transfers come in this order.
    fn failed(received: fn(Mark, usize) -> Received, numbers: [&[usize]; 2]) -> Vec<String> {
        let mark = Mark::random();
        let mut received = received(mark, FIRST);
        for (generation, numbers) in numbers.into_iter().enumerate() {
            if generation > 0 {
                received.begin_generation();
            }
            ids(mark, numbers).for_each(|id| received.hear(&id, "payment.settled"));
        }
        let evidence = evidence(mark, received);
        let checks = verdict::checks(&evidence, &evidence.find()).into_iter();
        checks.filter(|check| check.holds.contains("event") && check.found.is_some()).map(|check| check.holds).collect()
    }

    #[test]
    fn a_stream_passes_with_every_event_once_and_in_order() {
        let all: &[usize] = &[FIRST, FIRST + 1, FIRST + 2, FIRST + 3];
        assert_eq!(failed(Received::of_stream, [all, &[]]), [""; 0]);
        // What a daemon did not know to be in a stream that was deleted comes again.
        assert_eq!(failed(Received::of_stream, [&all[..3], &all[1..]]), [""; 0]);
    }

    #[test]
    fn a_stream_fails_with_an_event_that_is_missing_repeated_or_invented() {
        let first: &[usize] = &[FIRST, FIRST + 1, FIRST + 2];
        assert_eq!(failed(Received::of_stream, [first, &[]]), [EVENTS]);
        let repeated = [FIRST, FIRST + 1, FIRST + 1, FIRST + 2, FIRST + 3];
        assert_eq!(failed(Received::of_stream, [&repeated, &[]]), [ONCE]);
        let invented = [FIRST, FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 4];
        assert_eq!(failed(Received::of_stream, [&invented, &[]]), [EVENTS]);
    }

    #[test]
    fn a_stream_fails_with_events_that_are_swapped() {
        let swapped = [FIRST, FIRST + 2, FIRST + 1, FIRST + 3];
        let found = failed(Received::of_stream, [&swapped, &[]]);
        assert!(found.len() == 1 && found[0].contains("in the order of its entries"), "{found:?}");
    }

    #[test]
    fn a_queue_may_have_an_event_again_and_in_any_order() {
        let any = [FIRST + 3, FIRST + 1, FIRST + 1, FIRST + 2, FIRST];
        assert_eq!(failed(Received::new, [&any, &[]]), [""; 0]);
    }

    /// What is found, of tasks whose events are at these places, and of an account that has their entries in order.
    fn found(places: &[Option<u64>]) -> Finding {
        let entries: Vec<(i64, usize)> = (0..places.len()).map(|number| (7, number)).collect();
        in_order(&Log::default(), &entries, |number| places[number])
    }

    #[test]
    fn the_events_of_an_account_are_in_the_order_of_its_entries() {
        assert_eq!(found(&[Some(0), Some(4), Some(9)]), Ok(()));
        let swapped = found(&[Some(0), Some(9), Some(4)]);
        assert!(swapped.is_err_and(|wrong| wrong.contains("event 4 is of the entry behind that of event 9")));
    }

    #[test]
    fn an_event_that_is_missing_hides_no_order_and_breaks_none() {
        assert_eq!(found(&[Some(0), None, Some(9)]), Ok(()));
        assert!(found(&[Some(9), None, Some(0)]).is_err());
    }

    #[test]
    fn accounts_are_told_of_in_any_order_and_both_legs_of_a_payment_at_once() {
        // Two accounts, and a task with two entries of the first.
        let entries = [(1, 0), (1, 0), (1, 2), (2, 1), (2, 2)];
        assert_eq!(in_order(&Log::default(), &entries, |number| Some(number as u64)), Ok(()));
    }
}
