//! In what a stream that exists differs from the settings. The stream protocol does not tell; AMQP 0-9-1 does.

use lapin::Connection;
use lapin::tcp::RustlsConnector;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;

use super::declare::arguments;
use super::log::open_beside;
use super::settings::StreamSettings;
use crate::difference::Difference;
use crate::topology;

/// Returns a sentence for each argument in which one of the streams differs from the settings.
pub(super) async fn differences(
    (uri, tls): (AMQPUri, Option<RustlsConnector>),
    settings: &StreamSettings,
    streams: &[String],
) -> lapin::Result<Vec<String>> {
    let connection = open_beside((uri, tls)).await?;
    let compared = async {
        let mut found = Vec::new();
        for stream in streams {
            found.extend(compare(&connection, settings, stream).await?);
        }
        Ok(found)
    };
    let found = compared.await;
    let _ = connection.close(200, "compared".into()).await;
    found
}

/// As [`differences`], of one stream and on a connection that is there.
pub(super) async fn compare(
    connection: &Connection,
    settings: &StreamSettings,
    stream: &str,
) -> lapin::Result<Vec<String>> {
    topology::differences(connection, stream, table(settings), |found| warning(found, settings, stream)).await
}

/// Returns the arguments of the stream as AMQP 0-9-1 has them.
fn table(settings: &StreamSettings) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    for (name, value) in arguments(settings) {
        let value = value.parse().map_or_else(|_| AMQPValue::LongString(value.as_str().into()), AMQPValue::LongLongInt);
        table.insert(format!("x-{name}").into(), value);
    }
    table
}

/// Says what a difference means for events.
fn warning(difference: &Difference, settings: &StreamSettings, stream: &str) -> String {
    let expected = |key: &str, value: String| format!(", expected {value} ({key})");
    let (means, expected) = match difference.argument() {
        "x-max-age" => {
            let seconds = format!("{}s", settings.max_age.as_secs());
            ("events are kept for as long as it says", expected("stream.max_age", seconds))
        }
        "x-max-length-bytes" => (
            "that is the disk that the stream may take",
            expected("stream.max_length_bytes", settings.max_length_bytes.to_string()),
        ),
        "x-stream-max-segment-size-bytes" => (
            "events are removed in segments of that size",
            expected("stream.segment_bytes", settings.segment_bytes.to_string()),
        ),
        "x-queue-leader-locator" => ("that is how RabbitMQ chose the node of its leader", String::new()),
        _ => ("the daemon does not declare it", String::new()),
    };
    format!("the stream {}{expected}: {means}", difference.seen(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_said_with_the_key_of_the_settings() {
        let settings = StreamSettings::default();
        let of = |argument: &str, current: &str| {
            let text = format!(
                "inequivalent arg '{argument}' for queue 'q' in vhost '/': received x but current is {current}"
            );
            warning(&crate::difference::parse(&text).expect("a difference"), &settings, "q")
        };
        let age = of("x-max-age", "the value '1h' of type 'longstr'");
        assert!(age.contains("has x-max-age = 1h, expected 604800s (stream.max_age)"), "{age}");
        let none = of("x-max-length-bytes", "none");
        assert!(none.contains("has no x-max-length-bytes, expected 10737418240 (stream.max_length_bytes)"), "{none}");
        assert!(of("x-initial-cluster-size", "'1'").contains("does not declare it"));
    }

    #[test]
    fn numbers_are_numbers_for_amqp_and_ages_are_texts() {
        let table = table(&StreamSettings::default());
        assert_eq!(table.inner().get("x-max-length-bytes"), Some(&AMQPValue::LongLongInt(10 << 30)));
        assert_eq!(table.inner().get("x-max-age"), Some(&AMQPValue::LongString("604800s".into())));
        assert_eq!(table.inner().len(), 5);
    }
}
