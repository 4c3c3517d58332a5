//! Converts AMQP headers to the evidence stored with a dead letter, and back to replay it.

use std::collections::BTreeMap;

use compact_str::CompactString;
use lapin::types::{AMQPValue, DecimalValue, FieldTable, ShortString};
use settled_core::contract::{Bytes, Evidence, HeaderValue};

/// Bytes counted for an entry in addition to its name and value.
const ENTRY_BYTES: usize = 16;
/// Bytes that are kept of a text that does not fit.
const BEGINNING_BYTES: usize = 256;

/// Adds a header to `evidence` if it fits into `room` bytes, and subtracts its size from them. Otherwise adds its name
/// to [`Evidence::cut`], and keeps the beginning of a text.
pub(crate) fn keep(name: &str, value: &AMQPValue, room: &mut usize, evidence: &mut Evidence) {
    let mut left = room.saturating_sub(name.len());
    let kept = kept(value, &mut left, 0).filter(|_| !name.contains('\0'));
    let (value, is_whole) = match kept {
        Some(value) => {
            *room = left;
            (Some(value), true)
        }
        None => {
            let shown = beginning(value, *room / 2);
            *room = room.saturating_sub(if shown.is_some() { name.len() + BEGINNING_BYTES } else { 0 });
            (shown, false)
        }
    };
    let name = CompactString::from(name.replace('\0', "\u{fffd}"));
    if !is_whole {
        let noted: usize = evidence.cut.iter().map(|name| name.len()).sum();
        if noted + name.len() <= Evidence::MAX_CUT_BYTES {
            evidence.cut.push(name.clone());
        }
    }
    if let Some(value) = value {
        evidence.headers.insert(name, value);
    }
}

/// Converts a value if it fits into `room` bytes, and subtracts its size from them.
fn kept(value: &AMQPValue, room: &mut usize, depth: usize) -> Option<HeaderValue> {
    let mut take = |bytes: usize| room.checked_sub(bytes + ENTRY_BYTES).map(|left| *room = left);
    Some(match value {
        AMQPValue::LongString(text) => {
            take(text.len())?;
            text_of(text.as_bytes())
        }
        // RabbitMQ has no short strings in headers.
        AMQPValue::ShortString(text) => {
            take(text.as_str().len())?;
            text_of(text.as_str().as_bytes())
        }
        AMQPValue::ByteArray(bytes) => {
            take(bytes.len() * 2)?;
            HeaderValue::Bytes(Bytes(bytes.as_slice().to_vec()))
        }
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth == Evidence::MAX_DEPTH => return None,
        AMQPValue::FieldArray(list) => {
            take(0)?;
            HeaderValue::List(list.as_slice().iter().map(|item| kept(item, room, depth + 1)).collect::<Option<_>>()?)
        }
        AMQPValue::FieldTable(table) => {
            take(0)?;
            let entry = |(name, value): (&ShortString, &AMQPValue)| {
                let name = Some(name.as_str()).filter(|name| !name.contains('\0'))?;
                *room = room.checked_sub(name.len())?;
                Some((name.into(), kept(value, room, depth + 1)?))
            };
            HeaderValue::Table(table.inner().iter().map(entry).collect::<Option<_>>()?)
        }
        plain => {
            take(8)?;
            number(plain)?
        }
    })
}

fn number(value: &AMQPValue) -> Option<HeaderValue> {
    Some(match *value {
        AMQPValue::Boolean(value) => HeaderValue::Bool(value),
        AMQPValue::ShortShortInt(value) => HeaderValue::I8(value),
        AMQPValue::ShortShortUInt(value) => HeaderValue::U8(value),
        AMQPValue::ShortInt(value) => HeaderValue::I16(value),
        AMQPValue::ShortUInt(value) => HeaderValue::U16(value),
        AMQPValue::LongInt(value) => HeaderValue::I32(value),
        AMQPValue::LongUInt(value) => HeaderValue::U32(value),
        AMQPValue::LongLongInt(value) => HeaderValue::I64(value),
        AMQPValue::Float(value) => HeaderValue::F32(compact_str::format_compact!("{value}")),
        AMQPValue::Double(value) => HeaderValue::F64(compact_str::format_compact!("{value}")),
        AMQPValue::DecimalValue(DecimalValue { scale, value }) => HeaderValue::Decimal { scale, value },
        AMQPValue::Timestamp(seconds) => HeaderValue::Time(seconds),
        AMQPValue::Void => HeaderValue::Void,
        _ => return None,
    })
}

fn text_of(bytes: &[u8]) -> HeaderValue {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => HeaderValue::Text(text.to_owned()),
        _ => HeaderValue::TextBytes(Bytes(bytes.to_vec())),
    }
}

/// Returns at most the first `most` bytes of a text, for people to read.
fn beginning(value: &AMQPValue, most: usize) -> Option<HeaderValue> {
    let AMQPValue::LongString(text) = value else { return None };
    let bytes = text.as_bytes().get(..most.min(BEGINNING_BYTES)).filter(|bytes| !bytes.is_empty())?;
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    // Drops a character that was cut in two, so that the rest is still text.
    Some(text_of(if bytes.len() - valid < 4 { &bytes[..valid] } else { bytes }))
}

