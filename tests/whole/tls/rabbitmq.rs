//! TLS to RabbitMQ, with the user of the client's certificate (SASL EXTERNAL) and with a password.

use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use settled_amqp::{BrokerSettings, StreamLog, StreamSession, StreamSettings};
use settled_pipeline::health::Outage;
use settled_pipeline::outbox::{EventLog, LogSession};
use settled_testkit::harness::{World, eventually, postgres_with};
use settled_testkit::servers::PrivateServers;

use super::authority::{Authority, Issued, Valid};
use super::{OK, OurFiles, REFUSED, becomes, checked, checked_under, goes_on, reload, replace, says_refused};

const SERVER: &str = "RabbitMQ";

/// Reads the user from a certificate. Part of RabbitMQ, and off by default.
const PLUGIN: &str = "rabbitmq_auth_mechanism_ssl";

/// A RabbitMQ with TLS whose clients show certificates, and the authorities of both sides.
struct Secured {
    servers: PrivateServers,
    world: World,
    authority: Authority,
    clients: Authority,
    files: OurFiles,
    port: u16,
    stream_port: u16,
    user: String,
}

impl Secured {
    async fn start() -> Self {
        let servers = postgres_with(Default::default()).await;
        let world = World::on(&servers, &[]).await;
        let (authority, clients) = (Authority::new("servers' authority"), Authority::new("clients' authority"));
        let user = format!("tls_{}", world.name);
        let files = OurFiles::write(&authority, &clients.client(&user, Valid::Now));
        let secured =
            Self { servers, world, authority, clients, files, port: free_port(), stream_port: free_port(), user };
        secured.trusts(&secured.clients);
        secured.shows(&secured.authority.server("127.0.0.1", Valid::Now));
        secured.become_tls();
        secured.servers.start_rabbitmq().await.expect("a broker");
        secured.ctl(&["add_user", &secured.user, "secret"]).await;
        secured.ctl(&["set_permissions", &secured.user, ".*", ".*", ".*"]).await;
        secured
    }

    fn room(&self, name: &str) -> PathBuf {
        self.servers.dir().join("rabbitmq").join(name)
    }

    /// Has the broker, which does not run yet, listen for TLS, too, and turns the plugin on.
    fn become_tls(&self) {
        let mut text = std::fs::read_to_string(self.room("rabbitmq.conf")).expect("a configuration");
        let _ = write!(
            text,
            "listeners.ssl.1 = 127.0.0.1:{}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
             ssl_cert_login_from = common_name\n\
             auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n\
             stream.listeners.ssl.1 = 127.0.0.1:{}\nstream.advertised_tls_port = {}\n",
            self.port,
            self.room("clients.pem").display(),
            self.room("server.pem").display(),
            self.room("server.key").display(),
            self.stream_port,
            self.stream_port,
        );
        std::fs::write(self.room("rabbitmq.conf"), text).expect("written");
        let of_system = plugin();
        let linked = self.room("plugins");
        if linked.exists() {
            symlink(&of_system, linked.join(of_system.file_name().expect("a name"))).expect("linked");
        }
        std::fs::write(self.room("enabled_plugins"), format!("[{PLUGIN},rabbitmq_stream].\n")).expect("written");
    }

    async fn ctl(&self, arguments: &[&str]) {
        self.servers.rabbitmqctl(arguments).await.expect("done");
    }

    /// Has the broker trust certificates of this authority only, once it has forgotten the files.
    fn trusts(&self, clients: &Authority) {
        replace(&self.room("clients.pem"), clients.pem());
    }

    fn shows(&self, server: &Issued) {
        replace(&self.room("server.pem"), &server.certificate);
        replace(&self.room("server.key"), &server.key);
    }

    /// Has Erlang read the files again, which it keeps for two minutes.
    async fn forget_files(&self) {
        self.ctl(&["eval", "ssl:clear_pem_cache()."]).await;
    }

    async fn close_connections(&self) {
        self.ctl(&["close_all_user_connections", &self.user, "revoked"]).await;
    }

    fn uri(&self, user: &str, parameters: &str) -> String {
        format!("broker.uris = ['amqps://{user}127.0.0.1:{}/%2f{parameters}']", self.port)
    }

    fn configure(&self) {
        let [ca, ..] = self.files.lines("broker");
        self.configure_with(&ca);
    }

    /// Configures the daemon with this line for the authority.
    fn configure_with(&self, ca: &str) {
        let [_, certificate, key] = self.files.lines("broker");
        self.world.configure(&[&self.external(), ca, &certificate, &key]);
    }

