//! What differs between versions of RabbitMQ.

use std::fmt;

use super::message::TypeIn;

/// A version of RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version([u32; 3]);

impl Version {
    /// Reads a version such as "3.10.8" or "4.1.0-rc.1". Returns `None` if it is written in another way.
    pub(super) fn of(text: &str) -> Option<Self> {
        let numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let mut numbers = numbers.map_while(Result::ok);
        Some(Self([numbers.next()?, numbers.next()?, numbers.next().unwrap_or_default()]))
    }

    /// Whether the user of a connection for streams can be the one of its certificate. Before, the plugin crashes.
    pub(super) fn takes_external(self) -> bool {
        let first = match self.0 {
            [3, 10, _] => Self([3, 10, 25]),
            [3, 11, _] => Self([3, 11, 19]),
            _ => Self([3, 12, 1]),
        };
        self >= first
    }

    /// Whether it has super streams, as far as their partitions can be asked for.
    pub(super) fn has_super_streams(self) -> bool {
        self >= Self([3, 11, 0])
    }

    /// Where it looks for the type of a message of AMQP 0-9-1.
    pub(super) fn type_in(self) -> TypeIn {
        if self < Self([3, 13, 0]) { TypeIn::ApplicationProperties } else { TypeIn::Annotations }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_rabbitmq_writes_them_and_compared_by_their_numbers() {
        let of = |text: &str| Version::of(text).expect("a version");
        assert_eq!(
            (of("3.10.8").to_string(), of("4.1.0-rc.1"), of("4.0")),
            ("3.10.8".into(), of("4.1.0"), of("4.0.0"))
        );
        assert_eq!([Version::of(""), Version::of("Erlang"), Version::of("4")], [None; 3]);
        for (version, takes_external) in [
            ("3.9.29", false),
            ("3.10.24", false),
            ("3.10.25", true),
            ("3.11.18", false),
            ("3.12.0", false),
            ("4.0.5", true),
        ] {
            assert_eq!(of(version).takes_external(), takes_external, "{version}");
        }
        assert_eq!(["3.10.25", "3.11.0", "4.0.5"].map(|version| of(version).has_super_streams()), [false, true, true]);
        assert_eq!(of("3.12.14").type_in(), TypeIn::ApplicationProperties);
        assert_eq!(of("3.13.0").type_in(), TypeIn::Annotations);
    }
}
