//! A super stream: a direct exchange that is bound to its partitions, each by its number as the key. It is declared as
//! RabbitMQ's own tools do, which takes AMQP 0-9-1 before version 3.13.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::tcp::RustlsConnector;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ExchangeKind};

use super::command::Request;
use super::frame::{Code, names};
use super::link::Link;
use super::log::open_beside;
use super::login::{Agreed, Failure, Unmet};
use super::partitions::EventStream;
use super::wire::Cursor;
use crate::connection::reply_code;
use crate::preconditions::{self, may_declare_exchange};
use crate::topology::{exchange_exists, is_there, name};

/// What there is of a super stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// All of its partitions, and no others.
    All,
    /// The partitions of these numbers are missing: it was never declared, only in part, or they were deleted.
    Without(Vec<usize>),
    /// Other partitions, or these in another order.
    Others(Vec<String>),
}

/// Says whether RabbitMQ has super streams.
pub(super) fn supported(agreed: &Agreed, stream: &EventStream) -> Result<(), Failure> {
    match agreed.version.filter(|version| stream.is_super() && !version.has_super_streams()) {
        None => Ok(()),
        Some(version) => Err(Failure::Unmet(Unmet {
            found: format!(
                "events.partitions is {}, and a stream with partitions needs RabbitMQ 3.11: this is {version}",
                stream.partitions
            ),
            remedy: "set events.partitions = 1, or update RabbitMQ".to_owned(),
            is_forbidden: false,
        })),
    }
}

/// Looks which partitions the super stream has. `was_whole` says that all of them are known to have been there.
pub(super) async fn look(link: &mut Link, stream: &EventStream, was_whole: bool) -> Result<Bound, Failure> {
    let super_stream = &stream.settings.name;
    let (code, body) = link.call(Request::Partitions { super_stream }).await?;
    let found = match code {
        Code::OK => names(Cursor(&body))?.into_iter().map(Into::into).collect(),
        Code::NO_STREAM => Vec::new(),
        code => {
            let reason = format!("RabbitMQ does not say which partitions `{super_stream}` has: {code}");
            return Err(Failure::Unavailable(reason));
        }
    };
    Ok(judge(&stream.names(), found, was_whole))
}

/// A partition that is deleted loses its binding, so some may be missing. But without the last one it may as well be a
/// super stream of fewer partitions: then the payments' hashes were taken modulo another number. Declaring binds the last
/// one first.
fn judge(wanted: &[String], found: Vec<String>, was_whole: bool) -> Bound {
    let missing: Vec<usize> = (0..wanted.len()).filter(|place| !found.contains(&wanted[*place])).collect();
    let there = wanted.iter().filter(|name| found.contains(name));
    if !found.iter().eq(there) {
        return Bound::Others(found);
    }
    match (missing.is_empty(), found.last() == wanted.last()) {
        (true, _) => Bound::All,
        (false, has_last) if has_last || found.is_empty() || was_whole => Bound::Without(missing),
        _ => Bound::Others(found),
    }
}

/// Declares the exchange, and binds the partitions of these numbers, whose streams exist.
pub(super) async fn bind(
    (uri, tls): (AMQPUri, Option<RustlsConnector>),
    stream: &EventStream,
    missing: &[usize],
) -> Result<(), Failure> {
    let bound = async {
        let connection = open_beside((uri, tls)).await?;
        let bound = bind_on(&connection, stream, missing).await;
        let _ = connection.close(200, "declared".into()).await;
        bound
    };
    bound.await.map_err(|error| refusal(stream, &error))
}

async fn bind_on(connection: &Connection, stream: &EventStream, missing: &[usize]) -> lapin::Result<()> {
    let (exchange, names, channel) = (&stream.settings.name, stream.names(), connection.create_channel().await?);
    declare_exchange(&channel, exchange).await?;
    for place in missing.iter().rev() {
        let key = place.to_string();
        let order = AMQPValue::LongInt(i32::try_from(*place).unwrap_or(i32::MAX));
        let (options, order) = (QueueBindOptions::default(), table("x-stream-partition-order", order));
        channel.queue_bind(name(&names[*place]), name(exchange), key.as_str().into(), options, order).await?;
    }
    Ok(())
}

async fn declare_exchange(channel: &Channel, exchange: &str) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let is_one = table("x-super-stream", AMQPValue::Boolean(true));
    channel.exchange_declare(name(exchange), ExchangeKind::Direct, options, is_one).await
}

