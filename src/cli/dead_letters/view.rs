//! Dead letters, and the report of a replay or discard, as JSON and for people.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use settled_core::contract::{Bytes, Properties};
use settled_store::queries::dead_letter::{DeadLetterRow, StoredDeadLetter};

use crate::cli::human::{counted, or_dash, time};
use crate::cli::output::Text;

/// The result of a replay or discard, or what it would be if `dry_run`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) dry_run: bool,
    /// Ids that were replayed or discarded.
    pub(super) done: Vec<i64>,
    /// The number of those that failed again meanwhile and stay open.
    pub(super) came_again: usize,
    /// Ids that can't be replayed, because only the beginning of the body was stored.
    pub(super) oversize: Vec<i64>,
    /// Requested ids that do not exist or were resolved before.
    pub(super) missing: Vec<i64>,
    /// Properties that were not published again, with the ids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) left_out: BTreeMap<&'static str, Vec<i64>>,
    /// Dead letters that the broker refused; they stay open.
    pub(super) refused: Vec<Refused>,
    /// The command was interrupted before it was through.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) interrupted: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) id: i64,
    /// The broker's message.
    pub(super) reason: String,
}

impl Report {
    /// Returns a report in which all of `ids` are missing so far.
    pub(super) fn new(dry_run: bool, ids: &[i64]) -> Self {
        let missing = BTreeSet::from_iter(ids.iter().copied()).into_iter().collect();
        Self { dry_run, missing, ..Self::default() }
    }

    pub(super) fn human(&self, verb: &str) -> Text {
        let would = if self.dry_run { "would be " } else { "" };
        let mut text = Text::of(format!("{} {would}{verb}", counted(self.done.len(), "dead letter")));
        if self.came_again > 0 {
            text.line(format!("{} came again meanwhile and stay open", self.came_again));
        }
        // Of those that were not looked at, nothing is known.
        let missing = if self.interrupted { &Vec::new() } else { &self.missing };
        for (ids, why) in [
            (&self.oversize, "oversize, and can't be replayed: only the beginning of the body was kept"),
            (missing, "not found, or dealt with before"),
        ] {
            if !ids.is_empty() {
                text.line(format!("{why}: {}", list_of(ids)));
            }
        }
        for (what, ids) in &self.left_out {
            let why = match *what {
                "expiration" => "with it the message could be gone before it is taken",
                "user_id" => {
                    "the broker takes no other than this connection's, whose rules apply where publishers have any"
                }
                _ => "they were too long to be kept",
            };
            text.line(format!("published without `{what}`: {why}: {}", list_of(ids)));
        }
        for Refused { id, reason } in &self.refused {
            text.line(format!("{id} stays open, the broker refuses it: {reason}"));
        }
        text
    }
}

fn list_of(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}

/// A dead letter with its body: as text if it is text, otherwise in hexadecimal.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    row: &'a DeadLetterRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
    properties: &'a Properties,
}

impl<'a> Shown<'a> {
    pub(super) fn of(letter: &'a StoredDeadLetter) -> Self {
        let StoredDeadLetter { row, body, properties } = letter;
        // UTF-16 without a byte order mark is valid UTF-8, too, but contains NULs.
        let text = std::str::from_utf8(body).ok().filter(|text| !text.contains('\0'));
        Self { row, body: text, body_hex: text.is_none().then(|| Bytes::to_hex(body)), properties }
    }

    pub(super) fn human(&self) -> Text {
        let row = self.row;
        let mut lines = vec![
            ("dead letter", row.id.to_string()),
            ("reason", row.reason.clone()),
            ("field", or_dash(row.field.as_ref())),
            ("detail", row.detail.clone()),
            ("task", or_dash(row.task_id)),
            ("attempts", row.attempts.to_string()),
            ("first_seen", time(row.first_seen)),
            ("last_seen", time(row.last_seen)),
            ("resolution", row.resolution.clone().unwrap_or_else(|| "open".to_owned())),
        ];
        lines.extend(row.resolved_at.map(|at| ("resolved_at", time(at))));
        let properties = serde_json::to_string(self.properties).unwrap_or_default();
        lines.push(("properties", properties));
        let (heading, body) = match (self.body, &self.body_hex) {
            (Some(text), _) => ("body:".to_owned(), text.to_owned()),
            (None, hex) => hex_lines(hex.as_deref().unwrap_or_default()),
        };
        let mut text = Text::default();
        text.pairs(lines);
        text.line("");
        text.line(heading);
        text.quote(&body);
        text
    }
}

/// Returns a heading, and the first bytes of a body that is no text.
fn hex_lines(hex: &str) -> (String, String) {
    const LINE: usize = 64;
    const LINES: usize = 16;
    let lines: Vec<&str> =
        hex.as_bytes().chunks(LINE).take(LINES).filter_map(|line| str::from_utf8(line).ok()).collect();
    let more = if hex.len() > LINE * LINES { "\n…; `--json` has all of it" } else { "" };
    let heading = format!("body, {} bytes that are no text, in hexadecimal:", hex.len() / 2);
    (heading, format!("{}{more}", lines.join("\n")))
}
