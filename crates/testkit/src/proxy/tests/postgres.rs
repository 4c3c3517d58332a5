//! Tests of the proxy with PostgreSQL messages.

use proptest::prelude::*;

use super::{fed, said, sizes};
use crate::proxy::CutPoint::{AfterCommit, BeforeCommit};
use crate::proxy::Side::{Client, Server};
use crate::proxy::{CutPoint, Protocol, Side, Through, rehearse};

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
        let answers = messages.concat();
        let asked = [start_up(), answers.clone()].concat();
        for (side, bytes) in [(Client, asked), (Server, answers)] {
            prop_assert_eq!(fed(Protocol::Postgres, side, &[], &bytes, &sizes), (bytes, None));
        }
    }

    #[test]
    fn before_the_commit_of_a_batch_all_that_came_before_is_forwarded(sizes in sizes()) {
        // The COMMIT of a deletion comes first and must pass.
        let before = [prepared(), transaction(&["s1"]), query("COMMIT"), transaction(&["s0", "s1"])].concat();
        let bytes = [&before[..], &query("COMMIT"), &query("BEGIN")].concat();
        let cut = fed(Protocol::Postgres, Client, &[BeforeCommit], &bytes, &sizes);
        prop_assert_eq!(cut, (before, Some(BeforeCommit)));
    }

    #[test]
    fn after_the_commit_of_a_batch_nothing_of_its_answer_is_forwarded(sizes in sizes()) {
        let sent = [
            prepared(),
            [transaction(&["s1"]), query("COMMIT")].concat(),
            [transaction(&["s0"]), query("COMMIT")].concat(),
        ].concat();
        let statement = |tag| [complete(tag), ready()].concat();
        // One reply to the start and one to each Parse, before the transactions.
        let mut before = [ready(), ready(), ready()].concat();
        for tag in ["BEGIN", "DELETE 1", "COMMIT", "BEGIN", "INSERT 0 1"] {
            before.extend(statement(tag));
        }
        let answers = [&before[..], &statement("COMMIT")].concat();
        let all = said(Client, &sent, &sizes).chain(said(Server, &answers, &sizes));
        let Through { client, server, cut, .. } = rehearse(Protocol::Postgres, &[AfterCommit], all);
        prop_assert_eq!((client, server, cut), (sent, before, Some(AfterCommit)));
    }
}

/// Passes a conversation through a new connection.
fn conversation(armed: &[CutPoint], said: &[(Side, &[u8])]) -> Through {
    rehearse(Protocol::Postgres, armed, said.iter().copied())
}

#[test]
fn a_commit_that_became_a_rollback_is_not_cut() {
    let sent = [prepared(), transaction(&["s0"]), query("COMMIT")].concat();
    let failed = [ready(), ready(), ready(), complete("BEGIN"), ready(), message(b'E', b"\0"), ready()].concat();
    let answers = [failed, complete("ROLLBACK"), ready()].concat();
    let through = conversation(&[AfterCommit], &[(Client, &sent), (Server, &answers)]);
    assert_eq!((through.server, through.cut), (answers, None));
}

#[test]
fn which_commits_are_those_of_a_batch() {
    let one = |steps: &[Vec<u8>]| {
        let bytes = [prepared(), steps.concat(), query("COMMIT")].concat();
        conversation(&[BeforeCommit], &[(Client, &bytes)]).cut.is_some()
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
    let (asked, before) = (start(80_877_103, b""), [prepared(), transaction(&["s0"])].concat());
    let batch = [&before[..], &query("COMMIT")].concat();
    let through = conversation(&[BeforeCommit], &[(Client, &asked), (Server, b"N"), (Client, &batch)]);
    let (client, server) = ([asked, before].concat(), b"N".to_vec());
    assert_eq!(through, Through { client, server, cut: Some(BeforeCommit), is_refused: false });
}

#[test]
fn a_message_of_a_gigabyte_is_held_no_longer_than_a_small_one() {
    let begun = [&b"D"[..], &0x4000_0000_u32.to_be_bytes(), &[7; 4096]].concat();
    let through = conversation(&[], &[(Server, &begun)]);
    assert_eq!((through.server, through.is_refused), (begun, false));
}

#[test]
fn what_is_no_message_is_refused() {
    assert!(conversation(&[], &[(Client, &[0; 8])]).is_refused);
    assert!(conversation(&[], &[(Server, b"Z\0\0\0\0")]).is_refused);
}

#[test]
fn a_server_that_speaks_before_encryption_is_asked_for_is_refused() {
    let asked = start(80_877_103, b"");
    assert!(!conversation(&[], &[(Server, b"R\0\0"), (Client, &asked)]).is_refused);
    assert!(conversation(&[], &[(Server, b"R\0\0"), (Client, &asked), (Server, b"\0")]).is_refused);
}
