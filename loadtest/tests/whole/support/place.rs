//! Servers that the runs of a test program share: a broker and a database server take longer to start
//! than a run takes. Each run has a virtual host and a database of its own.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use settled_testkit::servers::{PrivateServers, ServersOptions};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

/// How many there are at most. The virtual hosts are made at once: each call of `rabbitmqctl` takes
/// seconds.
const MOST: usize = 40;

/// The servers, which end with the program, and the runtime that they need.
static SERVERS: LazyLock<(Runtime, PrivateServers)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let make = "V = integer_to_binary(N), ok = rabbit_vhost:add(V, <<\"test\">>), \
                ok = rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, V, <<\".*\">>, <<\".*\">>, \
                <<\".*\">>, <<\"test\">>)";
    let hosts = format!("lists:foreach(fun(N) -> {make} end, lists:seq(1, {MOST})).");
    let servers = runtime.block_on(async {
        let guardian = env!("CARGO_BIN_EXE_settled-loadtest").as_ref();
        let servers = PrivateServers::start(guardian, &ServersOptions::default()).await.expect("the servers start");
        servers.rabbitmqctl(&["eval", &hosts]).await.expect("virtual hosts");
        servers
    });
    (runtime, servers)
});

/// The port at which the broker takes streams.
pub(crate) fn stream_port() -> u16 {
    SERVERS.1.stream_port()
}

/// Where a run has the servers for itself.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) amqp_uri: String,
    pub(crate) postgres_url: String,
}

impl Place {
    /// One that nobody else has.
    pub(crate) fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = 1 + MADE.fetch_add(1, Ordering::Relaxed);
        assert!(number <= MOST, "more than {MOST} places are asked for");
        // On a thread of its own: whoever asks may have a runtime already.
        thread::scope(|scope| scope.spawn(|| Self::numbered(number)).join()).expect("a place")
    }

    fn numbered(number: usize) -> Self {
        let (runtime, servers) = &*SERVERS;
        runtime.block_on(async {
            let connected = tokio_postgres::connect(servers.postgres_url(), NoTls).await;
            let (client, connection) = connected.expect("a session");
            tokio::spawn(connection);
            client.batch_execute(&format!("CREATE DATABASE run_{number}")).await.expect("a database");
        });
        let (broker, _) = servers.amqp_uri().rsplit_once('/').expect("a virtual host");
        let (server, _) = servers.postgres_url().rsplit_once('/').expect("a database");
        Self { amqp_uri: format!("{broker}/{number}"), postgres_url: format!("{server}/run_{number}") }
    }

    /// For the command line of a run.
    pub(crate) fn arguments(&self) -> [&str; 4] {
        ["--amqp-uri", &self.amqp_uri, "--postgres-url", &self.postgres_url]
    }
}
