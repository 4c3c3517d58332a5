//! `report.html`: a run on one page that needs no other file. The template holds the summary and the series exactly as
//! the results folder does; its script draws tables and charts of them, and without scripts the text of the summary shows.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::folder::series_to_csv;
use super::model::{Histograms, Results, Sample};
use super::text::text;

const TEMPLATE: &str = include_str!("page.html");
/// The most points of a line over time.
const SAMPLES: usize = 300;
/// Points of a distribution for each further nine: 90 %, 99 %, 99.9 %, 99.99 %.
const POINTS_PER_NINE: i32 = 20;
const NINES: i32 = 4;
/// Where the greatest value stands on an axis of nines.
const GREATEST: f64 = 5.0;

/// Fills in the template.
pub(super) fn page(results: &Results) -> Result<String> {
    let summary = &results.summary;
    let run = summary.label.clone().unwrap_or_else(|| format!("{} {}", summary.subject, summary.verb));
    let verdict = if summary.passed { "PASSED" } else { "FAILED" };
    let (mut page, mut rest) = (String::new(), TEMPLATE);
    // Only names in the template are replaced, never what was filled in: a label may look like one of them.
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        page += before;
        page += &match name {
            "title" => escaped(&format!("{verdict}: {run}")),
            "text" => escaped(&text(summary, false)),
            "summary" => inert(&serde_json::to_string(summary)?),
            "series" => String::from_utf8(series_to_csv(&thinned(&results.series))?)?,
            "distribution" => distribution(&results.histograms).to_string(),
            other => anyhow::bail!("the template names {other}"),
        };
        rest = after;
    }
    Ok(page + rest)
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// JSON that cannot end the element it stands in: `<` occurs in strings only.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// At most [`SAMPLES`] samples, so that a long run can be read. Of neighbours the last counters, the worst latency, depth
/// and memory, and the mean of processors stand for all: no peak is lost.
fn thinned(series: &[Sample]) -> Vec<Sample> {
    series.chunks(series.len().div_ceil(SAMPLES).max(1)).filter_map(merged).collect()
}

fn merged(neighbours: &[Sample]) -> Option<Sample> {
    let most = |of: fn(&Sample) -> u64| neighbours.iter().map(of).max().unwrap_or_default();
    let worst = |of: fn(&Sample) -> Option<f64>| neighbours.iter().filter_map(of).max_by(f64::total_cmp);
    let mean = |of: fn(&Sample) -> f64| neighbours.iter().map(of).sum::<f64>() / neighbours.len() as f64;
    Some(Sample {
        queue_depth: most(|sample| sample.queue_depth),
        outbox_events: most(|sample| sample.outbox_events),
        confirm_p50_ms: worst(|sample| sample.confirm_p50_ms),
        confirm_p99_ms: worst(|sample| sample.confirm_p99_ms),
        commit_p50_ms: worst(|sample| sample.commit_p50_ms),
        commit_p99_ms: worst(|sample| sample.commit_p99_ms),
        event_p50_ms: worst(|sample| sample.event_p50_ms),
        event_p99_ms: worst(|sample| sample.event_p99_ms),
        daemon_cpu_cores: mean(|sample| sample.daemon_cpu_cores),
        daemon_rss_bytes: most(|sample| sample.daemon_rss_bytes),
        postgres_cpu_cores: mean(|sample| sample.postgres_cpu_cores),
        postgres_rss_bytes: most(|sample| sample.postgres_rss_bytes),
        rabbitmq_cpu_cores: mean(|sample| sample.rabbitmq_cpu_cores),
        rabbitmq_rss_bytes: most(|sample| sample.rabbitmq_rss_bytes),
        generator_cpu_cores: mean(|sample| sample.generator_cpu_cores),
        ..neighbours.last()?.clone()
    })
}

