//! Section `[broker]` of the configuration.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::AMQPUri;
use settled_pipeline::section;
use settled_pipeline::settings::{BROKER_NAME, always};
use settled_tls::Files;

use crate::inbound::MAX_FRAME;
use crate::uri::BrokerUri;

/// The largest prefetch that RabbitMQ allows for a consumer of a quorum queue.
pub const MAX_PREFETCH: u16 = 2000;

const fn seconds(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

section! {
    /// The RabbitMQ cluster, the exchanges and queues that the daemon uses there, and the limits of its consumer.
    pub struct BrokerSettings in "broker", "RabbitMQ: where payment tasks come from.";

    /// The nodes of one cluster, tried in turn; amqps:// for TLS. The path is the virtual host, percent-encoded.
    /// Without a user it is guest:guest; with ?auth_mechanism=external it is the one of tls_cert_file. A reload takes new
    /// passwords; connections that are open stay.
    pub uris: Vec<BrokerUri> = vec![BrokerUri::of("amqp://127.0.0.1:5672/%2f")]
        => List(), reloads(password_only), env "SETTLED_AMQP_URI";
    /// A file whose first line is the password, for URIs without one.
    pub password_file: Option<PathBuf> = None => Path(), reloads(always);
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
    /// A PEM file with the client's certificate, and those between it and its authority, for a broker that asks for one.
    pub tls_cert_file: Option<PathBuf> = None => Path(), reloads(always);
    /// A PEM file with the private key of tls_cert_file, without a passphrase.
    pub tls_key_file: Option<PathBuf> = None => Path(), reloads(always);
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
    /// Returns the nodes with heartbeat and largest frame filled in, except where the URI sets them.
    pub fn endpoints(&self) -> Vec<AMQPUri> {
        let seconds = u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX);
        let fill = |uri: &BrokerUri| {
            let mut endpoint = uri.endpoint();
            endpoint.query.heartbeat.get_or_insert(seconds);
            endpoint.query.frame_max.get_or_insert(MAX_FRAME);
            endpoint
        };
        self.uris.iter().map(fill).collect()
    }

    /// Returns the nodes as [`endpoints`](Self::endpoints) does, with the password of `password_file` where there is no
    /// other one.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub(crate) fn endpoints_with_passwords(&self) -> std::io::Result<Vec<AMQPUri>> {
        let mut endpoints = self.endpoints();
        let Some(path) = &self.password_file else { return Ok(endpoints) };
        let content = std::fs::read_to_string(path)?;
        let password = content.lines().next().unwrap_or_default();
        for (endpoint, uri) in endpoints.iter_mut().zip(&self.uris) {
            if !uri.has_password() {
                password.clone_into(&mut endpoint.authority.userinfo.password);
            }
        }
        Ok(endpoints)
    }

    /// Returns the files with certificates.
    pub fn tls_files(&self) -> Files {
        Files {
            authorities: self.tls_ca_file.clone(),
            certificate: self.tls_cert_file.clone(),
            key: self.tls_key_file.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_hides_its_password_and_its_own_heartbeat_stands() {
        let uris = ["amqp://u:geheim@a", "amqp://b/%2f?heartbeat=3"].map(|uri| uri.parse().unwrap()).to_vec();
        let settings = BrokerSettings { uris, ..BrokerSettings::default() };
        assert!(!format!("{settings:?}").contains("geheim"));
        let [a, b] = &settings.endpoints()[..] else { panic!("two endpoints") };
        assert_eq!((a.query.heartbeat, a.query.frame_max, a.vhost.as_str()), (Some(8), Some(MAX_FRAME), "/"));
        assert_eq!((b.query.heartbeat, b.authority.host.as_str()), (Some(3), "b"));
    }

    #[test]
    fn a_password_in_a_file_is_for_uris_without_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "geheim\nnot this\n").unwrap();
        let uris = ["amqp://u@a", "amqp://u:own@b"].map(|uri| uri.parse().unwrap()).to_vec();
        let settings = BrokerSettings { uris, password_file: Some(file.path().into()), ..BrokerSettings::default() };
        let passwords = settings.endpoints_with_passwords().unwrap().into_iter().map(|e| e.authority.userinfo.password);
        assert_eq!(passwords.collect::<Vec<_>>(), ["geheim", "own"]);
    }
}
