//! `[authority]` and `[[publisher]]`: which publishers may publish which tasks.

use std::fmt;
use std::str::FromStr;

use crate::section;
use crate::settings::{Choice, Element, Rule, always, closest};
use settled_core::contract::{Authority, KeyRule, Pattern, PublisherRules, TaskType};

section! {
    /// Checks that apply to the tasks of all publishers.
    pub struct AuthoritySettings in "authority", "Who may do what. A task that is forbidden becomes a dead letter.";

    /// How the routing key of a task published through broker.exchange is checked against the task's type; RabbitMQ's
    /// topic permissions check the routing key alone. "ignore": not at all. "agree": a key that names another type is
    /// forbidden. "require": the key must be task.<type>; further words may follow.
    pub routing_key: KeyRule = KeyRule::Agree => Parsed(), reloads(always), recommended "\"require\"";
    /// Queues that replies may be sent to, whoever asks for them. The daemon's own queues are never allowed.
    pub replies: Vec<QueuePattern> = vec![QueuePattern("*".to_owned())]
        => List(), reloads(always), recommended "[\"amq.rabbitmq.reply-to*\", \"amq.gen-*\", \"*.replies\"]";
    /// Whether the rules of [[publisher]] are found by the property user_id alone, which the broker verifies. If false,
    /// app_id is used for a message without user_id.
    pub verified: bool = true => Flag(), reloads(always);
}

section! {
    /// Permissions of one publisher.
    pub struct PublisherSettings in "publisher",
        "What a publisher may do: one [[publisher]] table for each. If there is at least one, a publisher without a table \
         may do nothing, and what a table doesn't list is forbidden.";

    /// The publisher: the broker's user that publishes (user_id).
    pub name: String = String::new() => Text(&NAME), reloads(always);
    /// Types of tasks that it may publish; "*" is all of them.
    pub types: Vec<TypePattern> = Vec::new() => List(), reloads(always);
    /// Accounts that its payments may debit.
    pub debit: Vec<AccountPattern> = Vec::new() => List(), reloads(always);
    /// Accounts that its payments may credit. It may capture, void, refund, charge back and cancel payments of its own,
    /// and those of others that debit and credit such accounts.
    pub credit: Vec<AccountPattern> = Vec::new() => List(), reloads(always);
    /// Accounts that it may open, close, freeze and limit.
    pub accounts: Vec<AccountPattern> = Vec::new() => List(), reloads(always);
    /// Queues that replies to it may be sent to; authority.replies must allow them, too.
    pub replies: Vec<QueuePattern> = Vec::new() => List(), reloads(always);
}

impl Choice for KeyRule {
    const NAMES: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("agree", Self::Agree), ("require", Self::Require)];
}

/// Syntax of publisher names.
const NAME: Rule = Rule {
    expected: "the name of a user of the broker, 1 to 255 bytes, or \"*\" for all that have no rules of their own",
    check: |name| match name {
        "" => Err("it is empty".to_owned()),
        name if name.len() > 255 => Err(format!("it has {} bytes", name.len())),
        name if name.chars().any(char::is_control) => Err("it has control characters".to_owned()),
        _ => Ok(()),
    },
};

impl PublisherSettings {
    /// Returns the example for the sample configuration.
    pub fn example() -> Self {
        Self {
            name: "shop".to_owned(),
            types: ["transfer", "authorize", "capture", "void", "refund"]
                .map(|name| TypePattern(name.to_owned()))
                .into(),
            debit: vec![AccountPattern("customer:*".to_owned())],
            credit: vec![AccountPattern("merchant:*".to_owned()), AccountPattern("fees".to_owned())],
            accounts: vec![AccountPattern("customer:*".to_owned())],
            replies: vec![QueuePattern("shop.replies".to_owned()), QueuePattern("amq.rabbitmq.reply-to*".to_owned())],
        }
    }

    fn rules(&self) -> PublisherRules {
        PublisherRules {
            name: self.name.clone(),
            types: patterns(&self.types),
            debit: patterns(&self.debit),
            credit: patterns(&self.credit),
            accounts: patterns(&self.accounts),
            replies: patterns(&self.replies),
        }
    }
}

impl AuthoritySettings {
    /// Returns the rules by which tasks are checked that are published to `exchange`. Replies to the daemon's
    /// `own_queues` are forbidden.
    pub fn authority(&self, publishers: &[PublisherSettings], exchange: String, own_queues: Vec<String>) -> Authority {
        Authority {
            exchange,
            own_queues,
            routing_key: self.routing_key,
            replies: patterns(&self.replies),
            verified: self.verified,
            publishers: publishers.iter().map(PublisherSettings::rules).collect(),
        }
    }
}

fn patterns<T: fmt::Display>(elements: &[T]) -> Vec<Pattern> {
    elements.iter().map(|element| Pattern::new(element.to_string())).collect()
}

/// Declares the type of a list element: a pattern that matches names of one kind.
macro_rules! pattern {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl Element for $name {
            const EXPECTED: &'static str = $expected;
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pattern! {
    /// Pattern for account names.
    AccountPattern, "names of accounts, in which * stands for any characters, such as \"customer:*\"", |text| {
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || ":._-*".contains(c);
        match text {
            "" => Err("it is empty".to_owned()),
            text if !text.chars().all(is_of_a_name) => {
                Err(format!("{text:?} has other characters than A-Z a-z 0-9 : . _ - and *"))
            }
            _ => Ok(()),
        }
    }
}

pattern! {
    /// Pattern for queue names.
    QueuePattern, "names of queues, in which * stands for any characters, such as \"*.replies\"", |text| match text {
        "" => Err("it is empty".to_owned()),
        text if text.len() > 255 => Err(format!("it has {} bytes, a queue's name has at most 255", text.len())),
        text if text.chars().any(char::is_control) => Err("it has control characters".to_owned()),
        _ => Ok(()),
    }
}

pattern! {
    /// Pattern for task types.
    TypePattern, "types of tasks, such as \"transfer\", or \"*\" for all of them", |text| {
        if text == "*" || TaskType::from_name(text).is_some() {
            return Ok(());
        }
        let like = closest(text, TaskType::ALL.into_iter().map(TaskType::name));
        let like = like.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
        Err(format!("{text:?} is no type of task{like}"))
    }
}
