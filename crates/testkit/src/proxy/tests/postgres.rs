//! Tests of the proxy with PostgreSQL messages.

use proptest::prelude::*;

use super::{fed, sizes};
use crate::proxy::CutPoint;
use crate::proxy::cutter::Cutter;
use crate::proxy::points::Points;
use crate::proxy::postgres::{Backend, Frontend, Session};

const INSERT: &str = "\n    INSERT INTO payment (id) SELECT unnest($1::uuid[])";
const DELETE: &str = "DELETE FROM outbox WHERE id = ANY($1)";

fn start(code: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + rest.len()).unwrap().to_be_bytes();
    [&length, &code.to_be_bytes(), rest].concat()
}

fn start_up() -> Vec<u8> {
    start(196_608, b"user\0settled\0\0")
}

fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(4 + payload.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], payload].concat()
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// Returns a transaction as the daemon sends it, with these statements bound.
fn transaction(bound: &[&str]) -> Vec<u8> {
    let statements: Vec<u8> =
        bound.iter().flat_map(|name| [bind(name), message(b'E', b"\0\0\0\0\0"), sync()].concat()).collect();
    [query("BEGIN"), statements].concat()
}

fn prepared() -> Vec<u8> {
    [start_up(), parse("s0", INSERT), sync(), parse("s1", DELETE), sync()].concat()
}

fn armed(point: CutPoint) -> Points {
    let points = Points::default();
    points.arm(point);
    points
}

/// Generates messages of any type, including those that the proxy inspects.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let payload = prop::collection::vec(any::<u8>(), 0..1500);
    let any_message = (any::<u8>(), payload).prop_map(|(kind, payload)| message(kind, &payload));
    let known = prop::sample::select(vec![
        query("COMMIT"),
        query("BEGIN"),
        parse("s0", INSERT),
        bind("s0"),
        sync(),
        complete("COMMIT"),
        ready(),
        message(b'C', b"Ss0\0"),
        message(b'Q', b""),
    ]);
    prop::collection::vec(prop_oneof![any_message, known], 0..16)
}

proptest! {
    #[test]
    fn every_byte_passes_unchanged_however_it_comes(messages in messages(), sizes in sizes()) {
        let (points, session) = (Points::default(), Session::default());
        let bytes = [start_up(), messages.concat()].concat();
        prop_assert_eq!(fed(Frontend::new(&session, &points), &bytes, &sizes), (bytes, None));
        let bytes = messages.concat();
        let session = Session::default();
        prop_assert_eq!(fed(Backend::new(&session, &points), &bytes, &sizes), (bytes, None));
    }

    #[test]
    fn before_the_commit_of_a_batch_all_that_came_before_is_forwarded(sizes in sizes()) {
        let points = armed(CutPoint::BeforeCommit);
        // The COMMIT of a deletion comes first and must pass.
        let before = [prepared(), transaction(&["s1"]), query("COMMIT"), transaction(&["s0", "s1"])].concat();
        let bytes = [&before[..], &query("COMMIT"), &query("BEGIN")].concat();
        let cut = fed(Frontend::new(&Session::default(), &points), &bytes, &sizes);
        prop_assert_eq!(cut, (before, Some(CutPoint::BeforeCommit)));
    }

    #[test]
    fn after_the_commit_of_a_batch_nothing_of_its_answer_is_forwarded(sizes in sizes()) {
        let (points, session) = (armed(CutPoint::AfterCommit), Session::default());
        let sent = [
            prepared(),
            [transaction(&["s1"]), query("COMMIT")].concat(),
            [transaction(&["s0"]), query("COMMIT")].concat(),
        ].concat();
        prop_assert_eq!(fed(Frontend::new(&session, &points), &sent, &sizes), (sent, None));
        let statement = |tag| [complete(tag), ready()].concat();
        // One reply to the start and one to each Parse, before the transactions.
        let mut before = [ready(), ready(), ready()].concat();
        for tag in ["BEGIN", "DELETE 1", "COMMIT", "BEGIN", "INSERT 0 1"] {
            before.extend(statement(tag));
        }
        let answers = [&before[..], &statement("COMMIT")].concat();
        let cut = fed(Backend::new(&session, &points), &answers, &sizes);
        prop_assert_eq!(cut, (before, Some(CutPoint::AfterCommit)));
    }
}

