//! Histograms as HdrHistogram interval logs (format 1.3, histograms V2, compressed), which the
//! tools of HdrHistogram read.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, IntervalLogWriterBuilder, LogEntry};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use jiff::Timestamp;

use super::model::Summary;

const COMMENTS: [&str; 2] =
    ["[Histogram log format version 1.3]", "[Times in microseconds, Interval_Max in milliseconds]"];
const MICROS_PER_MILLI: f64 = 1e3;

/// A log of one interval: the whole run.
///
/// # Errors
/// None that could occur: memory takes every byte.
pub(super) fn encode(histogram: &Histogram<u64>, summary: &Summary) -> Result<Vec<u8>> {
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    for comment in COMMENTS {
        builder.add_comment(comment);
    }
    builder.with_max_value_divisor(MICROS_PER_MILLI);
    if let Ok(started) = summary.started_at.parse::<Timestamp>() {
        builder.with_start_time(SystemTime::from(started));
    }
    let length = Duration::try_from_secs_f64(summary.duration_s).unwrap_or_default();
    let mut writer = builder.begin_log_with(&mut log, &mut serializer)?;
    writer.write_histogram(histogram, Duration::ZERO, length, None)?;
    Ok(log)
}

/// The histogram of a log of one interval.
///
/// # Errors
/// When it has none, or it is malformed.
pub(super) fn decode(log: &[u8]) -> Result<Histogram<u64>> {
    let entries = IntervalLogIterator::new(log).map(|entry| entry.map_err(|error| anyhow!("{error:?}")));
    for entry in entries {
        if let LogEntry::Interval(interval) = entry? {
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram())?;
            return Ok(Deserializer::new().deserialize(&mut bytes.as_slice())?);
        }
    }
    None.context("expected an interval")
}