    /// The URI of the user with a certificate.
    fn external(&self) -> String {
        self.uri("", "?auth_mechanism=external")
    }

    /// Opens a session on the stream of the world, on this port.
    async fn stream(&self, broker: &BrokerSettings, port: u16) -> Result<StreamSession, Outage> {
        let stream = StreamSettings { name: self.world.stream.clone(), port, ..StreamSettings::default() };
        StreamLog::new(broker.clone(), &stream).open("settled").await
    }

    /// The broker as a client of streams knows it, with all files.
    fn broker(&self, user: &str, parameters: &str) -> BrokerSettings {
        let uri = format!("amqps://{user}127.0.0.1:{}/%2f{parameters}", self.port);
        BrokerSettings {
            uris: vec![uri.parse().expect("a URI")],
            tls_ca_file: Some(self.files.path("ca.pem")),
            tls_cert_file: Some(self.files.path("client.pem")),
            tls_key_file: Some(self.files.path("client.key")),
            ..BrokerSettings::default()
        }
    }

    fn path(&self, name: &str) -> String {
        self.files.path(name).display().to_string()
    }
}

/// Where Debian has the plugin.
fn plugin() -> PathBuf {
    let folders = |path: &Path| std::fs::read_dir(path).expect("readable").flatten().map(|entry| entry.path());
    let versions = folders(Path::new("/usr/lib/rabbitmq/lib")).map(|version| version.join("plugins"));
    let mut plugins =
        versions.filter(|plugins| plugins.exists()).flat_map(|plugins| folders(&plugins).collect::<Vec<_>>());
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PLUGIN));
    plugins.find(is_it).expect("the plugin is in Debian's package")
}

/// A port below those that the kernel gives to clients, and for one test only: its broker listens later.
fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 19_000).expect("a port");
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let next = || first + 7 * TAKEN.fetch_add(1, Ordering::Relaxed);
    std::iter::repeat_with(next).take(100).find(is_free).expect("a free port")
}

#[tokio::test]
async fn certificates_are_verified_on_both_sides_of_a_connection_to_rabbitmq_and_what_is_wrong_is_said() {
    let secured = Secured::start().await;
    let (world, authority, clients, user) = (&secured.world, &secured.authority, &secured.clients, &secured.user);
    secured.configure();
    checked(world, SERVER, OK, &[]).await;
    let (ours, foreign) = (secured.path("client.pem"), Authority::new("a foreign authority"));
    for (client, parts) in [
        (clients.client(user, Valid::InThePast), [&*ours, "it has expired", "expired at 2021-01-01T00:00:00Z"]),
        (
            foreign.client(user, Valid::Now),
            [&*ours, "does not trust the authority", "issued by CN=a foreign authority"],
        ),
        (clients.client("somebody", Valid::Now), ["ACCESS_REFUSED", "refuses the login", "broker.tls_cert_file"]),
    ] {
        secured.files.show(&client);
        checked(world, SERVER, REFUSED, &parts).await;
    }
    secured.files.show(&clients.client(user, Valid::Now));
    checked(world, SERVER, OK, &[]).await;
    let ca = secured.path("ca.pem");
    for (server, parts) in [
        (authority.server("127.0.0.1", Valid::InThePast), ["certificate expired at 2021-01-01T00:00:00Z", "clock"]),
        (authority.server("mq.example", Valid::Now), ["is for", "and not for 127.0.0.1"]),
        (foreign.server("127.0.0.1", Valid::Now), ["is of no authority in", &ca]),
    ] {
        secured.shows(&server);
        secured.forget_files().await;
        becomes(world, SERVER, REFUSED, &parts).await;
    }
    secured.shows(&authority.server("127.0.0.1", Valid::Now));
    secured.forget_files().await;
    // A password serves as well, from a file; a certificate is shown nevertheless.
    let password = secured.files.path("password");
    std::fs::write(&password, "secret\n").expect("written");
    let [ca, certificate, key] = secured.files.lines("broker");
    let file = format!("broker.password_file = {password:?}");
    let with_password = secured.uri(&format!("{user}@"), "");
    world.configure(&[&with_password, &file, &ca, &certificate, &key]);
    checked(world, SERVER, OK, &[]).await;
    world.configure(&[&with_password, &file, &ca]);
    checked(world, SERVER, REFUSED, &["set tls_cert_file and tls_key_file"]).await;
    // The port without TLS.
    let plain = secured.servers.amqp_uri().replace("amqp://", "amqps://");
    world.configure(&[&format!("broker.uris = [{plain:?}]"), &ca]);
    checked(world, SERVER, REFUSED, &["does not speak TLS"]).await;
}

