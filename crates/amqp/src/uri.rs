//! The URI of a node.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use secrecy::{ExposeSecret, SecretString};
use settled_pipeline::settings::{Element, Parameters, redact};

use crate::inbound::MAX_FRAME;

/// What a URI may say of the connection. The rest has a key of its own, or cannot be changed.
const PARAMETERS: Parameters = Parameters {
    known: &["auth_mechanism", "frame_max", "heartbeat"],
    elsewhere: &[
        ("cacertfile", "put the file into broker.tls_ca_file"),
        ("certfile", "put the file into broker.tls_cert_file"),
        ("keyfile", "put the file into broker.tls_key_file"),
        ("password", "put it into the first line of a file, and that into broker.password_file"),
        ("connection_timeout", "write broker.connect_timeout"),
        ("channel_max", "take it out: a connection has a few channels"),
        ("verify", "take it out: the broker is always verified"),
        ("fail_if_no_peer_cert", "take it out: the broker is always verified"),
        ("server_name_indication", "take it out: the certificate has to be for the host of the URI"),
        ("depth", "take it out: it is what rustls allows"),
    ],
};

/// The heartbeats that a URI may ask for, in seconds; as `broker.heartbeat`.
const HEARTBEATS: RangeInclusive<u32> = 1..=600;

/// A valid `amqp://` or `amqps://` URI. `Debug` and `Display` hide its password.
#[derive(Clone)]
pub struct BrokerUri(SecretString);

impl BrokerUri {
    /// Creates one of a text that is known to be valid.
    pub(crate) fn of(valid: &str) -> Self {
        Self(valid.to_owned().into())
    }

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

    /// Whether the broker reads the user from the client's certificate.
    pub fn is_external(&self) -> bool {
        self.endpoint().query.auth_mechanism == Some(SASLMechanism::External)
    }

    /// Whether there is a password in it. Without one lapin takes its own default.
    pub fn has_password(&self) -> bool {
        user(self.expose()).is_some_and(|user| user.contains(':'))
    }
}

/// Returns what stands before the host, which is user and password.
fn user(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    Some(rest.split_once('@')?.0)
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

    /// Parses a URI. Refuses also what lapin misreads, such as IPv6 addresses, or ignores.
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
        if text.contains('#') {
            return Err("it has a #; write %23 for it".to_owned());
        }
        for (name, value) in PARAMETERS.of(text)? {
            check_value(name, value)?;
        }
        // lapin's reason may quote the whole URI.
        let uri: AMQPUri = text.parse().map_err(|_| {
            "it cannot be parsed; percent-encode special characters in user, password and virtual host".to_owned()
        })?;
        if uri.vhost.is_empty() {
            return Err("its virtual host is empty; the default one is written %2f, or with no slash at all".to_owned());
        }
        check_external(&uri, text)?;
        Ok(Self::of(text))
    }
}

/// Checks the value of a parameter.
fn check_value(name: &str, value: &str) -> Result<(), String> {
    let within = |range: RangeInclusive<u32>| match value.parse() {
        Ok(number) if range.contains(&number) => Ok(()),
        _ => Err(format!("{name} is no number from {} to {}; correct it or take it out", range.start(), range.end())),
    };
    match name {
        "heartbeat" => within(HEARTBEATS),
        "frame_max" => within(4096..=MAX_FRAME),
        _ if ["plain", "external"].contains(&value.to_lowercase().as_str()) => Ok(()),
        _ => {
            Err(format!("{name} is neither plain nor external; with external the client's certificate says who it is"))
        }
    }
}

/// Checks that a URI whose user is in the certificate has no other one.
fn check_external(uri: &AMQPUri, text: &str) -> Result<(), String> {
    if uri.query.auth_mechanism != Some(SASLMechanism::External) {
        return Ok(());
    }
    if uri.scheme == AMQPScheme::AMQP {
        return Err("auth_mechanism=external needs the client's certificate; write amqps://".to_owned());
    }
    if user(text).is_some() {
        return Err("it names a user and has auth_mechanism=external, which takes the one in the certificate; \
                    delete one of them"
            .to_owned());
    }
    Ok(())
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
    fn what_lapin_would_misread_or_ignore_is_refused() {
        for (text, reason) in [
            ("amqp://[::1]:5672/%2f", "IPv6"),
            ("amqp://localhost:5672/", "virtual host is empty"),
            ("amqp://:5672", "no host"),
            ("amqp://", "no host"),
            ("http://localhost", "amqp://"),
            ("amqp://u:geheim@host:port", "cannot be parsed"),
            ("amqp://u:geheim@host/v#heartbeat=3", "%23"),
            ("amqp://u:geheim@host/v?heartbeet=3", "did you mean `heartbeat`?"),
            ("amqp://u:geheim@host/v?heartbeat=0", "heartbeat is no number from 1 to 600"),
            ("amqp://u:geheim@host/v?heartbeat=3&heartbeat=4", "`heartbeat` is there twice"),
            ("amqp://u:geheim@host/v?frame_max=999999", "frame_max is no number from 4096 to 131072"),
            ("amqp://u:geheim@host/v?channel_max=1", "a few channels"),
            ("amqp://u:geheim@host/v?connection_timeout=1", "broker.connect_timeout"),
            ("amqps://host/v?cacertfile=/x", "broker.tls_ca_file"),
            ("amqps://host/v?certfile=/x", "broker.tls_cert_file"),
            ("amqps://host/v?keyfile=/x", "broker.tls_key_file"),
            ("amqps://host/v?verify=verify_none", "always verified"),
            ("amqps://host/v?password=geheim", "broker.password_file"),
            ("amqps://host/v?auth_mechanism=anonymous", "neither plain nor external"),
            ("amqp://host/v?auth_mechanism=external", "write amqps://"),
            ("amqps://u@host/v?auth_mechanism=external", "names a user"),
        ] {
            let error = text.parse::<BrokerUri>().unwrap_err();
            assert!(error.contains(reason) && !error.contains("geheim"), "{text}: {error}");
        }
    }

    #[test]
    fn who_it_is_for_can_be_asked() {
        let of = |text: &str| text.parse::<BrokerUri>().unwrap();
        assert!(of("amqps://h?auth_mechanism=EXTERNAL").is_external() && !of("amqps://h").is_external());
        assert!(of("amqp://u:p@h").has_password() && !of("amqp://u@h:5672/v").has_password());
        assert!(!of("amqp://h:5672").has_password());
    }
}
