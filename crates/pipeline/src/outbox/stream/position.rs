//! Which rows have which publishing ids, and what of them is confirmed: pure.

use std::collections::VecDeque;

use super::store::{Given, Held};

/// What becomes of the rows that had ids, at the next change of the producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The rows that are done, to be deleted.
    pub done: Vec<i64>,
    /// The rows that keep their ids.
    pub rows: Vec<i64>,
    /// The number of events of each of `rows`.
    pub events: Vec<i32>,
    /// The publishing id of the first event of `rows`.
    pub first_id: u64,
    /// The highest publishing id that was confirmed.
    pub confirmed_id: u64,
}

/// Why the stream has not what it had, or what it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewGeneration {
    /// The stream lacks what was confirmed: it was deleted, or another ledger is in its place.
    StreamIsNew,
    /// The stream has ids that this ledger never gave: it was restored to an earlier state.
    LedgerIsOlder,
}

/// A row that has publishing ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    id: i64,
    first_id: u64,
    events: u32,
    /// How many of its events are not confirmed.
    open: u32,
}

/// The producer's place in the stream.
#[derive(Clone, Debug)]
pub(super) struct Position {
    rows: VecDeque<Row>,
    next_id: u64,
    confirmed_id: u64,
}

impl Position {
    /// Goes on from where the last producer was. `last_id` is the highest id that the stream has.
    ///
    /// If the stream has ids that were never given, the rows get higher ones, which have to be committed before anything
    /// is appended: what came with an id that the stream has would be dropped.
    pub(super) fn resume(held: &Held, last_id: u64) -> (Self, Option<NewGeneration>) {
        let mut position = Self { rows: VecDeque::new(), next_id: held.first_id, confirmed_id: held.confirmed_id };
        position.give(&held.rows);
        if last_id >= position.next_id {
            position = Self { rows: VecDeque::new(), next_id: last_id + 1, confirmed_id: last_id };
            position.give(&held.rows);
            return (position, Some(NewGeneration::LedgerIsOlder));
        }
        let is_new = last_id < position.confirmed_id;
        position.confirmed_id = position.confirmed_id.min(last_id);
        (position, is_new.then_some(NewGeneration::StreamIsNew))
    }

    /// Gives the next ids to rows.
    pub(super) fn give(&mut self, rows: &[Given]) {
        for &Given { row, events } in rows {
            self.rows.push_back(Row { id: row, first_id: self.next_id, events, open: events });
            self.next_id += u64::from(events);
        }
    }

    /// Returns the ids of all rows.
    pub(super) fn rows(&self) -> Vec<i64> {
        self.rows.iter().map(|row| row.id).collect()
    }

    /// Returns the first publishing id of a row.
    pub(super) fn first_id(&self, row: i64) -> Option<u64> {
        self.rows.iter().rev().find(|known| known.id == row).map(|row| row.first_id)
    }

    /// Returns the row of a publishing id.
    pub(super) fn row_of(&self, id: u64) -> Option<i64> {
        let after = self.rows.partition_point(|row| row.first_id <= id);
        let row = self.rows.get(after.checked_sub(1)?)?;
        (id < row.first_id + u64::from(row.events)).then_some(row.id)
    }

    /// Counts an event as done: it is confirmed, or left out. Returns its row if that is done with it.
    pub(super) fn done(&mut self, id: u64) -> Option<i64> {
        let after = self.rows.partition_point(|row| row.first_id <= id);
        let row = self.rows.get_mut(after.checked_sub(1)?)?;
        if id >= row.first_id + u64::from(row.events) || row.open == 0 {
            return None;
        }
        row.open -= 1;
        (row.open == 0).then_some(row.id)
    }

    /// Counts an event as confirmed. Returns its row if that is done with it.
    pub(super) fn confirmed(&mut self, id: u64) -> Option<i64> {
        self.confirmed_id = self.confirmed_id.max(id);
        self.done(id)
    }

