//! Runs in which things break, small: each fault has to strike, and nothing may be lost or doubled.

use serde_json::Value;

use crate::support::{loadtest, loadtest_beside_others, loadtest_with_a_stream};

/// How often a fault struck, and did as it was to.
fn struck(summary: &Value, fault: &str) -> u64 {
    let faults = summary["faults"].as_array().expect("faults").iter();
    let tried = faults.filter(|tried| tried["fault"] == fault).filter_map(|tried| tried["count"].as_u64());
    tried.sum()
}

/// The smallest number of tasks that were in flight at any strike.
fn least_in_flight(summary: &Value) -> u64 {
    let strikes = summary["strikes"].as_array().expect("strikes").iter();
    strikes.filter_map(|strike| strike["in_flight"].as_u64()).min().expect("a strike")
}

#[test]
fn a_daemon_that_is_killed_and_whose_connections_are_cut_loses_and_doubles_nothing() {
    let cuts = "cut-before-commit:3,cut-after-commit:3,cut-before-ack:3,cut-after-ack:3,cut-before-confirm:3";
    let line = format!("chaos --faults kill:3,term:1,{cuts} --duration 10s --rate 300 --seed 7 --json");
    let summary = loadtest_beside_others(&line).passed();
    let cuts = cuts.split(',').map(|cut| cut.trim_end_matches(":3"));
    assert!(cuts.chain(["kill"]).all(|fault| struck(&summary, fault) == 3), "{summary:#}");
    assert_eq!((struck(&summary, "term"), &summary["deadlocks"]), (1, &0.into()));
    assert!(least_in_flight(&summary) >= 50, "{summary:#}");
    assert!(summary["looked_up"].as_u64() > Some(0), "nobody looked a commit up: {summary:#}");
}

#[test]
fn two_daemons_survive_the_faults_of_their_servers_and_payments_go_on_with_their_lives() {
    let faults = "freeze:1,db-stop:1,db-terminate:1,db-lock:1,queue-delete:1,events-unbind:1,events-delete:1";
    let mix = "--mix transfer:60,authorize-capture:20,refund:10,legs:4:5 --out-of-order 5% --scheduled 5%:1s";
    let line =
        format!("chaos --faults {faults} --hold 500ms --daemons 2 --duration 8s --rate 300 --seed 3 {mix} --json");
    let summary = loadtest(&line).passed();
    assert_eq!((summary["strikes"].as_array().map(Vec::len), &summary["daemons"]), (Some(7), &2.into()));
}

#[test]
fn a_run_whose_faults_cannot_strike_fails_and_says_how_to_repeat_it() {
    let line =
        "chaos --faults kill:2 --in-flight 1000000 --duration 1s --patience 3s --rate 200 --burst 100ms --seed 12";
    let ended = loadtest_beside_others(line);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    for said in [
        "✗ every fault struck, with 1000000 tasks in flight",
        "with seed 12",
        "not 1000000 in flight within",
        "again: ",
    ] {
        assert!(ended.stdout.contains(said), "{said}: {}", ended.stdout);
    }
    assert!(ended.stdout.contains("  0 lost, 0 doubled") && ended.stdout.contains("--seed 12"), "{}", ended.stdout);
}

#[test]
fn two_daemons_survive_the_faults_of_a_stream_and_no_event_is_missing_from_it() {
    let faults = "kill:2,cut-before-stream-confirm:2,cut-after-stream-confirm:2,stream-delete:1";
    let rest = "--daemons 2 --duration 8s --rate 300 --seed 5 --set events.lease=1s --json";
    let summary = loadtest_with_a_stream(&format!("chaos --subscriber stream --faults {faults} {rest}")).passed();
    assert!(["cut-before-stream-confirm", "cut-after-stream-confirm"].iter().all(|cut| struck(&summary, cut) == 2));
    assert_eq!((struck(&summary, "stream-delete"), &summary["events_missing"]), (1, &0.into()), "{summary:#}");
}

#[test]
fn a_fault_of_the_stream_is_refused_where_there_is_none() {
    for (line, said) in [
        ("chaos --faults stream-delete", "events go to the exchange, expected --subscriber stream"),
        ("chaos --faults events-unbind --subscriber stream", "events go to a stream, expected --subscriber live"),
        ("chaos --subscriber late", "expected live or stream"),
    ] {
        let ended = loadtest(line);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}

#[test]
fn what_strikes_servers_is_refused_where_they_are_somebody_elses() {
    let given = "--amqp-uri amqp://guest:guest@127.0.0.1:1/%2f --postgres-url postgres://settled@127.0.0.1:1/settled";
    let ended = loadtest(&format!("chaos --faults kill,broker-kill {given}"));
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let said = "--faults broker-kill: strikes servers that are somebody else's, expected no --amqp-uri";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn what_is_no_fault_is_refused() {
    let ended = loadtest("chaos --faults kill,flood");
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("`flood` is no fault, expected all, or kill, freeze"), "{}", ended.stderr);
}
