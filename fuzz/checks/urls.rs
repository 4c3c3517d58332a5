//! The URLs of the servers.

use settled_amqp::{BrokerSettings, BrokerUri};
use settled_pipeline::settings::{Parsed, redact};
use settled_store::PostgresSettings;

const SECRET: &str = "geheimnis";

/// A URL, and the same with a password in it, which nobody may see.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = redact(text);
    broker(text);
    postgres(text);
    let bare = text.replace(['@', '?'], "");
    if text.contains(SECRET) || bare.contains(SECRET) {
        return;
    }
    for scheme in ["amqp", "amqps", "postgres", "postgresql"] {
        let urls = [
            format!("{scheme}://user:{SECRET}@{text}"),
            format!("{scheme}://user:{SECRET}{bare}@host/db"),
            format!("{scheme}://host/db?{bare}&password={SECRET}"),
        ];
        for url in urls {
            for shown in [redact(&url), broker(&url), postgres(&url)] {
                assert!(!shown.contains(SECRET), "{url} is shown as {shown}");
            }
        }
    }
}

/// How it is shown as the broker's, or what is wrong with it.
fn broker(text: &str) -> String {
    let uri: BrokerUri = match text.parse() {
        Ok(uri) => uri,
        Err(reason) => return reason,
    };
    let shown = format!("{uri} {uri:?}");
    assert_eq!(uri.expose(), text);
    assert!(!uri.endpoint().authority.host.is_empty(), "{text}");
    let _ = uri.is_tls();
    let [endpoint] = &BrokerSettings { uris: vec![uri], ..BrokerSettings::default() }.endpoints()[..] else {
        panic!("one URI is one endpoint")
    };
    assert!(endpoint.query.heartbeat.is_some() && !endpoint.vhost.is_empty(), "{text}");
    shown
}

/// How it is shown as the database's, or what is wrong with it.
fn postgres(text: &str) -> String {
    let mut settings = PostgresSettings::default();
    if let Err(reason) = settings.url.parse(text) {
        return reason;
    }
    let connection = settings.connection().expect("there is no password file");
    assert!(!connection.get_hosts().is_empty(), "{text}");
    format!("{} {:?} {}", settings.url.show(), settings.url, settings.target())
}
