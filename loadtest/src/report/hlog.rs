//! Histograms as HdrHistogram interval logs (format 1.3, histograms V2, compressed), which the tools of HdrHistogram read.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use jiff::Timestamp;

use super::model::Summary;

const COMMENTS: [&str; 2] =
    ["[Histogram log format version 1.3]", "[Times in microseconds, Interval_Max in milliseconds]"];
const MICROS_PER_MILLI: f64 = 1e3;

/// Writes a log of one interval: the whole run.
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

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::report::fixture;
    use crate::report::model::Results;

    #[test]
    fn the_tools_of_hdrhistogram_read_what_was_measured() {
        for Results { summary, histograms, .. } in [fixture::good_run(), fixture::drain()] {
            for histogram in [&histograms.commit, &histograms.schedule_lag] {
                let log = encode(histogram, &summary).expect("a log");
                let entries = IntervalLogIterator::new(&log).map(|entry| entry.expect("an entry"));
                let intervals: Vec<_> = entries
                    .filter_map(|entry| if let LogEntry::Interval(interval) = entry { Some(interval) } else { None })
                    .collect();
                assert_eq!(intervals.len(), 1);
                let bytes = BASE64_STANDARD.decode(intervals[0].encoded_histogram()).expect("base 64");
                let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram");
                assert_eq!(read, *histogram);
            }
        }
    }
}
