//! A cluster of three brokers, of which the one that leads the task queue is killed.

use std::time::Duration;

use settled_testkit::harness::{World, own_servers, within};
use settled_testkit::servers::{FIRST_NODE, Node, PrivateServers};

use crate::kills::committed;
use crate::reckoning::finish;
use crate::{QUICK, load, ordeal};

const KILLS: usize = 6;

/// An election waits for some seconds of silence, and a node that comes back has to catch up.
const LIMIT: Duration = Duration::from_secs(120);

struct Brokers {
    servers: PrivateServers,
    others: [Node; 2],
}

impl Brokers {
    async fn start() -> Self {
        let servers = own_servers().await;
        let mut others = Vec::new();
        for number in [2, 3] {
            others.push(servers.join_node(number).await.expect("a node"));
        }
        Self { servers, others: others.try_into().unwrap_or_else(|_| unreachable!("two")) }
    }

    /// Kills a node.
    async fn kill(&mut self, name: &str) {
        match self.others.iter_mut().find(|node| node.name() == name) {
            Some(node) => node.kill().await.expect("it ends"),
            None => {
                assert_eq!(name, FIRST_NODE);
                self.servers.kill_rabbitmq().await.expect("it ends");
            }
        }
    }

    /// Starts the node that was killed.
    async fn start_again(&mut self, name: &str) {
        match self.others.iter_mut().find(|node| node.name() == name) {
            Some(node) => node.start().await.expect("it starts"),
            None => self.servers.start_rabbitmq().await.expect("it starts"),
        }
    }

    /// What `rabbitmqctl` says of a queue.
    async fn of_queue(&self, column: &str, queue: &str) -> String {
        let listed = self.servers.rabbitmqctl(&["--silent", "list_queues", "name", column]).await.unwrap_or_default();
        let line = listed.lines().find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// Waits until all three have the queue, and returns the one that leads.
    async fn leader(&self, queue: &str) -> String {
        within(LIMIT, "three nodes have the queue", async || {
            self.of_queue("online", queue).await.matches('@').count() == 3
        })
        .await;
        let mut leader = String::new();
        within(LIMIT, "the queue has a leader", async || {
            leader = self.of_queue("leader", queue).await;
            leader.contains('@')
        })
        .await;
        leader
    }
}

#[tokio::test]
#[ignore = "minutes on two cores: make matrix"]
async fn the_node_that_leads_the_task_queue_of_a_cluster_is_killed_again_and_again() {
    let mut brokers = Brokers::start().await;
    let mut world = World::on(&brokers.servers, &[]).await;
    world.other_amqp_uris = brokers.others.iter().map(Node::uri).collect();
    world.configure(&QUICK);
    let (world, archive, daemon) = ordeal(world).await;
    let goes_on = async |what: &str| {
        let before = committed(&world).await;
        within(LIMIT, what, async || committed(&world).await > before + 500).await;
    };
    let mut killed = Vec::new();
    let load = load::during(&world, 500, async {
        for _ in 0..KILLS {
            goes_on("payments are committed").await;
            let leader = brokers.leader(&world.queue).await;
            brokers.kill(&leader).await;
            goes_on("payments are committed by the two that are left").await;
            brokers.start_again(&leader).await;
            killed.push(leader);
        }
        brokers.leader(&world.queue).await;
    })
    .await;
    println!("{KILLS} leaders were killed: {killed:?}");
    finish("cluster", &world, &load, &archive, daemon).await;
    let Brokers { servers, others } = brokers;
    drop(others);
    servers.shutdown().await.expect("nothing is left");
}
