use super::*;

/// 1 to 1000 ms to the commit, nothing to the event.
fn measured() -> Histograms {
    let mut histograms = Histograms::new();
    (1..=1000).for_each(|millis| histograms.commit.saturating_record(millis * 1000));
    (1..=10).for_each(|micros| histograms.confirm.saturating_record(micros));
    histograms
}

fn held(terms: &str) -> Vec<bool> {
    let counts = Counts { dead_lettered: 3, rate_committed: 1500.5, ..Counts::default() };
    let slo: Slo = terms.parse().expect("an objective");
    slo.judge(&measured(), &counts).into_iter().map(|result| result.held).collect()
}

#[test]
fn terms_hold_or_do_not() {
    assert_eq!(held("p50<=501ms, p50<499ms, commit.p99<1s, max>999ms, max<0.5s"), [true, false, true, true, false]);
    assert_eq!(held("confirm.p999<=10us,confirm.max<10us"), [true, false]);
    assert_eq!(held("lost=0,dead_lettered=3,dead_lettered<3,rejected>0"), [true, true, false, false]);
    assert_eq!(held("rate_committed>=1500.5,rate_committed>1500.5"), [true, false]);
}

#[test]
fn a_measure_is_told_in_the_unit_of_its_term() {
    let slo: Slo = "p90<2s".parse().expect("an objective");
    let measured = slo.judge(&measured(), &Counts::default())[0].measured;
    assert!((measured - 0.9).abs() < 0.01, "{measured}");
}

#[test]
fn a_latency_that_was_not_measured_does_not_hold() {
    assert_eq!(held("event.p99<1s"), [false]);
    let slo: Slo = "lost=0,event.p99<1s".parse().expect("an objective");
    assert_eq!(slo.needs_other_than(&[Span::Commit, Span::Confirm]), Some("event.p99<1s"));
    assert_eq!(slo.needs_other_than(&[Span::Event]), None);
}

#[test]
fn a_wrong_term_is_named_with_what_was_expected() {
    for (text, expected) in [
        ("p99", "no relation"),
        ("", "no relation"),
        ("lost=0,p95<3ms", "term `p95<3ms`: unknown measure `p95`, expected p50 p90"),
        ("foo.p99<3ms", "unknown measure `foo.p99`"),
        ("p99<25", "expected a number with us, ms or s"),
        ("p99<25min", "expected a number with us, ms or s"),
        ("p99<fast", "does not begin with a number"),
        ("p99<-1ms", "does not begin with a number"),
        ("lost=0ms", "expected a number alone"),
        ("p99<25ms,,lost=0", "term ``"),
    ] {
        let error = text.parse::<Slo>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn an_objective_reads_as_it_is_shown() {
    let slo: Slo = " p99<25ms , lost=0".parse().expect("an objective");
    assert_eq!(slo.to_string(), "p99<25ms,lost=0");
}
