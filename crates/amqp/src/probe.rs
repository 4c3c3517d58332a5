//! Connects to each node once, for `settled check --connect`.

use std::io;

use lapin::ConnectionProperties;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;

use crate::connection::{open, target, within};
use crate::settings::BrokerSettings;
use crate::topology;

/// Host and port of a node, and what can lose tasks there, or why it cannot be connected to.
pub(super) type Probed = (String, Result<Vec<String>, String>);

/// Connects to each node once, opens a channel, and checks the queues and exchanges that the daemon uses.
///
/// # Errors
///
/// When `broker.tls_ca_file` cannot be read.
pub async fn probe(settings: &BrokerSettings) -> io::Result<Vec<Probed>> {
    let tls = settings.tls()?;
    let mut results = Vec::new();
    for uri in settings.endpoints() {
        let target = target(&uri);
        let probed = within(settings.connect_timeout, probe_node(uri, tls.clone(), settings)).await;
        results.push((target, probed.and_then(|dangers| dangers.map_err(|error| error.to_string()))));
    }
    Ok(results)
}

async fn probe_node(uri: AMQPUri, tls: OwnedTLSConfig, settings: &BrokerSettings) -> lapin::Result<Vec<String>> {
    let properties = ConnectionProperties::default().with_connection_name("settled check".into());
    let connection = open(uri, properties, tls).await?;
    // Held until the end: a channel that is dropped closes itself, and lapin then refuses to close the connection. The
    // open channel is the proof; whether the connection is closed in order is not.
    let _channel = connection.create_channel().await?;
    let dangers = topology::dangers(&connection, settings).await;
    let _ = connection.close(200, "checked".into()).await;
    dangers
}
