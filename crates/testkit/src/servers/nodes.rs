//! Further nodes of the private broker, which make a cluster of it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use settled::dev::{Context, DevError, Ports, Programs, RabbitMq, RabbitPorts};

use super::{FIRST_NODE, rabbitmqctl};

/// The file with the secret that all nodes of a cluster share.
const COOKIE: &str = ".erlang.cookie";

/// A node beside the broker of the private servers. It is killed when it is dropped, or when the thread ends that
/// started it. Drop it before the servers, which remove its directory.
pub struct Node {
    broker: RabbitMq,
    _ports: Ports<3>,
}

impl Node {
    pub(super) async fn join(servers: &Path, first: Option<u32>, number: u32) -> Result<Self, DevError> {
        let room = servers.join(format!("rabbitmq-{number}"));
        let what = || format!("make {}", room.display());
        DirBuilder::new().mode(0o700).create(&room).context(what)?;
        fs::copy(servers.join("rabbitmq").join(COOKIE), room.join(COOKIE)).context(what)?;
        let ports = Ports::claim()?;
        let [amqp, stream, distribution] = ports.numbers;
        let ports_of_node = RabbitPorts { amqp, stream, distribution, epmd: port_mapper(first)? };
        let mut broker = RabbitMq::prepare(&Programs::find()?, room, ports_of_node)?;
        broker.node = format!("settled-{number}@localhost");
        broker.start_broker().await?;
        let node = Self { broker, _ports: ports };
        for command in [&["stop_app"][..], &["join_cluster", FIRST_NODE], &["start_app"]] {
            node.rabbitmqctl(command).await?;
        }
        Ok(node)
    }

    /// Its name as an Erlang node.
    pub fn name(&self) -> &str {
        &self.broker.node
    }

    pub fn uri(&self) -> String {
        self.broker.uri()
    }

    /// Returns the port for streams.
    pub fn stream_port(&self) -> u16 {
        self.broker.stream_port()
    }

    /// Kills it and waits until it has ended.
    pub async fn kill(&mut self) -> Result<(), DevError> {
        self.broker.kill().await
    }

    /// Starts it again with its data, and waits until it takes connections.
    pub async fn start(&mut self) -> Result<(), DevError> {
        self.broker.start_broker().await
    }

    async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String, DevError> {
        rabbitmqctl::run(self.name(), self.broker.pid(), arguments).await
    }
}

/// The port of the port mapper that the broker with this process id uses: nodes find each other there.
fn port_mapper(broker: Option<u32>) -> Result<u16, DevError> {
    let pid = broker.ok_or(DevError::Options("the broker does not run"))?;
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).context(|| "look at the broker".into())?;
    let port = environment.split('\0').find_map(|variable| variable.strip_prefix("ERL_EPMD_PORT="));
    port.and_then(|port| port.parse().ok()).ok_or(DevError::Options("the broker has no port mapper"))
}
