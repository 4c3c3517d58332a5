//! What a session needs on the server: the stream, and a named publisher on it.

use super::command::Request;
use super::frame::{Code, Known, known};
use super::link::Link;
use super::login::{Failure, Unmet};
use super::settings::StreamSettings;
use super::wire::{Cursor, Malformed};

/// Returns the arguments that a stream of these settings is created with.
pub(super) fn arguments(settings: &StreamSettings) -> [(&'static str, String); 4] {
    [
        ("max-age", max_age(settings)),
        ("max-length-bytes", settings.max_length_bytes.to_string()),
        ("stream-max-segment-size-bytes", settings.segment_bytes.to_string()),
        ("queue-leader-locator", "least-leaders".to_owned()),
    ]
}

/// Returns the age in the one unit that needs no rounding.
fn max_age(settings: &StreamSettings) -> String {
    format!("{}s", settings.max_age.as_secs())
}

/// What became of an attempt to create a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// There was none, and it was created.
    New,
    /// There is one with these arguments.
    Before,
    /// There is one that has other arguments, or something that is none.
    Other,
}

/// Creates the stream of this name, unless there is one.
pub(super) async fn create(
    link: &mut Link,
    settings: &StreamSettings,
    (stream, user): (&str, &str),
) -> Result<Created, Failure> {
    let arguments = arguments(settings);
    let arguments: Vec<(&str, &str)> = arguments.iter().map(|(name, value)| (*name, &**value)).collect();
    match link.call(Request::Create { stream, arguments: &arguments }).await?.0 {
        Code::OK => Ok(Created::New),
        Code::EXISTS => Ok(Created::Before),
        Code::PRECONDITION => Ok(Created::Other),
        Code::FORBIDDEN => Err(not_declared(user, stream)),
        code => Err(Failure::Unavailable(format!("RabbitMQ does not create the stream `{stream}`: {code}"))),
    }
}

/// Declares the publisher `reference`, which has this number on the connection, and reads how far it has come. `missing`
/// is the failure if there is no such stream.
pub(super) async fn declare(
    link: &mut Link,
    publisher: u8,
    (reference, stream, user): (&str, &str, &str),
    missing: Failure,
) -> Result<(), Failure> {
    let unavailable = |reason: String| Err(Failure::Unavailable(reason));
    match link.call(Request::DeclarePublisher { publisher, reference, stream }).await?.0 {
        Code::OK => {}
        Code::NO_STREAM => return Err(missing),
        Code::NOT_AVAILABLE => return unavailable(without_leader(stream)),
        // Each publisher of a connection is declared once, so it is not about the publisher.
        Code::PRECONDITION => return unavailable(ALARM.to_owned()),
        Code::FORBIDDEN => return Err(forbidden(user, "write", stream, "")),
        code => return unavailable(format!("RabbitMQ lets nobody append to the stream `{stream}`: {code}")),
    }
    sequence(link.call(Request::QueryPublisherSequence { reference, stream }).await?, (stream, user)).map(drop)
}

/// Says whether the user may append to a stream that does not exist yet: permissions are looked at before the stream.
pub(super) async fn may_append(link: &mut Link, (reference, stream, user): (&str, &str, &str)) -> Result<(), Failure> {
    let write = (Request::DeclarePublisher { publisher: 0, reference, stream }, "write");
    let read = (Request::QueryPublisherSequence { reference, stream }, "read");
    for (request, permission) in [write, read] {
        if link.call(request).await?.0 == Code::FORBIDDEN {
            return Err(forbidden(user, permission, stream, ""));
        }
    }
    Ok(())
}

/// The user may not declare the stream.
pub(super) fn not_declared(user: &str, stream: &str) -> Failure {
    forbidden(user, "configure", stream, "; with broker.declare = false it is not declared")
}

/// What a disk alarm does to streams.
pub(super) const ALARM: &str = "RabbitMQ takes nothing for streams while its disk alarm is on: free space on its nodes";

/// Returns the highest publishing id of an answer to [`Request::QueryPublisherSequence`].
pub(super) fn sequence((code, body): (Code, Vec<u8>), (stream, user): (&str, &str)) -> Result<u64, Failure> {
    match code {
        Code::OK => Ok(Cursor(&body).u64()?),
        Code::FORBIDDEN => Err(forbidden(user, "read", stream, "")),
        Code::NO_STREAM => Err(Failure::Unavailable(format!("the stream `{stream}` was deleted"))),
        code => {
            Err(Failure::Unavailable(format!("RabbitMQ does not say how far the stream `{stream}` has come: {code}")))
        }
    }
}

/// Returns what has become of a stream whose publisher is gone, by an answer to [`Request::Metadata`].
pub(super) fn fate(stream: &str, body: &[u8]) -> Result<String, Malformed> {
    Ok(match known(Cursor(body))? {
        Known::Nothing => format!("the stream `{stream}` was deleted"),
        Known::NoLeader => format!("{}; or it was deleted", without_leader(stream)),
        Known::Leader(node) => {
            format!("the leader of the stream `{stream}` has moved to {node}, or was restarted there")
        }
    })
}

pub(super) fn without_leader(stream: &str) -> String {
    format!(
        "the stream `{stream}` has no leader: RabbitMQ elects one when most of its nodes are there, and may need more \
         than a minute"
    )
}

/// What has the stream's name is none.
pub(super) fn no_stream(stream: &str) -> Failure {
    Failure::Unmet(Unmet {
        found: format!("`{stream}` is a queue, and no stream"),
        remedy: "set stream.name to another name, or delete the queue if nobody needs it (rabbitmqctl delete_queue)"
            .to_owned(),
        is_forbidden: false,
    })
}

/// The stream has to be declared by somebody else, with the arguments that the daemon would give it.
pub(super) fn missing(settings: &StreamSettings, vhost: &str) -> Failure {
    let stream = &settings.name;
    let mut json = serde_json::Map::from_iter([("x-queue-type".to_owned(), "stream".into())]);
    for (name, value) in arguments(settings) {
        let value = value.parse::<u64>().map_or_else(|_| value.into(), Into::into);
        json.insert(format!("x-{name}"), value);
    }
    let json = serde_json::Value::Object(json);
    Failure::Unmet(Unmet {
        found: format!("there is no stream `{stream}`, and broker.declare is false"),
        remedy: format!(
            "declare it: rabbitmqadmin --vhost='{vhost}' declare queue name='{stream}' durable=true \
             arguments='{json}'; or set broker.declare = true"
        ),
        is_forbidden: false,
    })
}

fn forbidden(user: &str, permission: &str, stream: &str, or: &str) -> Failure {
    Failure::Unmet(Unmet {
        found: format!(
            "RabbitMQ refuses what appending needs: the user `{user}` lacks the permission {permission} for `{stream}`"
        ),
        remedy: format!(
            "add `{stream}` to the patterns for configure, write and read that the user has (rabbitmqctl \
             list_permissions, set_permissions){or}"
        ),
        is_forbidden: true,
    })
}
