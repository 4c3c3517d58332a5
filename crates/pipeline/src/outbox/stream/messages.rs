//! Makes the messages of rows: pure.

use crate::outbox::publication::{Encoding, Publication, publications};
use crate::outbox::settings::{EventFormat, HeaderPrefix};
use crate::store::{EventBatch, Unrouted};

/// Messages whose publishing ids follow each other.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) first_id: u64,
    pub(super) messages: Vec<Publication<'a>>,
}

/// Returns the messages of rows, and the rows that can't be read. `first_id` returns the first publishing id of a row.
pub(super) fn runs(
    rows: &[EventBatch],
    first_id: impl Fn(i64) -> Option<u64>,
    header_prefix: HeaderPrefix,
) -> (Vec<Run<'_>>, Vec<(i64, Unrouted)>) {
    let encoding = Encoding { format: EventFormat::Single, header_prefix, batch_events: 1, batch_bytes: 0 };
    let (mut runs, mut unreadable): (Vec<Run<'_>>, _) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(first_id) = first_id(row.id) else { continue };
        // A row has as many publishing ids as it was said to have events.
        let messages = publications(row.id, &row.body, encoding).ok().filter(|all| all.len() == row.events as usize);
        let Some(messages) = messages else {
            let (lines, events) = (row.body.clone(), row.events.cast_signed().max(1));
            unreadable.push((row.id, Unrouted { key: "unreadable".into(), reason: None, lines, events }));
            continue;
        };
        match runs.last_mut() {
            Some(run) if run.first_id + run.messages.len() as u64 == first_id => run.messages.extend(messages),
            _ => runs.push(Run { first_id, messages }),
        }
    }
    (runs, unreadable)
}

/// Returns an event that is longer than the stream takes, to be held.
pub(super) fn too_long(message: &Publication<'_>) -> Unrouted {
    Unrouted {
        key: message.routing_key.to_string(),
        reason: Some("longer than a frame of the stream's protocol (RabbitMQ: stream.frame_max)".to_owned()),
        lines: message.lines.to_vec(),
        events: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"id":"i/1","source":"s","type":"payment.settled","subject":"i","time":"t","data":{}}"#;

    fn row(id: i64, body: &str, events: u32) -> EventBatch {
        EventBatch { id, body: body.into(), events, held_key: None, held_reason: None }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_left_out_with_its_ids() {
        let (one, two) = (format!("{EVENT}\n"), format!("{EVENT}\n{EVENT}\n"));
        let rows = [row(1, &two, 2), row(2, &one, 1), row(3, "nonsense\n", 1), row(4, &one, 2), row(5, &one, 1)];
        let (runs, unreadable) = runs(&rows, |row| Some([1, 3, 4, 5, 7][row as usize - 1]), HeaderPrefix::Colon);
        let found: Vec<(u64, usize)> = runs.iter().map(|run| (run.first_id, run.messages.len())).collect();
        assert_eq!(found, [(1, 3), (7, 1)]);
        assert_eq!(unreadable.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [3, 4]);
    }
}
