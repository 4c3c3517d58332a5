//! Section `[broker]` of the configuration.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use secrecy::{ExposeSecret, SecretString};
use settled_pipeline::section;
use settled_pipeline::settings::{BROKER_NAME, Element, always, redact};

use crate::inbound::MAX_FRAME;

/// The largest prefetch that RabbitMQ allows for a consumer of a quorum queue.
pub const MAX_PREFETCH: u16 = 2000;

const fn seconds(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

section! {
    /// The RabbitMQ cluster, the exchanges and queues that the daemon uses there, and the limits of its consumer.
    pub struct BrokerSettings in "broker", "RabbitMQ: where payment tasks come from.";

    /// The nodes of one cluster, tried in turn; amqps:// for TLS. The path is the virtual host, percent-encoded.
    /// Without a user it is guest:guest. A reload takes new passwords; connections that are open stay.
    pub uris: Vec<BrokerUri> = vec![BrokerUri("amqp://127.0.0.1:5672/%2f".to_owned().into())]
        => List(), reloads(password_only), env "SETTLED_AMQP_URI";
    /// The topic exchange that tasks are published to, with the routing key task.<type>.
    pub exchange: String = "payments".to_owned() => Text(&BROKER_NAME);
    /// The quorum queue that tasks are consumed from.
    pub queue: String = "payments.tasks".to_owned() => Text(&BROKER_NAME);
    /// Where the broker sends a message it has given up on.
    pub dead_letter_exchange: String = "payments.dead".to_owned() => Text(&BROKER_NAME);
    /// The queue that gets such messages.
    pub dead_letter_queue: String = "payments.tasks.dead".to_owned() => Text(&BROKER_NAME);
    /// Take messages from dead_letter_queue into the table dead_letter. When false somebody else deals with that queue;
    /// its length is measured nevertheless.
    pub take_dead_letters: bool = true => Flag();
    /// Deliveries without an acknowledgement after which the broker gives a message up. An existing queue keeps its
    /// own.
    pub delivery_limit: u32 = 20 => Whole(1..=1000);
    /// Declare exchanges and queues, and again if they are deleted. When false they must exist.
    pub declare: bool = true => Flag();
    /// Unacknowledged deliveries taken at once; at least pipeline.lanes x pipeline.max_batch. The upper limit is
    /// RabbitMQ's, for quorum queues.
    pub prefetch: u16 = MAX_PREFETCH => Whole(1..=u64::from(MAX_PREFETCH));
    /// Memory that unacknowledged deliveries may take, in bytes; about 1 KB each, and twice the body. When it is used
    /// up, nothing more is read from the broker until some are settled.
    pub prefetch_bytes: usize = 32 << 20 => Whole(1 << 20..=1 << 40);
    /// The AMQP heartbeat, in whole seconds: a dead connection is noticed after two of them.
    pub heartbeat: Duration = Duration::from_secs(8) => Span(seconds(1, 600));
    /// The limit for one connection attempt, handshakes included.
    pub connect_timeout: Duration = Duration::from_secs(5) => Span(seconds(1, 60));
    /// A PEM file with the certificate authorities trusted for amqps://, instead of the system's.
    pub tls_ca_file: Option<PathBuf> = None => Path(), reloads(always);
}

/// Whether these are the same nodes, virtual hosts, users and parameters.
fn password_only(before: &[BrokerUri], after: &[BrokerUri]) -> bool {
    let without_passwords = |uris: &[BrokerUri]| {
        let without = |uri: &BrokerUri| {
            let mut endpoint = uri.endpoint();
            endpoint.authority.userinfo.password.clear();
            endpoint
        };
        uris.iter().map(without).collect::<Vec<_>>()
    };
    without_passwords(before) == without_passwords(after)
}

impl BrokerSettings {
    /// Returns the nodes with heartbeat, connection timeout and largest frame filled in, except where the URI sets
    /// them.
    pub fn endpoints(&self) -> Vec<AMQPUri> {
        let seconds = u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX);
        let millis = u64::try_from(self.connect_timeout.as_millis()).unwrap_or(u64::MAX);
        let fill = |uri: &BrokerUri| {
            let mut endpoint = uri.endpoint();
            endpoint.query.heartbeat.get_or_insert(seconds);
            let frame_max = endpoint.query.frame_max.filter(|asked| *asked != 0).unwrap_or(MAX_FRAME);
            endpoint.query.frame_max = Some(frame_max.min(MAX_FRAME));
            endpoint.query.connection_timeout.get_or_insert(millis);
            endpoint
        };
        self.uris.iter().map(fill).collect()
    }

    /// Returns the certificate authorities that are trusted: those in `tls_ca_file`, or the system's.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn tls(&self) -> std::io::Result<OwnedTLSConfig> {
        let cert_chain = self.tls_ca_file.as_ref().map(std::fs::read_to_string).transpose()?;
        Ok(OwnedTLSConfig { identity: None, cert_chain })
    }
}

