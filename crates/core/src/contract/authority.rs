//! Which tasks a publisher may publish. The decision rests on what the broker verifies (routing key,
//! user) and on the operator's settings, not on what a message says about itself.

use std::fmt;

use super::{AccountName, DeadLetter, DeadReason, Message, Properties, Task, TaskBody, TaskType};

/// The name whose rules apply to every publisher without rules of its own.
const ANYBODY: &str = "*";

/// The operator's rules for publishers.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    /// The exchange that tasks are published to.
    pub exchange: String,
    /// The daemon's own queues, to which no reply is sent.
    pub own_queues: Vec<String>,
    /// How a routing key is checked against the task's type.
    pub routing_key: KeyRule,
    /// Queues that replies may be sent to; any queue if the list is empty.
    pub replies: Vec<Pattern>,
    /// Whether a publisher is identified by the broker's `user_id` alone, and not by `app_id`.
    pub verified: bool,
    /// The rules of each publisher. If the list is empty, everything is allowed.
    pub publishers: Vec<PublisherRules>,
}

/// How a routing key is checked against the task's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyRule {
    /// The key is not checked.
    Ignore,
    /// A key that names another type is forbidden.
    #[default]
    Agree,
    /// The key must name the task's type.
    Require,
}

/// What a publisher may do. Whatever isn't listed is forbidden.
#[derive(Clone, Debug, Default)]
pub struct PublisherRules {
    /// Name of the publisher: its user on the broker, or `*` for all that have no rules of their own.
    pub name: String,
    /// Types of tasks that it may publish.
    pub types: Vec<Pattern>,
    /// Accounts that its payments may debit.
    pub debit: Vec<Pattern>,
    /// Accounts that its payments may credit.
    pub credit: Vec<Pattern>,
    /// Accounts that may be opened and changed.
    pub accounts: Vec<Pattern>,
    /// Queues that replies may be sent to.
    pub replies: Vec<Pattern>,
}

/// A text in which `*` stands for any characters, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// Which existing payments a publisher may act on.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// It may act on all payments.
    Everything,
    /// Payments that its rules cover, and its own: those published under the name, if the name is verified.
    Only(&'a PublisherRules, Option<&'a str>),
    /// No payment: there are rules, but none for this publisher.
    Nothing,
}

/// The field or property that asks for something forbidden, and why it is.
struct Forbidden {
    field: String,
    detail: String,
}

impl Authority {
    /// Turns a task that its publisher may not publish into a dead letter, and marks a message whose
    /// `reply_to` is not allowed as not answerable.
    pub fn judge(&self, message: &mut Message) {
        let properties = &message.properties;
        let access = self.access(properties.publisher.as_deref(), properties.user_id.is_some());
        let reply = self.reply_forbidden(properties, access);
        message.is_answerable = reply.is_none();
        if let Ok(task) = &message.content
            && let Some(forbidden) = self.forbidden(task, properties, access).or(reply)
        {
            message.content = Err(forbidden.letter(task));
        }
    }

    /// Returns which payments the publisher may act on. `is_verified` says whether the broker has verified
    /// its name.
    pub fn access<'a>(&'a self, publisher: Option<&'a str>, is_verified: bool) -> Access<'a> {
        if self.publishers.is_empty() {
            return Access::Everything;
        }
        let known = publisher.filter(|_| is_verified || !self.verified);
        let named = |wanted: &str| self.publishers.iter().find(|rules| rules.name == wanted);
        known.and_then(named).or_else(|| named(ANYBODY)).map_or(Access::Nothing, |rules| Access::Only(rules, known))
    }

    fn forbidden(&self, task: &Task, properties: &Properties, access: Access<'_>) -> Option<Forbidden> {
        self.key_forbidden(task.body.task_type(), properties).or_else(|| match access {
            Access::Everything => None,
            Access::Only(rules, _) => rules.forbidden(&task.body),
            Access::Nothing => Some(self.unknown(properties)),
        })
    }

    fn key_forbidden(&self, task_type: TaskType, properties: &Properties) -> Option<Forbidden> {
        let key = properties.routing_key.as_deref()?;
        // Straight to the queue, the key is the queue's name; through another exchange it is that one's.
        if self.routing_key == KeyRule::Ignore || properties.exchange.as_deref() != Some(self.exchange.as_str()) {
            return None;
        }
        let mut words = key.split('.');
        let (first, named) = (words.next(), words.next().unwrap_or_default());
        if first == Some("task") && named == task_type.name() {
            return None;
        }
        let matters = self.routing_key == KeyRule::Require || TaskType::from_name(named).is_some();
        matters.then(|| {
            let shown: String = key.chars().take(80).collect();
            Forbidden::of("routing_key", format!("`{shown}`, expected `task.{}`, the task's type", task_type.name()))
        })
    }

