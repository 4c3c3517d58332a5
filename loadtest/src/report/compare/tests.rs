use super::*;
use crate::report::fixture;

fn figure(comparison: &Comparison, name: &str) -> (Option<f64>, Option<f64>, Option<f64>) {
    let figure = comparison.figures.iter().find(|figure| figure.name == name);
    figure.map_or((None, None, None), |figure| (figure.a, figure.b, figure.ratio))
}

#[test]
fn a_ratio_is_the_second_to_the_first() {
    let (a, mut b) = (fixture::good_run(), fixture::good_run());
    b.summary.rate_committed_per_s = a.summary.rate_committed_per_s / 4.0;
    b.summary.daemon.cpu_seconds = a.summary.daemon.cpu_seconds * 3.0;
    let comparison = Comparison::new(&a, &b);
    assert_eq!(figure(&comparison, "committed"), (Some(1_980.0), Some(495.0), Some(0.25)));
    assert_eq!(figure(&comparison, "to commit, p99").2, Some(1.0));
    let cpu = figure(&comparison, "daemon, CPU per payment").2.expect("a ratio");
    assert!((cpu - 3.0).abs() < 1e-9, "{cpu}");
}

#[test]
fn there_is_no_ratio_to_nothing() {
    let (a, mut b) = (fixture::drain(), fixture::good_run());
    b.summary.lost = 2;
    let comparison = Comparison::new(&a, &b);
    assert_eq!(figure(&comparison, "lost"), (Some(0.0), Some(2.0), None));
    let (missing, there, ratio) = figure(&comparison, "to event, p50");
    assert_eq!((missing, there.is_some(), ratio), (None, true, None));
}

#[test]
fn latencies_are_those_of_the_summary() {
    let run = fixture::good_run();
    let event = run.summary.latency_ms.event.expect("measured");
    let comparison = Comparison::new(&run, &run);
    let shown = ["p50", "p99", "p99.9", "max"].map(|name| figure(&comparison, &format!("to event, {name}")).0);
    assert_eq!(shown, [event.p50, event.p99, event.p999, event.max].map(Some));
}

#[test]
fn the_same_load_on_the_same_machine_differs_in_nothing() {
    assert_eq!(Comparison::new(&fixture::good_run(), &fixture::good_run()).differences, Vec::<String>::new());
}

#[test]
fn another_load_or_machine_is_called_out() {
    let (a, mut b) = (fixture::good_run(), fixture::good_run());
    b.summary.load.rate = "3000/s".to_owned();
    b.summary.load.accounts = 10;
    b.summary.machine.cpus = 8;
    b.summary.generator_was_the_bottleneck = true;
    assert_eq!(
        Comparison::new(&a, &b).differences,
        [
            "not the same load: rate: 2000/s, 3000/s",
            "not the same load: accounts: 1,000, 10",
            "not the same machine: processors: 2, 8",
            "the load generator could not keep to its schedule: the second",
        ]
    );
}

#[test]
fn two_runs_side_by_side() {
    insta::assert_snapshot!(text(&Comparison::new(&fixture::good_run(), &fixture::failed_run())));
}

#[test]
fn without_latency_there_are_no_rows_of_it() {
    insta::assert_snapshot!(text(&Comparison::new(&fixture::drain(), &fixture::drain())));
}

#[test]
fn folders_are_compared_and_a_missing_one_is_named() {
    let parent = tempfile::tempdir().expect("a directory");
    let (a, b) = (parent.path().join("a"), parent.path().join("b"));
    fixture::good_run().write(&a).expect("written");
    let error = compare(&a, &b, true).expect_err("b is missing");
    assert!(format!("{error:#}").contains(&b.join("summary.json").display().to_string()), "{error:#}");
    fixture::good_run().write(&b).expect("written");
    let json: serde_json::Value = serde_json::from_str(&compare(&a, &b, true).expect("compared")).expect("JSON");
    assert_eq!((&json["figures"][1]["name"], &json["figures"][1]["ratio"]), (&"committed".into(), &1.0.into()));
}
