//! A results folder: one file for each reader, all of the same run.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::model::{Histograms, Results, SCHEMA_VERSION, Sample, Summary};
use super::{hlog, html};

const SUMMARY: &str = "summary.json";
const SERIES: &str = "series.csv";
const REPORT: &str = "report.html";
const CONFIRM: &str = "confirm.hlog";
const COMMIT: &str = "commit.hlog";
const EVENT: &str = "event.hlog";
const SCHEDULE_LAG: &str = "schedule_lag.hlog";
/// What a summary is called until all of it is written.
const UNFINISHED: &str = "summary.json.part";
/// All that may be in a results folder.
const FILES: [&str; 8] = [SUMMARY, SERIES, REPORT, CONFIRM, COMMIT, EVENT, SCHEDULE_LAG, UNFINISHED];

impl Results {
    /// Writes all files into `dir`, which is created if it is missing. Results of an earlier run
    /// are replaced. A folder without `summary.json` is that of a write that did not finish.
    ///
    /// # Errors
    /// Those of [`ensure_usable`], and those of writing; each names the path.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        ensure_usable(dir)?;
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        remove(&dir.join(SUMMARY))?;
        for (name, histogram) in self.histograms.by_file() {
            put(dir, name, &hlog::encode(histogram, &self.summary)?)?;
        }
        put(dir, SERIES, &series_to_csv(&self.series)?)?;
        put(dir, REPORT, html::page(self).into_string().as_bytes())?;
        put(dir, UNFINISHED, &summary_to_json(&self.summary)?)?;
        let done = dir.join(SUMMARY);
        fs::rename(dir.join(UNFINISHED), &done).with_context(|| format!("write {}", done.display()))
    }

    /// Reads what [`Results::write`] wrote.
    ///
    /// # Errors
    /// When a file is missing or malformed, or was written with another version of the format;
    /// each names the path.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let histogram = |name| {
            let decoded = hlog::decode(&get(dir, name)?);
            decoded.with_context(|| format!("read {}", dir.join(name).display()))
        };
        // First: nothing else can be understood if its version is another.
        let summary = summary_from_json(&get(dir, SUMMARY)?);
        let summary = summary.with_context(|| format!("read {}", dir.join(SUMMARY).display()))?;
        let series = series_from_csv(&get(dir, SERIES)?);
        Ok(Self {
            summary,
            series: series.with_context(|| format!("read {}", dir.join(SERIES).display()))?,
            histograms: Histograms {
                confirm: histogram(CONFIRM)?,
                commit: histogram(COMMIT)?,
                event: histogram(EVENT)?,
                schedule_lag: histogram(SCHEDULE_LAG)?,
            },
        })
    }
}

impl Histograms {
    fn by_file(&self) -> [(&'static str, &hdrhistogram::Histogram<u64>); 4] {
        [(CONFIRM, &self.confirm), (COMMIT, &self.commit), (EVENT, &self.event), (SCHEDULE_LAG, &self.schedule_lag)]
    }
}

/// Whether results may be written into `dir`: it is missing, empty, or has results of an earlier
/// run and nothing else. Better asked before a long run than after it.
///
/// # Errors
/// When it is something else, or has a file that is not of this tool, which could be lost.
pub(crate) fn ensure_usable(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("results folder {}", dir.display())),
    };
    for entry in entries {
        let name = entry.with_context(|| format!("results folder {}", dir.display()))?.file_name();
        let known = name.to_str().is_some_and(|name| FILES.contains(&name));
        ensure!(
            known && is_ours(&dir.join(&name)),
            "results folder {}: {} is not a result of settled-loadtest; expected a folder that is new, empty or has \
             earlier results only",
            dir.display(),
            name.display()
        );
    }
    Ok(())
}

/// Only of a summary can that be told from more than its name.
fn is_ours(path: &Path) -> bool {
    if !path.ends_with(SUMMARY) {
        return path.is_file();
    }
    let summary = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    summary.is_some_and(|summary| summary["schema_version"].is_u64() && summary["tool_version"].is_string())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("replace {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn put(dir: &Path, name: &str, content: &[u8]) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))
}

fn get(dir: &Path, name: &str) -> Result<Vec<u8>> {
    let path = dir.join(name);
    fs::read(&path).with_context(|| format!("read {}: not a complete results folder", path.display()))
}

/// As `summary.json` has it.
pub(super) fn summary_to_json(summary: &Summary) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(summary)?;
    json.push(b'\n');
    Ok(json)
}

fn summary_from_json(json: &[u8]) -> Result<Summary> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let Version { schema_version: found } = serde_json::from_slice(json)?;
    if found != SCHEMA_VERSION {
        bail!("schema_version is {found}, expected {SCHEMA_VERSION}: use the settled-loadtest that wrote it");
    }
    Ok(serde_json::from_slice(json)?)
}

/// As `series.csv` has it.
pub(super) fn series_to_csv(series: &[Sample]) -> Result<Vec<u8>> {
    let mut csv = csv_lines(&[Sample::default()], true)?;
    let header = csv.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    // A run without a sample has a header too.
    csv.truncate(header);
    csv.extend(csv_lines(series, false)?);
    Ok(csv)
}

