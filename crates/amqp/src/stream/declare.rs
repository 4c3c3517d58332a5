//! What a session needs on the server: the stream, and a named publisher on it.

use super::command::Request;
use super::frame::{Code, Known, known};
use super::link::Link;
use super::login::Failure;
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

/// Creates the stream. Returns whether there is one already that has other arguments, or is none.
pub(super) async fn create(link: &mut Link, settings: &StreamSettings, user: &str) -> Result<bool, Failure> {
    let arguments = arguments(settings);
    let arguments: Vec<(&str, &str)> = arguments.iter().map(|(name, value)| (*name, &**value)).collect();
    let stream = &settings.name;
    match link.call(Request::Create { stream, arguments: &arguments }).await?.0 {
        Code::OK | Code::EXISTS => Ok(false),
        Code::PRECONDITION => Ok(true),
        Code::FORBIDDEN => {
            Err(forbidden(user, "configure", stream, "; with broker.declare = false it is not declared"))
        }
        code => Err(Failure::Unavailable(format!("RabbitMQ does not create the stream `{stream}`: {code}"))),
    }
}

/// Declares the publisher `reference`, and reads how far it has come. `was_declared` says that [`create`] was called.
pub(super) async fn declare(
    link: &mut Link,
    (reference, stream, user): (&str, &str, &str),
    was_declared: bool,
) -> Result<(), Failure> {
    let unavailable = |reason: String| Err(Failure::Unavailable(reason));
    match link.call(Request::DeclarePublisher { reference, stream }).await?.0 {
        Code::OK => {}
        Code::NO_STREAM if was_declared => return unavailable(no_stream(stream)),
        Code::NO_STREAM => {
            return unavailable(format!(
                "there is no stream `{stream}`, and broker.declare is false: declare it, or set broker.declare = true"
            ));
        }
        Code::NOT_AVAILABLE => return unavailable(without_leader(stream)),
        // The publisher is the first of its connection, so it is not about the publisher.
        Code::PRECONDITION => return unavailable(ALARM.to_owned()),
        Code::FORBIDDEN => return Err(forbidden(user, "write", stream, "")),
        code => return unavailable(format!("RabbitMQ lets nobody append to the stream `{stream}`: {code}")),
    }
    sequence(link.call(Request::QueryPublisherSequence { reference, stream }).await?, (stream, user)).map(drop)
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

fn no_stream(stream: &str) -> String {
    format!(
        "`{stream}` is a queue, and no stream: set stream.name to another name, or delete the queue if nobody needs \
         it (rabbitmqctl delete_queue)"
    )
}

fn forbidden(user: &str, permission: &str, stream: &str, or: &str) -> Failure {
    Failure::Refused(format!(
        "RabbitMQ refuses what appending needs: the user `{user}` lacks the permission {permission} for `{stream}`. \
         Add `{stream}` to the patterns for configure, write and read that the user has (rabbitmqctl list_permissions, \
         set_permissions){or}"
    ))
}