    /// Counts a row as done, because there is nothing of it to append.
    pub(super) fn skip(&mut self, row: i64) {
        for known in self.rows.iter_mut().filter(|known| known.id == row) {
            known.open = 0;
        }
    }

    /// Returns what becomes of the rows: those at the front that are done can go.
    pub(super) fn kept(&self) -> Kept {
        let done = self.rows.iter().take_while(|row| row.open == 0).count();
        let kept = self.rows.iter().skip(done);
        Kept {
            done: self.rows.iter().take(done).map(|row| row.id).collect(),
            rows: kept.clone().map(|row| row.id).collect(),
            events: kept.clone().map(|row| row.events.cast_signed()).collect(),
            first_id: kept.clone().next().map_or(self.next_id, |row| row.first_id),
            confirmed_id: self.confirmed_id,
        }
    }

    /// Forgets the rows that are deleted.
    pub(super) fn forget(&mut self, done: usize) {
        self.rows.drain(..done);
    }

    /// Whether a row can be deleted.
    pub(super) fn has_done(&self) -> bool {
        self.rows.front().is_some_and(|row| row.open == 0)
    }

    /// Returns how many rows are not done.
    pub(super) fn rows_open(&self) -> usize {
        self.rows.iter().filter(|row| row.open > 0).count()
    }

    /// Returns the number of events that are not done.
    pub(super) fn events_open(&self) -> usize {
        self.rows.iter().map(|row| row.open as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(first_id: u64, confirmed_id: u64, rows: &[(i64, u32)]) -> Held {
        let rows = rows.iter().map(|&(row, events)| Given { row, events }).collect();
        Held { version: 1, first_id, confirmed_id, rows }
    }

    #[test]
    fn ids_are_counted_on_and_rows_go_from_the_front() {
        let (mut position, generation) = Position::resume(&held(11, 10, &[(5, 2), (3, 1)]), 11);
        assert_eq!((generation, position.first_id(5), position.first_id(3)), (None, Some(11), Some(13)));
        assert_eq!(position.confirmed(13), Some(3));
        assert!(!position.has_done() && position.kept().done.is_empty());
        assert_eq!(position.confirmed(11), None);
        assert_eq!(position.confirmed(12), Some(5));
        let kept = position.kept();
        assert_eq!((&*kept.done, kept.first_id, kept.confirmed_id), ([5, 3].as_slice(), 14, 13));
        position.forget(2);
        position.give(&[Given { row: 9, events: 3 }]);
        assert_eq!((position.first_id(9), position.events_open()), (Some(14), 3));
    }

    #[test]
    fn what_is_confirmed_twice_or_unknown_counts_once() {
        let (mut position, _) = Position::resume(&held(1, 0, &[(1, 1), (2, 1)]), 0);
        assert_eq!((position.confirmed(1), position.confirmed(1)), (Some(1), None));
        assert_eq!((position.confirmed(0), position.confirmed(7)), (None, None));
        assert_eq!(position.events_open(), 1);
    }

    #[test]
    fn a_stream_that_lacks_what_was_confirmed_is_a_new_one() {
        let (position, generation) = Position::resume(&held(11, 10, &[(1, 1)]), 4);
        assert_eq!((generation, position.first_id(1)), (Some(NewGeneration::StreamIsNew), Some(11)));
        assert_eq!(position.kept().confirmed_id, 4);
    }

    #[test]
    fn ids_that_were_never_given_are_not_given_again() {
        let (position, generation) = Position::resume(&held(11, 10, &[(1, 2)]), 13);
        assert_eq!((generation, position.first_id(1)), (Some(NewGeneration::LedgerIsOlder), Some(14)));
        // All ids that were given are in the stream, and none of them is confirmed.
        let (_, generation) = Position::resume(&held(11, 10, &[(1, 2)]), 12);
        assert_eq!(generation, None);
    }
}
