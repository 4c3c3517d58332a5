//! One connection attempt, for `settled check --connect`.

use std::io;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::{BrokerSettings, topology};

/// A node, and what came of connecting to it: what can lose tasks there, or why there is no connection.
pub(super) type Probed = (String, Result<Vec<String>, String>);

/// Connects to each node once, opens a channel, and looks at what the daemon uses there.
///
/// # Errors
/// When `tls_ca_file` cannot be read.
pub async fn probe(settings: &BrokerSettings) -> io::Result<Vec<Probed>> {
    let tls = settings.tls()?;
    let mut results = Vec::new();
    for uri in settings.endpoints() {
        let target = format!("{}:{}", uri.authority.host, uri.authority.port);
        let result =
            match tokio::time::timeout(settings.connect_timeout, connect_once(uri, tls.clone(), settings)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {:?}", settings.connect_timeout)),
            };
        results.push((target, result));
    }
    Ok(results)
}

async fn connect_once(uri: AMQPUri, tls: OwnedTLSConfig, settings: &BrokerSettings) -> lapin::Result<Vec<String>> {
    let properties = ConnectionProperties::default().with_connection_name("settled check".into());
    let runtime = lapin::runtime::default_runtime()?;
    let connection = Connection::connect_uri_with_config(uri, properties, tls, runtime).await?;
    // Held until the end: a channel that is dropped closes itself, and lapin then refuses to
    // close the connection. The open channel is the proof; how the goodbye goes is not.
    let _channel = connection.create_channel().await?;
    let dangers = topology::dangers(&connection, settings).await;
    let _ = connection.close(200, "checked".into()).await;
    dangers
}