    fn unknown(&self, properties: &Properties) -> Forbidden {
        match (properties.user_id.as_deref(), properties.publisher.as_deref()) {
            (Some(user), _) => Forbidden::of("user_id", format!("no rules are set for the publisher {user:?}")),
            (None, _) if self.verified => {
                Forbidden::of("user_id", "missing, expected the broker's user, who is the publisher".to_owned())
            }
            (None, Some(app)) => Forbidden::of("app_id", format!("no rules are set for the publisher {app:?}")),
            (None, None) => Forbidden::of("app_id", "missing, expected the publisher's name".to_owned()),
        }
    }

    fn reply_forbidden(&self, properties: &Properties, access: Access<'_>) -> Option<Forbidden> {
        let queue = properties.reply_to.as_deref()?;
        let forbidden = |why: &str| Some(Forbidden::of("reply_to", format!("{queue:?}, {why}")));
        if self.own_queues.iter().any(|own| own == queue) {
            return forbidden("which is the daemon's own queue, expected a queue of the publisher");
        }
        if !self.replies.is_empty() && !any(&self.replies, queue) {
            return forbidden("expected a queue that authority.replies allows");
        }
        match access {
            Access::Only(rules, _) if !any(&rules.replies, queue) => {
                forbidden(&format!("expected a queue that `replies` of the publisher {:?} allows", rules.name))
            }
            Access::Nothing => forbidden("from a publisher for whom no rules are set"),
            Access::Everything | Access::Only(..) => None,
        }
    }
}

impl PublisherRules {
    /// Whether the publisher may publish a payment between these accounts.
    pub fn covers(&self, debit: &AccountName, credit: &AccountName) -> bool {
        any(&self.debit, debit.as_str()) && any(&self.credit, credit.as_str())
    }

    /// Whether the publisher may debit and credit every account.
    pub fn covers_everything(&self) -> bool {
        [&self.debit, &self.credit, &self.accounts].into_iter().all(|patterns| any(patterns, ANYBODY))
    }

    fn forbidden(&self, body: &TaskBody) -> Option<Forbidden> {
        let of = |field: String, what: &str, list: &str| {
            let detail = format!("{what:?}, which `{list}` of the publisher {:?} does not allow", self.name);
            Some(Forbidden::of(field, detail))
        };
        let name = body.task_type().name();
        if !any(&self.types, name) {
            return of("type".to_owned(), name, "types");
        }
        let (is_about_an_account, is_listed) = (body.task_type().is_about_an_account(), body.is_listed());
        for (place, (debit, credit)) in body.account_pairs().enumerate() {
            let field = |name: &str| if is_listed { format!("legs[{place}].{name}") } else { name.to_owned() };
            if is_about_an_account {
                if !any(&self.accounts, debit.as_str()) {
                    return of(field("account"), debit.as_str(), "accounts");
                }
            } else if !any(&self.debit, debit.as_str()) {
                return of(field("debit_account"), debit.as_str(), "debit");
            } else if !any(&self.credit, credit.as_str()) {
                return of(field("credit_account"), credit.as_str(), "credit");
            }
        }
        None
    }
}

impl Forbidden {
    fn of(field: impl Into<String>, detail: String) -> Self {
        Self { field: field.into(), detail }
    }

    fn letter(self, task: &Task) -> DeadLetter {
        let Self { field, detail } = self;
        let detail = format!("`{field}`: {detail}");
        DeadLetter { reason: DeadReason::Forbidden, field: Some(field), detail, task_id: Some(task.id) }
    }
}

impl Pattern {
    /// Makes a pattern of its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text matches the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        // The first place is as good as any: what is left after it is longest.
        for part in parts {
            let Some(at) = text.find(part) else { return false };
            text = &text[at + part.len()..];
        }
        text.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, fits, others) in [
            ("world", &["world"][..], &["worlds", "", "worl"][..]),
            ("*", &["", "a", "*"], &[]),
            ("customer:*", &["customer:", "customer:7"], &["customer", "my:customer:7"]),
            ("*:fees", &[":fees", "a:b:fees"], &["fees", ":fees:"]),
            ("a*b*c", &["abc", "a-b-b-c", "abbc"], &["ac", "abcd", "acb"]),
            ("aa*aa", &["aaaa", "aa-aa"], &["aaa"]),
        ] {
            let pattern = Pattern::new(pattern);
            assert!(fits.iter().all(|text| pattern.matches(text)), "{pattern}");
            assert!(!others.iter().any(|text| pattern.matches(text)), "{pattern}");
        }
    }
}