/// Says whether the user may declare the exchange and bind the partitions, and declares nothing.
pub(super) async fn may_bind(connection: &Connection, stream: &EventStream) -> Result<(), Failure> {
    let (exchange, names) = (&stream.settings.name, stream.names());
    let allowed = async {
        // One that is there is not changed by declaring it.
        match is_there(exchange_exists(connection, exchange).await)? {
            true => declare_exchange(&connection.create_channel().await?, exchange).await?,
            false => may_declare_exchange(connection, exchange, ExchangeKind::Direct).await?,
        }
        for queue in &names {
            preconditions::may_bind(connection, queue, exchange).await?;
        }
        Ok(())
    };
    allowed.await.map_err(|error| refusal(stream, &error))
}

fn table(key: &'static str, value: AMQPValue) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(key.into(), value);
    table
}

/// Says what an error of the declaration means.
fn refusal(stream: &EventStream, error: &lapin::Error) -> Failure {
    let exchange = &stream.settings.name;
    match reply_code(error) {
        Some(403) => Failure::Unmet(Unmet {
            found: format!("RabbitMQ refuses what declaring the super stream `{exchange}` needs: {error}"),
            remedy: format!(
                "let the user configure and read the exchange `{exchange}`, and configure, write and read its partitions, \
                 `{exchange}-0` and so on (rabbitmqctl list_permissions, set_permissions); with broker.declare = false \
                 they are not declared"
            ),
            is_forbidden: true,
        }),
        Some(406) => Failure::Unmet(Unmet {
            found: format!("`{exchange}` is an exchange, and no super stream: {error}"),
            remedy: "set stream.name to another name".to_owned(),
            is_forbidden: false,
        }),
        _ => Failure::Unavailable(format!("the super stream `{exchange}` cannot be declared: {error}")),
    }
}

/// The super stream has other partitions than those of the settings.
pub(super) fn others(stream: &EventStream, found: &[String]) -> Failure {
    let (EventStream { partitions, .. }, name) = (stream, &stream.settings.name);
    Failure::Unmet(Unmet {
        found: format!(
            "the super stream `{name}` has other partitions than the {partitions} of events.partitions: {}. Events of a \
             payment would not stay in one partition",
            found.join(", ")
        ),
        remedy: format!(
            "set events.partitions to the number that it has, or stream.name to a new name; if partitions were deleted, \
             delete the exchange `{name}`, too: with broker.declare = true it is declared again, with what is left of the \
             partitions"
        ),
        is_forbidden: false,
    })
}

/// The super stream has to be declared by somebody else.
pub(super) fn missing(stream: &EventStream, vhost: &str) -> Failure {
    let (EventStream { partitions, settings }, name) = (stream, &stream.settings.name);
    Failure::Unmet(Unmet {
        found: format!(
            "there is no super stream `{name}` with all of its {partitions} partitions, and broker.declare is false"
        ),
        remedy: format!(
            "declare it: rabbitmq-streams add_super_stream '{name}' --vhost '{vhost}' --partitions {partitions} --max-age \
             PT{}S --max-length-bytes {} --stream-max-segment-size-bytes {} --leader-locator least-leaders; if it is there in part, \
             bind what is missing by hand: `{name}-N` with the key N and the argument x-stream-partition-order = N; or set \
             broker.declare = true",
            settings.max_age.as_secs(),
            settings.max_length_bytes,
            settings.segment_bytes
        ),
        is_forbidden: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_from_another_number_of_partitions() {
        let wanted = ["s-0", "s-1", "s-2"].map(ToOwned::to_owned);
        let of = |found: &[&str], was_whole| {
            judge(&wanted, found.iter().map(|name| (*name).to_owned()).collect(), was_whole)
        };
        assert_eq!(of(&["s-0", "s-1", "s-2"], false), Bound::All);
        assert_eq!(of(&[], false), Bound::Without(vec![0, 1, 2]));
        // It was declared in part, from the last one on, or the first one was deleted.
        assert_eq!(of(&["s-2"], false), Bound::Without(vec![0, 1]));
        assert_eq!(of(&["s-1", "s-2"], false), Bound::Without(vec![0]));
        // Two partitions, unless it is known that there were three.
        assert!(matches!(of(&["s-0", "s-1"], false), Bound::Others(found) if found == ["s-0", "s-1"]));
        assert_eq!(of(&["s-0", "s-1"], true), Bound::Without(vec![2]));
        for found in [&["s-0", "s-1", "s-2", "s-3"][..], &["s-1", "s-0", "s-2"], &["s-eu", "s-us", "s-2"]] {
            assert!(matches!(of(found, true), Bound::Others(_)), "{found:?}");
        }
    }
}
