//! The handshake of a connection: who it is, and the limits that both sides keep.

use std::time::Duration;

use lapin::uri::{AMQPUri, SASLMechanism};
use settled_tls::Files;

use super::command::{self, Request};
use super::frame::{Code, names, pairs};
use super::link::{Link, LinkError};
use super::message::TypeIn;
use super::version::Version;
use super::wire::Cursor;
use crate::connection::login_refused;

/// The largest frame if the server has no limit: a publisher's message is in one piece.
const UNLIMITED: u32 = 64 << 20;

/// Why a node cannot be used, as far as the handshake and the declarations tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The connection is lost.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// The server answers, and refuses the user, or what the user wants.
    #[error("{0}")]
    Refused(String),
    /// The server answers, and cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    /// The stream, or what the user may do with it, has to be changed first.
    #[error("{0}")]
    Unmet(Unmet),
}

/// What is wrong with the stream, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{found}: {remedy}")]
pub(super) struct Unmet {
    pub(super) found: String,
    pub(super) remedy: String,
    /// The user lacks a permission.
    pub(super) is_forbidden: bool,
}

impl From<super::wire::Malformed> for Failure {
    fn from(malformed: super::wire::Malformed) -> Self {
        Self::Link(malformed.into())
    }
}

impl Failure {
    /// Says what a failed connection to a port means.
    pub(super) fn explain(self, uri: &AMQPUri, files: &Files) -> Self {
        let Self::Link(LinkError::Io(error)) = &self else { return self };
        if let Some(reason) = files.explain(error) {
            return Self::Refused(format!("TLS: {reason}"));
        }
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Self::Unavailable(format!(
                "nobody listens at port {}, of the stream protocol: {error}. If RabbitMQ runs there, enable it with \
                 `rabbitmq-plugins enable rabbitmq_stream` on each node, or set stream.port to the port it has",
                uri.authority.port
            )),
            // RabbitMQ takes the beginning of TLS for one of a frame, and closes the connection.
            std::io::ErrorKind::UnexpectedEof => Self::Unavailable(format!(
                "{error}. If port {} is one for streams without TLS, set stream.port to the one with TLS, 5551 by default",
                uri.authority.port
            )),
            _ => self,
        }
    }
}

/// What both sides have agreed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    /// The longest frame, its size included, in bytes.
    pub(super) frame_max: usize,
    /// After so long without a frame, each side says that it is alive.
    pub(super) heartbeat: Duration,
    pub(super) type_in: TypeIn,
    /// The server's version, if it is written as versions are.
    pub(super) version: Option<Version>,
}

/// Introduces the connection, as `name`, and logs in to the virtual host.
pub(super) async fn log_in(link: &mut Link, uri: &AMQPUri, name: &str) -> Result<Agreed, Failure> {
    let client = [
        ("product", "settled"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("connection_name", name),
    ];
    let (_, properties) = link.call(Request::PeerProperties(&client)).await?;
    let properties = pairs(Cursor(&properties))?;
    let version = properties.iter().find(|(name, _)| name == "version");
    let version = version.and_then(|(_, version)| Version::of(version));
    authenticate(link, uri, version).await?;
    let (frame_max, heartbeat) = link.tuned().await?;
    let frame_max = if frame_max == 0 { UNLIMITED } else { frame_max.min(UNLIMITED) };
    let wanted = uri.query.heartbeat.map_or(heartbeat, u32::from);
    let heartbeat = if heartbeat == 0 { wanted } else { wanted.min(heartbeat) };
    link.socket.write(&command::tuned(frame_max, heartbeat)).await.map_err(LinkError::from)?;
    let (code, _) = link.call(Request::Open { vhost: &uri.vhost }).await?;
    match code {
        Code::OK => Ok(Agreed {
            frame_max: usize::try_from(frame_max).unwrap_or(usize::MAX),
            heartbeat: Duration::from_secs(heartbeat.into()),
            type_in: version.map_or(TypeIn::Annotations, Version::type_in),
            version,
        }),
        Code::NO_VHOST => Err(Failure::Refused(login_refused(&format!("{code}, `{}`", uri.vhost)))),
        code => Err(Failure::Unavailable(format!("RabbitMQ does not open the virtual host: {code}"))),
    }
}

async fn authenticate(link: &mut Link, uri: &AMQPUri, version: Option<Version>) -> Result<(), Failure> {
    let user = &uri.authority.userinfo;
    let is_external = uri.query.auth_mechanism == Some(SASLMechanism::External);
    if let Some(version) = version.filter(|version| is_external && !version.takes_external()) {
        return Err(Failure::Refused(format!(
            "RabbitMQ {version} ends a connection for streams whose user is the one of a certificate \
             (auth_mechanism=external): that was corrected in 3.10.25, 3.11.19 and 3.12.1. Update RabbitMQ, or put a \
             user and broker.password_file in the place of auth_mechanism=external"
        )));
    }
    let (mechanism, response) = match is_external {
        true => ("EXTERNAL", String::new()),
        false => ("PLAIN", format!("\0{}\0{}", user.username, user.password)),
    };
    let (_, offered) = link.call(Request::SaslHandshake).await?;
    if !names(Cursor(&offered))?.iter().any(|name| name == mechanism) {
        return Err(Failure::Refused(login_refused(&format!("{}, {mechanism}", Code::NO_MECHANISM))));
    }
    let response = response.as_bytes();
    let (code, _) = link.call(Request::SaslAuthenticate { mechanism, response }).await?;
    match code {
        Code::OK => Ok(()),
        Code::ONLY_LOCAL => Err(Failure::Refused(format!(
            "RabbitMQ refuses the login: the user `{}` may connect from RabbitMQ's own machine only. Create another user",
            user.username
        ))),
        code => Err(Failure::Refused(login_refused(&code))),
    }
}
