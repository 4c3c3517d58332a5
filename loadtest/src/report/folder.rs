//! A results folder: one file for each reader, all of the same run.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::model::{Results, SCHEMA_VERSION, Sample, Summary};
use super::{hlog, page};

const SUMMARY: &str = "summary.json";
pub(crate) const SERIES: &str = "series.csv";
const REPORT: &str = "report.html";
const HISTOGRAMS: [&str; 4] = ["confirm.hlog", "commit.hlog", "event.hlog", "schedule_lag.hlog"];
/// Name of the summary until all of it is written.
const UNFINISHED: &str = "summary.json.part";

impl Results {
    /// Writes all files into `dir`, which is created if it is missing. Results of an earlier run are replaced.
    /// `summary.json` comes last: a folder without it is incomplete.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        ensure_usable(dir)?;
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        remove(&dir.join(SUMMARY))?;
        let measured = &self.histograms;
        let histograms = [&measured.confirm, &measured.commit, &measured.event, &measured.schedule_lag];
        for (name, histogram) in HISTOGRAMS.into_iter().zip(histograms) {
            put(dir, name, hlog::encode(histogram, &self.summary)?)?;
        }
        put(dir, SERIES, series_to_csv(&self.series)?)?;
        put(dir, REPORT, page::page(self)?)?;
        put(dir, UNFINISHED, summary_to_json(&self.summary)?)?;
        let done = dir.join(SUMMARY);
        fs::rename(dir.join(UNFINISHED), &done).with_context(|| format!("write {}", done.display()))
    }
}

impl Summary {
    /// Reads the summary of a results folder. Fails, with the path, if it is missing, malformed, or of another version.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(SUMMARY);
        let json =
            fs::read(&path).with_context(|| format!("read {}: not a complete results folder", path.display()))?;
        Self::from_json(&json).with_context(|| format!("read {}", path.display()))
    }

    fn from_json(json: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(json)?;
        let found = &value["schema_version"];
        if *found != SCHEMA_VERSION {
            bail!("schema_version is {found}, expected {SCHEMA_VERSION}: use the settled-loadtest that wrote it");
        }
        Ok(serde_json::from_value(value)?)
    }
}

/// Fails unless results may be written into `dir`: it is missing, empty, or holds results of an earlier run and nothing
/// else. Better asked before a long run than after it.
pub(crate) fn ensure_usable(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("results folder {}", dir.display())),
    };
    for entry in entries {
        let name = entry.with_context(|| format!("results folder {}", dir.display()))?.file_name();
        ensure!(
            is_ours(&dir.join(&name)),
            "results folder {}: {} is not a result of settled-loadtest; expected a folder that is new, empty or has \
             earlier results only",
            dir.display(),
            name.display()
        );
    }
    Ok(())
}

/// Returns true for a file that this program has written, as far as name and content tell.
fn is_ours(path: &Path) -> bool {
    if path.ends_with(SUMMARY) {
        let summary = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        return summary.is_some_and(|value| value["schema_version"].is_u64() && value["tool_version"].is_string());
    }
    let known = HISTOGRAMS.into_iter().chain([SERIES, REPORT, UNFINISHED]).any(|name| path.ends_with(name));
    known && path.is_file()
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("replace {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file into a folder of results.
pub(crate) fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))
}

/// The content of `summary.json`.
pub(super) fn summary_to_json(summary: &Summary) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(summary)?;
    json.push(b'\n');
    Ok(json)
}

/// The content of `series.csv`: a header, and a line per sample.
pub(super) fn series_to_csv(series: &[Sample]) -> Result<Vec<u8>> {
    let mut csv = csv_line(&Sample::default(), |name, _| name.trim_matches('"'))?;
    for sample in series {
        csv += &csv_line(sample, |_, value| if value == "null" { "" } else { value })?;
    }
    Ok(csv.into_bytes())
}

/// What `part` takes of each field, in their order. All values are numbers, so their JSON has no other commas and colons.
fn csv_line(sample: &Sample, part: for<'j> fn(&'j str, &'j str) -> &'j str) -> Result<String> {
    let json = serde_json::to_string(sample)?;
    let fields = json.trim_matches(['{', '}']).split(',').filter_map(|field| field.split_once(':'));
    Ok(fields.map(|(name, value)| part(name, value)).collect::<Vec<_>>().join(",") + "\n")
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
    fn a_summary_that_is_written_can_be_read_again() {
        for results in [fixture::good_run(), fixture::drain(), fixture::nothing(), fixture::failed_run()] {
            let parent = written(&results);
            assert_eq!(Summary::read(&parent.path().join("new/results")).expect("read"), results.summary);
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
        let read = Summary::from_json(&serde_json::to_vec(&old).expect("JSON")).expect("a summary");
        let by_type = std::collections::BTreeMap::new();
        assert_eq!(read, Summary { by_type, ..fixture::good_run().summary });
    }

    #[test]
    fn a_series_names_its_columns_and_has_every_value_in_its_place() {
        let csv = |series: &[Sample]| String::from_utf8(series_to_csv(series).expect("CSV")).expect("text");
        assert_eq!(csv(&[]), format!("{HEADER}\n"));
        for sample in fixture::good_run().series.iter().chain(&fixture::drain().series) {
            let text = csv(std::slice::from_ref(sample));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], HEADER);
            let fields = lines[0].split(',').zip(lines[1].split(','));
            // What was not measured is empty.
            let read: serde_json::Map<String, Value> = fields
                .map(|(name, value)| {
                    (name.to_owned(), if value.is_empty() { Value::Null } else { value.parse().expect(name) })
                })
                .collect();
            assert_eq!(Value::Object(read), serde_json::to_value(sample).expect("JSON"));
        }
        assert!(csv(&fixture::drain().series[..1]).contains(",,,,,,"));
    }

    #[test]
    fn earlier_results_are_replaced() {
        let parent = written(&fixture::good_run());
        let dir = parent.path().join("new/results");
        fixture::drain().write(&dir).expect("written");
        assert_eq!(Summary::read(&dir).expect("read").verb, "drain");
        let mut files: Vec<_> =
            fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("a file").file_name()).collect();
        files.sort();
        let mut expected = HISTOGRAMS.to_vec();
        expected.extend([REPORT, SERIES, SUMMARY]);
        expected.sort_unstable();
        assert_eq!(files, expected);
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
    fn a_summary_that_cannot_be_read_is_named_with_the_reason() {
        for (content, reason) in [
            (Some("{\"schema_version\": 2, \"new\": true}"), "schema_version is 2, expected 1"),
            (Some("a,b\n1,2\n"), "expected value"),
            (None, "not a complete results folder"),
        ] {
            let parent = written(&fixture::nothing());
            let path = parent.path().join("new/results").join(SUMMARY);
            match content {
                Some(content) => fs::write(&path, content).expect("written"),
                None => fs::remove_file(&path).expect("it was there"),
            }
            let message = message(Summary::read(&parent.path().join("new/results")));
            assert!(message.contains(&path.display().to_string()) && message.contains(reason), "{message}");
        }
    }
}
