//! Reads from RabbitMQ's error in which argument a queue differs from a declaration: `inequivalent arg
//! 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value '1000' of type 'long'`.

use lapin::types::{AMQPValue, FieldTable};

/// An argument in which a queue differs from its declaration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    argument: String,
    /// The queue's value; `None` if the queue does not have the argument.
    value: Option<String>,
}

/// Returns the argument that the text of a 406 names.
pub(super) fn parse(text: &str) -> Option<Difference> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, current) = rest.split_once("but current is ")?;
    // Older versions leave out "the value".
    let value = (!current.starts_with("none")).then(|| {
        current.split_once('\'').and_then(|(_, rest)| rest.split_once('\'')).map(|(value, _)| value.to_owned())
    });
    Some(Difference { argument: argument.to_owned(), value: value.flatten() })
}

impl Difference {
    /// Returns the name of the argument.
    pub(super) fn argument(&self) -> &str {
        &self.argument
    }

    /// Says what the queue has.
    pub(super) fn seen(&self, queue: &str) -> String {
        let Self { argument, value } = self;
        match value {
            Some(value) => format!("`{queue}` has {argument} = {value}"),
            None => format!("`{queue}` has no {argument}"),
        }
    }

    /// Says what the difference means for tasks.
    pub(super) fn warning(&self, queue: &str, dead_letter_exchange: &str) -> String {
        let has = format!("the queue {}", self.seen(queue));
        let means = match self.argument() {
            "x-message-ttl" => "tasks that wait longer are given up",
            "x-max-length" | "x-max-length-bytes" => "tasks beyond that length are given up or refused",
            "x-overflow" => "it decides what becomes of tasks beyond the queue's length",
            "x-expires" => "the queue is deleted with its tasks when nobody has consumed it for so long",
            "x-dead-letter-exchange" => {
                return format!(
                    "{has}, expected {dead_letter_exchange}: what the broker gives up is lost, or goes elsewhere"
                );
            }
            "x-dead-letter-routing-key" => "what the broker gives up loses its own routing key",
            "x-delivery-limit" => "the broker gives up tasks after so many deliveries; without one it may never do so",
            "x-queue-type" => "a classic queue is on one node only, and has no delivery limit",
            _ => "the daemon doesn't declare it",
        };
        format!("{has}: {means}")
    }

    /// Sets the argument to the queue's value, so that the broker names the next difference.
    pub(super) fn adopt(&self, arguments: &mut FieldTable) {
        let name = self.argument.as_str().into();
        match &self.value {
            Some(value) => {
                let value =
                    value.parse().map_or_else(|_| AMQPValue::LongString(value.as_str().into()), AMQPValue::LongLongInt);
                arguments.insert(name, value);
            }
            // `FieldTable` has no `remove`.
            None => {
                let mut rest = arguments.inner().clone();
                rest.remove(&name);
                *arguments = rest.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_words_are_read_of_all_versions() {
        let text = |received: &str, current: &str| {
            format!(
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received {received} but current is {current}"
            )
        };
        let found = |value: Option<&str>| {
            Some(Difference { argument: "x-message-ttl".to_owned(), value: value.map(ToOwned::to_owned) })
        };
        assert_eq!(parse(&text("none", "the value '1000' of type 'long'")), found(Some("1000")));
        assert_eq!(parse(&text("'5'", "'1000'")), found(Some("1000")));
        assert_eq!(parse(&text("the value '5' of type 'long'", "none")), found(None));
        assert_eq!(parse("something else"), None);
    }

    #[test]
    fn a_difference_is_adopted_so_that_the_next_one_shows() {
        let mut arguments = FieldTable::default();
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        Difference { argument: "x-overflow".into(), value: None }.adopt(&mut arguments);
        Difference { argument: "x-max-length".into(), value: Some("9".into()) }.adopt(&mut arguments);
        assert_eq!(arguments.inner().len(), 1);
        assert_eq!(arguments.inner().get("x-max-length"), Some(&AMQPValue::LongLongInt(9)));
    }
}
