//! Connects to each node once, for `settled check --connect`.

use lapin::ConnectionProperties;
use lapin::tcp::RustlsConnector;
use lapin::uri::AMQPUri;
use settled_pipeline::health::Outage;
use settled_pipeline::precondition::Precondition;

use crate::connection::{ConnectError, access, open, target, within};
use crate::outlet::Outlet;
use crate::settings::BrokerSettings;
use crate::{preconditions, stream, topology};

/// What was found on a node.
#[derive(Debug)]
pub struct Probed {
    /// What the daemon needs there.
    pub preconditions: Vec<Precondition>,
    /// What can lose tasks there, one sentence each.
    pub dangers: Vec<String>,
}

/// Connects to each node once, and goes through all that the daemon needs there. Returns host and port of each node, and
/// what was found, or why it cannot be connected to. If events go to a stream, its port of each node, too. Changes nothing.
///
/// # Errors
///
/// When a file that the settings name cannot be used.
pub async fn probe(
    settings: &BrokerSettings,
    outlet: &Outlet,
) -> Result<Vec<(String, Result<Probed, Outage>)>, ConnectError> {
    let (endpoints, tls) = access(settings)?;
    let mut results = Vec::new();
    for uri in endpoints {
        let target = target(&uri);
        let probing = probe_node(uri.clone(), tls.clone(), settings, outlet);
        let probed = within(settings.connect_timeout, probing).await.map_err(Outage::from);
        let sorted = |error| ConnectError::of(target.clone(), error, &settings.tls_files()).into();
        let probed = probed.and_then(|probed| probed.map_err(sorted));
        results.push((target, probed));
        if let Some(stream) = &outlet.stream {
            results.push(stream::examine((settings, stream), (uri, tls.clone()), outlet).await);
        }
    }
    Ok(results)
}

async fn probe_node(
    uri: AMQPUri,
    tls: Option<RustlsConnector>,
    settings: &BrokerSettings,
    outlet: &Outlet,
) -> lapin::Result<Probed> {
    let properties = ConnectionProperties::default().with_connection_name("settled check".into());
    let connection = open(uri, properties, tls).await?;
    // Held until the end: a channel that is dropped closes itself, and lapin then refuses to close the connection. The
    // open channel is the proof; whether the connection is closed in order is not.
    let _channel = connection.create_channel().await?;
    let examined = async {
        let preconditions = preconditions::examine(&connection, settings, outlet).await?;
        Ok(Probed { preconditions, dangers: topology::dangers(&connection, settings).await? })
    };
    let examined = examined.await;
    let _ = connection.close(200, "checked".into()).await;
    examined
}