/// A valid `amqp://` or `amqps://` URI. `Debug` and `Display` hide its password.
#[derive(Clone)]
pub struct BrokerUri(SecretString);

impl BrokerUri {
    /// Returns the URI as it was written, including its password.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns the parsed URI.
    pub fn endpoint(&self) -> AMQPUri {
        // `from_str` has parsed it before, so the default is never used.
        self.expose().parse().unwrap_or_default()
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.endpoint().scheme == AMQPScheme::AMQPS
    }
}

impl PartialEq for BrokerUri {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Element for BrokerUri {
    const EXPECTED: &'static str = "URIs such as amqp://user:password@host:5672/%2f";
}

impl FromStr for BrokerUri {
    type Err = String;

    /// Parses a URI. Refuses also those that lapin misreads, such as IPv6 addresses.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(("amqp" | "amqps", rest)) = text.split_once("://") else {
            return Err("it does not begin with amqp:// or amqps://".to_owned());
        };
        let host = rest.rsplit('@').next().unwrap_or(rest);
        if host.starts_with('[') {
            return Err("lapin does not take an IPv6 address; use a host name for it".to_owned());
        }
        if host.starts_with(['/', ':', '?']) || host.is_empty() {
            return Err("it names no host".to_owned());
        }
        // lapin's reason may quote the whole URI.
        let uri: AMQPUri = text.parse().map_err(|_| {
            "it cannot be parsed; percent-encode special characters in user, password and virtual host".to_owned()
        })?;
        if uri.vhost.is_empty() {
            return Err("its virtual host is empty; the default one is written %2f, or with no slash at all".to_owned());
        }
        Ok(Self(text.to_owned().into()))
    }
}

impl fmt::Display for BrokerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(self.expose()))
    }
}

impl fmt::Debug for BrokerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lapin_would_take_for_something_else_is_refused() {
        for (text, reason) in [
            ("amqp://[::1]:5672/%2f", "IPv6"),
            ("amqp://localhost:5672/", "virtual host is empty"),
            ("amqp://:5672", "no host"),
            ("amqp://", "no host"),
            ("http://localhost", "amqp://"),
            ("amqp://u:geheim@host:port", "cannot be parsed"),
        ] {
            let error = text.parse::<BrokerUri>().unwrap_err();
            assert!(error.contains(reason) && !error.contains("geheim"), "{text}: {error}");
        }
    }

    #[test]
    fn a_uri_hides_its_password_and_its_own_heartbeat_stands() {
        let uris = ["amqp://u:geheim@a", "amqp://b/%2f?heartbeat=3"].map(|uri| uri.parse().unwrap()).to_vec();
        let settings = BrokerSettings { uris, ..BrokerSettings::default() };
        assert!(!format!("{settings:?}").contains("geheim"));
        let [a, b] = &settings.endpoints()[..] else { panic!("two endpoints") };
        assert_eq!((a.query.heartbeat, a.query.connection_timeout, a.vhost.as_str()), (Some(8), Some(5000), "/"));
        assert_eq!((b.query.heartbeat, b.authority.host.as_str()), (Some(3), "b"));
    }
}