fn csv_lines(samples: &[Sample], header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(header).from_writer(Vec::new());
    for sample in samples {
        writer.serialize(sample)?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

fn series_from_csv(csv: &[u8]) -> Result<Vec<Sample>> {
    Ok(csv::Reader::from_reader(csv).deserialize().collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    const HEADER: &str = "at_s,published,confirmed,settled,rejected,dead_lettered,events,queue_depth,outbox_events,\
        confirm_p50_ms,confirm_p99_ms,commit_p50_ms,commit_p99_ms,event_p50_ms,event_p99_ms,daemon_cpu_cores,\
        daemon_rss_bytes,postgres_cpu_cores,postgres_rss_bytes,rabbitmq_cpu_cores,rabbitmq_rss_bytes,\
        generator_cpu_cores";

    fn written(results: &Results) -> tempfile::TempDir {
        let parent = tempfile::tempdir().expect("a directory");
        results.write(&parent.path().join("new/results")).expect("written");
        parent
    }

    fn message(result: Result<impl Sized>) -> String {
        result.err().map(|error| format!("{error:#}")).expect("an error")
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        for results in [fixture::good_run(), fixture::drain(), fixture::nothing(), fixture::failed_run()] {
            let parent = written(&results);
            let read = Results::read(&parent.path().join("new/results")).expect("read");
            assert_eq!(read.summary, results.summary);
            assert_eq!(read.series, results.series);
            for ((name, read), (_, written)) in read.histograms.by_file().iter().zip(results.histograms.by_file()) {
                assert_eq!(*read, written, "{name}");
            }
        }
    }

    #[test]
    fn a_summary_from_before_payments_had_a_life_can_be_read() {
        let mut old = serde_json::to_value(fixture::good_run().summary).expect("JSON");
        for (place, fields) in [
            ("", ["canceled", "by_type", "waited"].as_slice()),
            ("/load", &["cases", "out_of_order", "scheduled", "scheduled_within_s"]),
        ] {
            let object = old.pointer_mut(place).and_then(Value::as_object_mut).expect("an object");
            assert!(fields.iter().all(|field| object.remove(*field).is_some()));
        }
        let read = summary_from_json(&serde_json::to_vec(&old).expect("JSON")).expect("a summary");
        let by_type = std::collections::BTreeMap::new();
        assert_eq!(read, Summary { by_type, ..fixture::good_run().summary });
    }

    #[test]
    fn a_series_names_its_columns_and_units_even_without_a_sample() {
        let csv = |series: &[Sample]| String::from_utf8(series_to_csv(series).expect("CSV")).expect("text");
        assert_eq!(csv(&[]), format!("{HEADER}\n"));
        let one = csv(&fixture::drain().series[..1]);
        assert_eq!(one.lines().next(), Some(HEADER));
        assert_eq!(
            one.lines().nth(1).map(|line| line.contains(",,,,,,")),
            Some(true),
            "what was not measured is empty"
        );
    }

    #[test]
    fn earlier_results_are_replaced() {
        let parent = written(&fixture::good_run());
        let dir = parent.path().join("new/results");
        fixture::drain().write(&dir).expect("written");
        assert_eq!(Results::read(&dir).expect("read").summary.verb, "drain");
        let files = fs::read_dir(&dir).expect("a directory").count();
        assert_eq!(files, FILES.len() - 1, "all but the unfinished summary");
    }

    #[test]
    fn a_folder_with_files_of_others_is_refused() {
        for (name, content) in [("notes.txt", "mine"), (SUMMARY, "{\"total\": 1}"), (SUMMARY, "not JSON")] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join(name);
            fs::write(&path, content).expect("written");
            let message = message(fixture::nothing().write(dir.path()));
            assert!(message.contains(&dir.path().display().to_string()) && message.contains(name), "{message}");
            assert_eq!(fs::read_to_string(&path).expect("still there"), content);
        }
    }

    #[test]
    fn a_folder_that_is_a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(message(ensure_usable(file.path())).contains(&file.path().display().to_string()));
    }

    #[test]
    fn another_version_of_the_format_is_not_guessed_at() {
        let parent = written(&fixture::nothing());
        let dir = parent.path().join("new/results");
        fs::write(dir.join(SUMMARY), "{\"schema_version\": 2, \"new\": true}").expect("written");
        let message = message(Results::read(&dir));
        assert!(message.contains(SUMMARY) && message.contains("schema_version is 2, expected 1"), "{message}");
    }

    #[test]
    fn every_file_is_needed_and_missed_by_name() {
        for name in FILES.into_iter().filter(|name| *name != REPORT && *name != UNFINISHED) {
            let parent = written(&fixture::nothing());
            let dir = parent.path().join("new/results");
            fs::remove_file(dir.join(name)).expect("it was there");
            let message = message(Results::read(&dir));
            assert!(message.contains(&dir.join(name).display().to_string()), "{message}");
        }
    }

    #[test]
    fn a_malformed_file_is_named() {
        for name in [SUMMARY, SERIES, CONFIRM] {
            let parent = written(&fixture::good_run());
            let dir = parent.path().join("new/results");
            fs::write(dir.join(name), "a,b\n1,2\n").expect("written");
            let message = message(Results::read(&dir));
            assert!(message.contains(&dir.join(name).display().to_string()), "{message}");
        }
    }
}