#[test]
fn a_commit_that_became_a_rollback_is_not_cut() {
    let (points, session) = (armed(CutPoint::AfterCommit), Session::default());
    let sent = [prepared(), transaction(&["s0"]), query("COMMIT")].concat();
    fed(Frontend::new(&session, &points), &sent, &[7]);
    let failed = [ready(), ready(), ready(), complete("BEGIN"), ready(), message(b'E', b"\0"), ready()].concat();
    let answers = [failed, complete("ROLLBACK"), ready()].concat();
    assert_eq!(fed(Backend::new(&session, &points), &answers, &[7]), (answers, None));
    assert_eq!(points.armed(CutPoint::AfterCommit), 1, "the next one");
}

#[test]
fn which_commits_are_those_of_a_batch() {
    let one = |steps: &[Vec<u8>]| {
        let points = armed(CutPoint::BeforeCommit);
        let bytes = [prepared(), steps.concat(), query("COMMIT")].concat();
        fed(Frontend::new(&Session::default(), &points), &bytes, &[1000]).1.is_some()
    };
    assert!(one(&[transaction(&["s0"])]));
    assert!(!one(&[transaction(&["s1"])]), "a deletion");
    assert!(!one(&[transaction(&["s0"]), query("ROLLBACK"), transaction(&["s1"])]), "the one before was");
    assert!(!one(&[message(b'C', b"Ss0\0"), transaction(&["s0"])]), "the statement was closed");
    assert!(one(&[message(b'C', b"Ps0\0"), transaction(&["s0"])]), "a portal was closed");
    assert!(one(&[parse("", INSERT), transaction(&[""])]), "a statement without a name");
    assert!(!one(&[parse("", INSERT), parse("", DELETE), transaction(&[""])]), "which has another text now");
}

#[test]
fn encryption_that_is_asked_for_and_declined_is_followed() {
    let (points, session) = (armed(CutPoint::BeforeCommit), Session::default());
    let asked = start(80_877_103, b"");
    let (mut frontend, mut backend) =
        (Cutter::new(Frontend::new(&session, &points)), Cutter::new(Backend::new(&session, &points)));
    let mut out = Vec::new();
    assert_eq!(frontend.feed(&asked, &mut out).unwrap(), None);
    assert_eq!(backend.feed(b"N", &mut out).unwrap(), None);
    assert_eq!(out, [&asked[..], b"N"].concat());
    let bytes = [prepared(), transaction(&["s0"]), query("COMMIT")].concat();
    assert_eq!(frontend.feed(&bytes, &mut out).unwrap(), Some(CutPoint::BeforeCommit));
}

#[test]
fn a_message_of_a_gigabyte_is_held_no_longer_than_a_small_one() {
    let (points, session) = (Points::default(), Session::default());
    let mut cutter = Cutter::new(Backend::new(&session, &points));
    let begun = [&b"D"[..], &0x4000_0000_u32.to_be_bytes(), &[7; 4096]].concat();
    let mut out = Vec::new();
    assert_eq!(cutter.feed(&begun, &mut out).unwrap(), None);
    assert_eq!(out, begun);
}

#[test]
fn what_is_no_message_is_refused() {
    let (points, session) = (Points::default(), Session::default());
    assert!(Cutter::new(Frontend::new(&session, &points)).feed(&[0; 8], &mut Vec::new()).is_err());
    assert!(Cutter::new(Backend::new(&session, &points)).feed(b"Z\0\0\0\0", &mut Vec::new()).is_err());
}

#[test]
fn a_server_that_speaks_before_encryption_is_asked_for_is_refused() {
    let (points, session) = (Points::default(), Session::default());
    let (mut up, mut down) =
        (Cutter::new(Frontend::new(&session, &points)), Cutter::new(Backend::new(&session, &points)));
    assert!(down.feed(b"R\0\0", &mut Vec::new()).is_ok_and(|cut| cut.is_none()));
    assert!(up.feed(&start(80_877_103, b""), &mut Vec::new()).is_ok_and(|cut| cut.is_none()));
    assert!(down.feed(b"\0", &mut Vec::new()).is_err());
}
