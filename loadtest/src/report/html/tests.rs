use super::*;
use crate::report::chart::Scale;
use crate::report::fixture;
use crate::report::model::Sample;

/// Elements that have no end tag.
const VOID: [&str; 2] = ["meta", "!DOCTYPE"];

fn pages() -> [String; 5] {
    [fixture::good_run(), fixture::drain(), fixture::nothing(), fixture::failed_run(), fixture::run(4_000, 5.0)]
        .map(|results| page(&results).into_string())
}

/// Names of the tags of a page, `/name` for an end tag, without what styles and scripts hold.
fn tags(page: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some((_, tag)) = rest.split_once('<') {
        let (inside, after) = tag.split_once('>').expect("the end of a tag");
        assert!(!inside.contains('<'), "a tag in a tag: {inside}");
        let name = inside.split_whitespace().next().expect("a name");
        rest = after;
        if name == "style" || name == "script" {
            let raw_until = rest.find(&format!("</{name}>")).expect("an end tag");
            rest = &rest[raw_until..];
        }
        tags.push(name);
    }
    tags
}

#[test]
fn every_tag_is_closed_in_order() {
    for page in pages() {
        let mut open = Vec::new();
        for tag in tags(&page) {
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if VOID.contains(&tag) => {}
                None => open.push(tag),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }
}

#[test]
fn a_page_needs_nothing_else_and_shows_no_number_that_is_none() {
    for page in pages() {
        for forbidden in ["http:", "https:", "url(", "@import", " src=", " href=", "NaN", "inf ", ">inf"] {
            let found = page.find(forbidden).map(|at| &page[at.saturating_sub(80)..(at + 40).min(page.len())]);
            assert!(found.is_none(), "{forbidden} in {found:?}");
        }
    }
}

#[test]
fn texts_of_others_are_shown_and_not_obeyed() {
    let page = page(&fixture::failed_run()).into_string();
    assert_eq!(tags(&page).iter().filter(|tag| **tag == "script").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;"), "the label");
    assert!(page.contains("&lt;8&gt; &amp; more"), "the command");
}

#[test]
fn the_verdict_is_said_in_words() {
    assert!(page(&fixture::good_run()).into_string().contains("✓ PASSED"));
    let failed = page(&fixture::failed_run()).into_string();
    assert!(failed.contains("✗ FAILED") && failed.contains("and 1,203 more") && failed.contains("p99&lt;25ms"));
}

#[test]
fn a_chart_of_what_was_not_measured_is_left_out() {
    let titles = |results| charts::of(&results).iter().map(|chart| chart.title).collect::<Vec<_>>();
    let all =
        ["Rate", "Latency of each second", "Distribution of latency", "What waits", "Processors", "Resident memory"];
    assert_eq!(titles(fixture::good_run()), all);
    assert_eq!(titles(fixture::drain()), ["Rate", "What waits", "Processors", "Resident memory"]);
    assert_eq!(titles(fixture::nothing()), Vec::<&str>::new());
}

#[test]
fn a_long_run_has_no_more_points_than_a_short_one() {
    let charts = charts::of(&fixture::run(4_000, 5.0));
    let rate = charts.first().expect("a chart");
    assert!((250..=300).contains(&rate.places.len()), "{} points", rate.places.len());
    let mean = rate.lines[0].heights.iter().flatten().sum::<f64>() / rate.places.len() as f64;
    assert!((4.5..5.5).contains(&mean), "{mean} published per second");
}

#[test]
fn a_sample_right_after_another_makes_no_rate_of_its_own() {
    let mut results = fixture::good_run();
    let last = results.series.last().expect("samples").clone();
    results.series.push(Sample { at_s: last.at_s + 0.001, published: last.published + 100, ..last });
    let rate = charts::of(&results).swap_remove(0);
    assert!(matches!(rate.y, Scale::Linear { max, .. } if max < 10_000.0), "{:?}", rate.y);
}
