//! TLS to PostgreSQL.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use settled_testkit::harness::{World, eventually, postgres_with, servers};
use settled_testkit::servers::PrivateServers;

use super::authority::{Authority, Issued, Valid};
use super::{OK, OurFiles, REFUSED, becomes, checked, checked_under, goes_on, reload, says_refused};

const SERVER: &str = "PostgreSQL";

/// A PostgreSQL with TLS whose clients show certificates, and the authorities of both sides.
struct Secured {
    servers: PrivateServers,
    world: World,
    authority: Authority,
    clients: Authority,
    files: OurFiles,
    user: String,
}

impl Secured {
    async fn start() -> Self {
        let own = postgres_with(Default::default()).await;
        let world = World::between(servers().await, &own, &[]).await;
        let (authority, clients) = (Authority::new("servers' authority"), Authority::new("clients' authority"));
        let user = format!("tls_{}", world.name);
        let files = OurFiles::write(&authority, &clients.client(&user, Valid::Now));
        let secured = Self { servers: own, world, authority, clients, files, user };
        secured.become_tls().await;
        secured
    }

    fn data(&self, name: &str) -> PathBuf {
        self.servers.dir().join("postgres/data").join(name)
    }

    /// Puts a file where PostgreSQL, which is another user, can read it.
    fn put(&self, name: &str, content: &str) {
        let (path, owner) = (self.data(name), std::fs::metadata(self.data("PG_VERSION")).expect("a database"));
        super::replace(&path, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("closed");
        chown(&path, Some(owner.uid()), Some(owner.gid())).expect("given away");
    }

    async fn execute(&self, statements: &[&str]) {
        let client = self.world.sql().await;
        for statement in statements {
            client.batch_execute(statement).await.expect("executed");
        }
    }

    /// Turns TLS on. The role of the test itself goes on without.
    async fn become_tls(&self) {
        let user = &self.user;
        let rules = std::fs::read_to_string(self.data("pg_hba.conf")).expect("rules");
        let first = format!("hostssl all {user} 127.0.0.1/32 cert\nhostnossl all {user} 127.0.0.1/32 reject\n");
        self.put("pg_hba.conf", &(first + &rules));
        self.trusts(&self.clients);
        self.shows(&self.authority.server("127.0.0.1", Valid::Now));
        let role = format!(
            "CREATE ROLE {user} LOGIN; ALTER DATABASE {} OWNER TO {user}; GRANT ALL ON SCHEMA public TO {user}",
            self.world.name
        );
        self.execute(&[
            &role,
            "ALTER SYSTEM SET ssl_ca_file = 'clients.crt'",
            "ALTER SYSTEM SET ssl = on",
            "SELECT pg_reload_conf()",
        ])
        .await;
        eventually("TLS is on", async || {
            self.world.rows("SELECT current_setting('ssl') AS ssl", &[]).await[0]["ssl"] == "on"
        })
        .await;
    }

    /// Has PostgreSQL trust certificates of this authority only. Needs a reload there.
    fn trusts(&self, clients: &Authority) {
        self.put("clients.crt", clients.pem());
    }

    /// Has PostgreSQL show this certificate. Needs a reload there.
    fn shows(&self, server: &Issued) {
        self.put("server.crt", &server.certificate);
        self.put("server.key", &server.key);
    }

    async fn reload_server(&self) {
        self.execute(&["SELECT pg_reload_conf()"]).await;
    }

    /// Ends the connections of the daemon.
    async fn terminate(&self) {
        let terminate =
            format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'", self.user);
        self.execute(&[&terminate]).await;
    }

    /// The URL of the user with a certificate.
    fn url(&self, mode: &str) -> String {
        let (_, place) = self.world.postgres_url.split_once('@').expect("a user");
        format!("postgres.url = 'postgresql://{}@{place}?sslmode={mode}'", self.user)
    }

    fn configure(&self) {
        let [ca, ..] = self.files.lines("postgres");
        self.configure_with(&ca);
    }

    /// Configures the daemon with this line for the authority.
    fn configure_with(&self, ca: &str) {
        let [_, certificate, key] = self.files.lines("postgres");
        self.world.configure(&[&self.url("verify-full"), ca, &certificate, &key]);
    }

    fn path(&self, name: &str) -> String {
        self.files.path(name).display().to_string()
    }
}

#[tokio::test]
async fn the_certificate_of_postgresql_is_verified_and_what_is_wrong_with_it_is_said() {
    let secured = Secured::start().await;
    let (world, authority) = (&secured.world, &secured.authority);
    secured.configure();
    checked(world, SERVER, OK, &[]).await;
    let (ca, foreign) = (secured.path("ca.pem"), Authority::new("a foreign authority"));
    for (server, parts) in [
        (authority.server("127.0.0.1", Valid::InThePast), ["certificate expired at 2021-01-01T00:00:00Z", "clock"]),
        (authority.server("db.example", Valid::Now), ["is for", "and not for 127.0.0.1"]),
        (foreign.server("127.0.0.1", Valid::Now), ["is of no authority in", &ca]),
    ] {
        secured.shows(&server);
        secured.reload_server().await;
        becomes(world, SERVER, REFUSED, &parts).await;
    }
    // It is verified whatever mode the URL asks for, and by the authorities of the system without a file.
    let [_, certificate, key] = secured.files.lines("postgres");
    world.configure(&[&secured.url("require"), &certificate, &key]);
    checked(world, SERVER, REFUSED, &["is of no authority"]).await;
    secured.execute(&["ALTER SYSTEM SET ssl = off", "SELECT pg_reload_conf()"]).await;
    becomes(world, SERVER, REFUSED, &["PostgreSQL has no TLS"]).await;
}

#[tokio::test]
async fn authorities_for_postgresql_replace_those_of_the_system() {
    let secured = Secured::start().await;
    let (world, files) = (&secured.world, &secured.files);
    let system = secured.path("ca.pem");
    let variables = [("SSL_CERT_FILE", &*system)];
    let [_, certificate, key] = files.lines("postgres");
    world.configure(&[&secured.url("verify-full"), &certificate, &key]);
    checked_under(world, &variables, SERVER, OK, &[]).await;
    checked(world, SERVER, REFUSED, &["is of no authority that the system trusts"]).await;
    secured.configure_with(&files.other_authority("postgres", &secured.clients));
    checked_under(world, &variables, SERVER, REFUSED, &["is of no authority in", "other-ca.pem"]).await;
}

#[tokio::test]
async fn the_certificate_of_the_client_is_shown_to_postgresql_and_what_is_wrong_with_it_is_said() {
    let secured = Secured::start().await;
    let (world, clients, user) = (&secured.world, &secured.clients, &secured.user);
    secured.configure();
    checked(world, SERVER, OK, &[]).await;
    let (ours, foreign) = (secured.path("client.pem"), Authority::new("a foreign authority"));
    for (client, parts) in [
        (clients.client(user, Valid::InThePast), [&*ours, "it has expired", "expired at 2021-01-01T00:00:00Z"]),
        (
            foreign.client(user, Valid::Now),
            [&*ours, "does not trust the authority", "issued by CN=a foreign authority"],
        ),
        (clients.client("somebody", Valid::Now), ["certificate authentication failed", user, "postgres.tls_cert_file"]),
    ] {
        secured.files.show(&client);
        checked(world, SERVER, REFUSED, &parts).await;
    }
    let [ca, ..] = secured.files.lines("postgres");
    world.configure(&[&secured.url("verify-full"), &ca]);
    checked(world, SERVER, REFUSED, &["requires a valid client certificate"]).await;
}

#[tokio::test]
async fn certificates_to_postgresql_are_replaced_while_the_daemon_runs() {
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
    secured.configure_with(&secured.files.other_authority("postgres", clients));
    reload(&mut daemon, 1).await;
    secured.terminate().await;
    says_refused(&mut daemon, &["is of no authority in", &secured.path("other-ca.pem")]).await;
    secured.configure();
    reload(&mut daemon, 2).await;
    goes_on(world, &mut daemon).await;
    // And there.
    secured.trusts(&secured.authority);
    secured.reload_server().await;
    secured.terminate().await;
    says_refused(&mut daemon, &["does not trust the authority", &secured.path("client.pem")]).await;
    secured.trusts(clients);
    secured.reload_server().await;
    goes_on(world, &mut daemon).await;
    world.end(daemon).await;
}
