//! Types with which each component describes its section of the configuration: the keys, their values and their
//! documentation. The daemon reads the file; nothing here does.

mod key;
mod live;
mod parameters;
mod redact;
mod section;
mod suggest;

pub use self::key::{Change, Choice, Element, Field, Key, List, Parsed, Rule, Section, Whole, always};
pub use self::live::Live;
pub use self::parameters::Parameters;
pub use self::redact::redact;
pub use self::suggest::{closest, did_you_mean};

/// Accepts the names that a RabbitMQ exchange or queue may have.
pub const BROKER_NAME: Rule = Rule {
    expected: "a name of 1 to 255 bytes that does not begin with \"amq.\"",
    check: |name| match name {
        "" => Err("it is empty".to_owned()),
        name if name.len() > 255 => Err(format!("it has {} bytes", name.len())),
        name if name.starts_with("amq.") => Err("names with this prefix belong to the broker".to_owned()),
        name if name.chars().any(char::is_control) => Err("it has control characters".to_owned()),
        _ => Ok(()),
    },
};
