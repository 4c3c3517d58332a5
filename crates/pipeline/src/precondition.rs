//! What the daemon needs of a server before it can work, as it was found there.
//!
//! Each server has one list of them, which `settled run` goes through when it starts, and `settled check --connect` too.

use serde::Serialize;

use crate::labels::label;

label! {
    /// How far a precondition holds.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    Verdict {
        /// It holds, and nothing has to be done.
        Ok = "ok",
        /// It does not hold. Payments are processed, but something beside them is not, such as their events.
        Impaired = "impaired",
        /// It does not hold, and no payment can be processed. Somebody has to act.
        Failed = "failed",
    }
}

/// A precondition, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Precondition {
    /// What is needed: "table payment", "queue payments.tasks".
    pub what: String,
    /// How far it holds.
    pub verdict: Verdict,
    /// What was found on the server, or why the server refused.
    pub detail: String,
    /// What to do about it; `None` if it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Precondition {
    /// Returns a precondition that holds.
    pub fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    /// Returns a precondition without which no payment can be processed.
    pub fn failed(what: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// Returns whether nothing has to be done about it.
    pub fn holds(&self) -> bool {
        self.verdict == Verdict::Ok
    }
}

/// Returns what was found of each, and what to do, a line for each remedy: for the log and the command line.
pub fn sentences<'a>(unmet: impl IntoIterator<Item = &'a Precondition>) -> String {
    let (mut found, mut remedies): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    for Precondition { what, detail, remedy, .. } in unmet {
        found.push(format!("{what}: {detail}"));
        remedies.extend(remedy.as_deref());
    }
    remedies.sort_unstable();
    remedies.dedup();
    let remedies: String = remedies.iter().map(|remedy| format!("\n    remedy: {remedy}")).collect();
    found.join("; ") + &remedies
}
