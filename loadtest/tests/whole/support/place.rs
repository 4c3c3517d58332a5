//! Servers that the runs of a test program share: a broker and a database server take longer to start
//! than a run takes. Each run has a virtual host and a database of its own.

use std::sync::{LazyLock, mpsc};

use settled_testkit::servers::{PrivateServers, ServersOptions};
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_postgres::NoTls;

/// How many there are at most. The virtual hosts are made at once: each call of `rabbitmqctl` takes
/// seconds.
const MOST: usize = 40;

/// Where a run has the servers for itself.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) amqp_uri: String,
    pub(crate) postgres_url: String,
}

impl Place {
    /// One that nobody else has.
    pub(crate) fn new() -> Self {
        static SERVERS: LazyLock<UnboundedSender<mpsc::Sender<Place>>> = LazyLock::new(|| {
            let (ask, asked) = unbounded_channel();
            std::thread::spawn(move || serve(asked));
            ask
        });
        let (give, given) = mpsc::channel();
        SERVERS.send(give).expect("somebody serves");
        given.recv().expect("a place")
    }

    /// For the command line of a run.
    pub(crate) fn arguments(&self) -> [&str; 4] {
        ["--amqp-uri", &self.amqp_uri, "--postgres-url", &self.postgres_url]
    }
}

/// Has the servers, which end with the program, and makes places for whoever asks.
fn serve(mut asked: UnboundedReceiver<mpsc::Sender<Place>>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let servers =
            PrivateServers::start(env!("CARGO_BIN_EXE_settled-loadtest").as_ref(), &ServersOptions::default())
                .await
                .expect("the servers start");
        let make = "V = integer_to_binary(N), ok = rabbit_vhost:add(V, <<\"test\">>), \
                    ok = rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, V, <<\".*\">>, <<\".*\">>, \
                    <<\".*\">>, <<\"test\">>)";
        let hosts = format!("lists:foreach(fun(N) -> {make} end, lists:seq(1, {MOST})).");
        servers.rabbitmqctl(&["eval", &hosts]).await.expect("virtual hosts");
        let connected = tokio_postgres::connect(servers.postgres_url(), NoTls).await;
        let (client, connection) = connected.expect("a session");
        tokio::spawn(connection);
        let mut number = 0;
        while let Some(give) = asked.recv().await {
            number += 1;
            if number > MOST {
                // Whoever asked hears of it by a channel that is closed; the others go on.
                eprintln!("more than {MOST} places are asked for");
                continue;
            }
            client.batch_execute(&format!("CREATE DATABASE run_{number}")).await.expect("a database");
            let (broker, _) = servers.amqp_uri().rsplit_once('/').expect("a virtual host");
            let (server, _) = servers.postgres_url().rsplit_once('/').expect("a database");
            let place =
                Place { amqp_uri: format!("{broker}/{number}"), postgres_url: format!("{server}/run_{number}") };
            // A test that has failed meanwhile doesn't wait for it.
            let _ = give.send(place);
        }
    });
}