/// Latencies in milliseconds by number of nines, of what was measured.
fn distribution(histograms: &Histograms) -> Value {
    let measured =
        [("commit", &histograms.commit), ("event", &histograms.event), ("confirm", &histograms.confirm)].into_iter();
    let points = |micros: &Histogram<u64>| -> Vec<(f64, f64)> {
        let nines = (0..=NINES * POINTS_PER_NINE).map(|step| f64::from(step) / f64::from(POINTS_PER_NINE));
        let points = nines.map(|nines| (nines, micros.value_at_quantile(1.0 - 10_f64.powf(-nines))));
        points.chain([(GREATEST, micros.max())]).map(|(nines, micros)| (nines, micros as f64 / 1e3)).collect()
    };
    let measured = measured.filter(|(_, micros)| !micros.is_empty());
    measured.map(|(name, micros)| (name.to_owned(), json!(points(micros)))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::model::Summary;

    fn pages() -> [(Results, String); 5] {
        let long = Results { series: fixture::series(4_000, 5.0), ..fixture::good_run() };
        [fixture::good_run(), fixture::drain(), fixture::nothing(), fixture::failed_run(), long]
            .map(|results| (results.clone(), page(&results).expect("a page")))
    }

    /// What an element of the page holds.
    fn held<'p>(page: &'p str, id: &str) -> &'p str {
        let (_, rest) = page.split_once(&format!("id=\"{id}\">")).expect(id);
        rest.split_once("</script>").expect("its end").0
    }

    #[test]
    fn a_page_holds_the_data_of_its_folder() {
        for (results, page) in pages() {
            assert_eq!(serde_json::from_str::<Summary>(held(&page, "summary")).expect("JSON"), results.summary);
            assert_eq!(held(&page, "series").as_bytes(), series_to_csv(&thinned(&results.series)).expect("CSV"));
            let distribution: Value = serde_json::from_str(held(&page, "distribution")).expect("JSON");
            let measured = ["commit", "event", "confirm"].map(|name| distribution[name].is_array());
            assert_eq!(measured, [results.summary.latency_ms.commit.is_some(); 3]);
            if let Some(commit) = results.summary.latency_ms.commit {
                let at = |place: &Value| place.as_array().and_then(|points| points.last().cloned());
                assert_eq!(at(&distribution["commit"]), Some(json!([GREATEST, commit.max])));
                assert_eq!(distribution["commit"][40], json!([2.0, commit.p99]));
            }
        }
    }

    #[test]
    fn a_series_that_is_too_long_is_thinned_and_loses_no_peak() {
        let short = fixture::series(300, 5.0);
        assert_eq!(thinned(&short), short);
        // The last point stands for what is left: one sample.
        let series = fixture::series(601, 5.0);
        let drawn = thinned(&series);
        assert_eq!((drawn.len(), drawn[0].at_s, drawn.last()), (201, 3.0, series.last()));
        let columns = |samples: &[Sample]| -> Vec<Map<String, Value>> {
            samples.iter().map(|sample| serde_json::from_value(json!(sample)).expect("an object")).collect()
        };
        let (all, drawn) = (columns(&series), columns(&drawn));
        for name in all[0].keys() {
            let of = |samples: &[Map<String, Value>]| -> Vec<f64> {
                samples.iter().filter_map(|sample| sample[name].as_f64()).collect()
            };
            let (all, drawn) = (of(&all), of(&drawn));
            let expected: Vec<f64> = all
                .chunks(3)
                .map(|three| match name.as_str() {
                    cores if cores.ends_with("_cores") => three.iter().sum::<f64>() / three.len() as f64,
                    worst if ["_ms", "_bytes", "depth", "outbox_events"].iter().any(|end| worst.ends_with(end)) => {
                        three.iter().copied().fold(0.0, f64::max)
                    }
                    _ => three[three.len() - 1],
                })
                .collect();
            assert_eq!(drawn, expected, "{name}");
        }
        // A second in which nothing was measured does not hide what was, and is a gap where it is alone.
        let failed = fixture::failed_run().series;
        assert!(merged(&failed[7..9]).is_some_and(|two| two.commit_p99_ms == failed[7].commit_p99_ms));
        assert!(merged(&failed[8..10]).is_some_and(|two| two.commit_p99_ms.is_none()));
    }

    #[test]
    fn a_page_needs_nothing_else() {
        for (_, page) in pages() {
            // The name of SVG, which nobody fetches.
            let page = page.replace("http://www.w3.org/2000/svg", "");
            for forbidden in ["http:", "https:", "url(", "@import", " src=", " href=", "{{"] {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
        }
    }

    #[test]
    fn texts_of_others_are_shown_and_not_obeyed() {
        let mut results = fixture::failed_run();
        let plain = page(&fixture::good_run()).expect("a page");
        results.summary.checks[0].found = Some("{{series}}</script></pre><script>".to_owned());
        let page = page(&results).expect("a page");
        let tags = |page: &str| ["<script", "</script", "</pre"].map(|tag| page.matches(tag).count());
        assert_eq!(tags(&page), tags(&plain));
        assert!(page.contains("<title>FAILED: &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;</title>"));
    }

    #[test]
    fn without_scripts_the_verdict_is_said_in_words() {
        let [(_, good), .., (_, failed), _] = pages();
        let without =
            |page: &str| page.split_once("<noscript>").expect("text").1.split("</noscript>").next().map(str::to_owned);
        assert!(without(&good).is_some_and(|text| text.contains("PASSED")));
        let failed = without(&failed).expect("text");
        assert!(failed.contains("FAILED") && failed.contains("and 1,203 more") && failed.contains("p99&lt;25ms"));
    }
}