/// Returns the headers with which a dead letter is published again: those that were kept in full.
pub(crate) fn table(evidence: &Evidence) -> FieldTable {
    let whole = evidence.headers.iter().filter(|(name, _)| !evidence.cut.contains(name));
    whole.fold(FieldTable::default(), |mut table, (name, value)| {
        table.insert(name.as_str().into(), amqp(value));
        table
    })
}

fn amqp(value: &HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::I8(value) => AMQPValue::ShortShortInt(*value),
        HeaderValue::U8(value) => AMQPValue::ShortShortUInt(*value),
        HeaderValue::I16(value) => AMQPValue::ShortInt(*value),
        HeaderValue::U16(value) => AMQPValue::ShortUInt(*value),
        HeaderValue::I32(value) => AMQPValue::LongInt(*value),
        HeaderValue::U32(value) => AMQPValue::LongUInt(*value),
        HeaderValue::I64(value) => AMQPValue::LongLongInt(*value),
        // The texts were written by `number`.
        HeaderValue::F32(text) => AMQPValue::Float(text.parse().unwrap_or(f32::NAN)),
        HeaderValue::F64(text) => AMQPValue::Double(text.parse().unwrap_or(f64::NAN)),
        HeaderValue::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value }),
        HeaderValue::Text(text) => AMQPValue::LongString(text.as_str().into()),
        HeaderValue::TextBytes(Bytes(bytes)) => AMQPValue::LongString(bytes.as_slice().into()),
        HeaderValue::Bytes(Bytes(bytes)) => AMQPValue::ByteArray(bytes.as_slice().into()),
        HeaderValue::List(list) => AMQPValue::FieldArray(list.iter().map(amqp).collect::<Vec<_>>().into()),
        HeaderValue::Time(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::Table(table) => {
            let entries: BTreeMap<ShortString, AMQPValue> =
                table.iter().map(|(name, value)| (name.as_str().into(), amqp(value))).collect();
            AMQPValue::FieldTable(entries.into())
        }
        HeaderValue::Void => AMQPValue::Void,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_of(headers: &[(&str, AMQPValue)]) -> Evidence {
        let (mut room, mut evidence) = (Evidence::MAX_HEADER_BYTES, Evidence::default());
        headers.iter().for_each(|(name, value)| keep(name, value, &mut room, &mut evidence));
        evidence
    }

    #[test]
    fn headers_of_every_type_come_back_as_they_were() {
        let mut inner = FieldTable::default();
        inner.insert("deep".into(), AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::Boolean(true)].into()));
        let headers = [
            ("a", AMQPValue::ShortShortInt(-1)),
            ("b", AMQPValue::ShortShortUInt(255)),
            ("c", AMQPValue::ShortInt(-2)),
            ("d", AMQPValue::ShortUInt(3)),
            ("e", AMQPValue::LongInt(-4)),
            ("f", AMQPValue::LongUInt(5)),
            ("g", AMQPValue::LongLongInt(i64::MIN)),
            ("h", AMQPValue::Float(0.1)),
            ("i", AMQPValue::Double(f64::INFINITY)),
            ("j", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1250 })),
            ("k", AMQPValue::LongString("text".into())),
            ("l", AMQPValue::LongString(vec![0, 0xff].into())),
            ("m", AMQPValue::ByteArray(vec![1, 2].into())),
            ("n", AMQPValue::Timestamp(u64::MAX)),
            ("o", AMQPValue::FieldTable(inner)),
        ];
        let evidence = kept_of(&headers);
        assert_eq!(evidence.cut, [""; 0]);
        let json = serde_json::to_string(&evidence).expect("plain values");
        let evidence: Evidence = serde_json::from_str(&json).expect("what was stored is read");
        let table = table(&evidence);
        for (name, value) in &headers {
            assert_eq!(table.inner().get(*name), Some(value), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_named_and_not_published_as_if_it_were_whole() {
        let nested = (0..100).fold(AMQPValue::Void, |inner, _| AMQPValue::FieldArray(vec![inner].into()));
        let many: FieldTable = (0..3000).fold(FieldTable::default(), |mut table, n| {
            table.insert(n.to_string().into(), AMQPValue::Void);
            table
        });
        let evidence = kept_of(&[
            ("small", AMQPValue::LongInt(7)),
            ("long", AMQPValue::LongString("é".repeat(50_000).into())),
            ("nested", nested),
            ("many", AMQPValue::FieldTable(many)),
            ("n\0l", AMQPValue::Void),
            ("last", AMQPValue::LongString("kept".into())),
        ]);
        assert_eq!(evidence.cut, ["long", "nested", "many", "n\u{fffd}l"]);
        let HeaderValue::Text(text) = &evidence.headers["long"] else { panic!("{evidence:?}") };
        assert!(text.len() >= 100 && text.chars().all(|c| c == 'é'), "{text}");
        let names: Vec<_> = table(&evidence).inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["last", "small"]);
        assert!(serde_json::to_string(&evidence).expect("plain values").len() < 3 * Evidence::MAX_HEADER_BYTES);
    }
}