#[tokio::test]
async fn authorities_for_rabbitmq_replace_those_of_the_system() {
    let secured = Secured::start().await;
    let (world, files) = (&secured.world, &secured.files);
    let system = secured.path("ca.pem");
    let variables = [("SSL_CERT_FILE", &*system)];
    let [_, certificate, key] = files.lines("broker");
    world.configure(&[&secured.external(), &certificate, &key]);
    checked_under(world, &variables, SERVER, OK, &[]).await;
    checked(world, SERVER, REFUSED, &["is of no authority that the system trusts"]).await;
    secured.configure_with(&files.other_authority("broker", &secured.clients));
    checked_under(world, &variables, SERVER, REFUSED, &["is of no authority in", "other-ca.pem"]).await;
}

#[tokio::test]
async fn certificates_to_rabbitmq_are_replaced_while_the_daemon_runs() {
    let secured = Secured::start().await;
    let (world, clients, user) = (&secured.world, &secured.clients, &secured.user);
    // It waits for a certificate that somebody has to renew, and takes it.
    secured.files.show(&clients.client(user, Valid::InThePast));
    secured.configure();
    let mut daemon = world.starting_daemon();
    says_refused(&mut daemon, &["it has expired", &secured.path("client.pem")]).await;
    secured.files.show(&clients.client(user, Valid::Now));
    daemon.ready().await;
    world.open_world_and_alice().await;
    // An authority that is taken away here: the configuration names another file.
    secured.configure_with(&secured.files.other_authority("broker", clients));
    reload(&mut daemon, 1).await;
    secured.close_connections().await;
    says_refused(&mut daemon, &["is of no authority in", &secured.path("other-ca.pem")]).await;
    secured.configure();
    reload(&mut daemon, 2).await;
    goes_on(world, &mut daemon).await;
    // And there.
    secured.trusts(&secured.authority);
    secured.forget_files().await;
    secured.close_connections().await;
    says_refused(&mut daemon, &["does not trust the authority", &secured.path("client.pem")]).await;
    secured.trusts(clients);
    secured.forget_files().await;
    goes_on(world, &mut daemon).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn streams_are_appended_to_over_tls_and_what_is_wrong_is_said() {
    let secured = Secured::start().await;
    let (authority, clients, user) = (&secured.authority, &secured.clients, &secured.user);
    let broker = secured.broker(&format!("{user}:secret@"), "");
    let open = async |broker: &BrokerSettings| secured.stream(broker, secured.stream_port).await;
    let mut session = open(&broker).await.expect("a session");
    assert_eq!(session.last_id().await.expect("an answer"), 0);
    // RabbitMQ's plugin takes the user of a certificate since 3.10.25.
    match open(&secured.broker("", "?auth_mechanism=external")).await {
        Ok(mut session) => assert_eq!(session.last_id().await.expect("an answer"), 0),
        Err(outage) => assert!(outage.refused && outage.reason.contains("was corrected in 3.10.25"), "{outage:?}"),
    }
    let is_refused = |opened: Result<StreamSession, Outage>, parts: &[&str]| {
        let Err(outage) = opened else { return false };
        outage.refused && parts.iter().all(|part| outage.reason.contains(part))
    };
    let foreign = Authority::new("a foreign authority");
    for (client, reason) in [
        (clients.client(user, Valid::InThePast), "it has expired"),
        (foreign.client(user, Valid::Now), "does not trust the authority"),
    ] {
        secured.files.show(&client);
        assert!(is_refused(open(&broker).await, &["TLS", reason, &secured.path("client.pem")]), "{reason}");
    }
    secured.files.show(&clients.client(user, Valid::Now));
    let nothing_shown = BrokerSettings { tls_cert_file: None, tls_key_file: None, ..broker.clone() };
    assert!(is_refused(open(&nothing_shown).await, &["set tls_cert_file and tls_key_file"]));
    let plain = secured.servers.stream_port();
    let outage = secured.stream(&broker, plain).await.err().expect("no TLS there");
    assert!(!outage.refused && outage.reason.contains("for streams without TLS"), "{outage:?}");
    secured.shows(&authority.server("mq.example", Valid::Now));
    secured.forget_files().await;
    eventually("the server's name is refused", async || {
        is_refused(open(&broker).await, &["is for mq.example, and not for 127.0.0.1"])
    })
    .await;
    // What is open stays.
    assert_eq!(session.last_id().await.expect("an answer"), 0);
}
