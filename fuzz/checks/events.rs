//! A row of the outbox.

use serde_json::value::RawValue;
use settled_pipeline::outbox::{Encoding, EventFormat, HeaderPrefix, Publication, publications};

const SINGLE: Encoding =
    Encoding { format: EventFormat::Single, header_prefix: HeaderPrefix::Colon, batch_events: 1, batch_bytes: 1 << 20 };

/// Any bytes as the lines of a row.
pub fn check(data: &[u8]) {
    if let Ok(single) = publications(7, data, SINGLE) {
        assert!(single.iter().all(|message| message.events == 1));
        // Nothing is lost, nothing said twice: the lines are those of the row, but for empty ones.
        let lines: Vec<u8> = single.iter().flat_map(|message| message.lines.iter().copied()).collect();
        let row: Vec<u8> =
            data.split_inclusive(|b| *b == b'\n').filter(|line| *line != b"\n").flatten().copied().collect();
        assert_eq!(lines, row);
        single.iter().for_each(is_the_same_again);
    }
    for most in [1, 3] {
        let encoding = Encoding { format: EventFormat::Batch, batch_events: most, ..SINGLE };
        let Ok(batches) = publications(7, data, encoding) else { continue };
        let lines = data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(batches.iter().map(|batch| batch.events as usize).sum::<usize>(), lines);
        for batch in &batches {
            assert!(batch.reply_to.is_some() || batch.events as usize <= most);
            // Rows are written as UTF-8; a batch has its lines as they are.
            if batch.attributes.is_none() && std::str::from_utf8(data).is_ok() {
                let array: Vec<&RawValue> = serde_json::from_slice(&batch.body).expect("a batch is an array");
                assert_eq!(array.len(), batch.events as usize);
            }
        }
        let ids: std::collections::HashSet<_> =
            batches.iter().filter(|batch| batch.attributes.is_none()).map(|batch| &batch.message_id).collect();
        assert_eq!(ids.len(), batches.iter().filter(|batch| batch.attributes.is_none()).count());
    }
}

/// What no queue took is kept as its lines: they say the same again.
fn is_the_same_again(message: &Publication<'_>) {
    let again = publications(8, &message.lines, SINGLE).expect("its lines are readable");
    assert_eq!(again.as_slice(), std::slice::from_ref(message));
}
