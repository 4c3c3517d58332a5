//! TLS to both servers, by real handshakes, with certificates of authorities that the tests are themselves.

mod authority;
mod postgres;
mod rabbitmq;

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use settled_testkit::harness::{Daemon, World, eventually, transfer};
use tempfile::TempDir;

use self::authority::{Authority, Issued};

/// The files that the daemon and the commands read.
struct OurFiles(TempDir);

impl OurFiles {
    /// Writes the authority to trust, and a certificate for the client.
    fn write(trusted: &Authority, client: &Issued) -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.trust(trusted);
        files.show(client);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trust(&self, authority: &Authority) {
        replace(&self.path("ca.pem"), authority.pem());
    }

    fn show(&self, client: &Issued) {
        replace(&self.path("client.key"), &client.key);
        replace(&self.path("client.pem"), &client.certificate);
    }

    /// Puts another authority beside the one to trust. Returns the line that names its file instead.
    fn other_authority(&self, section: &str, authority: &Authority) -> String {
        let path = self.path("other-ca.pem");
        replace(&path, authority.pem());
        format!("{section}.tls_ca_file = {path:?}")
    }

    /// The lines of the configuration that name them.
    fn lines(&self, section: &str) -> [String; 3] {
        [("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key")]
            .map(|(kind, name)| format!("{section}.tls_{kind}_file = {:?}", self.path(name)))
    }
}

/// Replaces a file as a whole, as whoever renews certificates does.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).expect("written");
    std::fs::rename(&new, path).expect("renamed");
}

/// What `settled check --connect` says about a server.
struct Checked {
    state: String,
    detail: String,
    code: Option<i32>,
    all: String,
}

impl Checked {
    async fn of(world: &World, variables: &[(&str, &str)], server: &str) -> Self {
        let ended = world.run_under(variables, &["check", "--connect", "--json"]).await;
        let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        let row = report["servers"].as_array().into_iter().flatten().find(|row| row["server"] == server).cloned();
        let text = |key| row.as_ref().and_then(|row| row[key].as_str()).unwrap_or_default().to_owned();
        Self { state: text("state"), detail: text("detail"), code: Some(ended.code), all: format!("{ended:?}") }
    }

    fn is(&self, (state, code): (&str, i32), parts: &[&str]) -> bool {
        self.state == state && self.code == Some(code) && parts.iter().all(|part| self.detail.contains(part))
    }
}

/// Asserts that `settled check --connect` says this about a server, and ends with this code.
async fn checked(world: &World, server: &str, expected: (&str, i32), parts: &[&str]) {
    checked_under(world, &[], server, expected, parts).await;
}

async fn checked_under(world: &World, variables: &[(&str, &str)], server: &str, expected: (&str, i32), parts: &[&str]) {
    let checked = Checked::of(world, variables, server).await;
    assert!(checked.is(expected, parts), "not {expected:?} because of {parts:?}, but {}", checked.all);
}

/// Waits until `settled check --connect` says this: a server takes new certificates in its own time.
async fn becomes(world: &World, server: &str, expected: (&str, i32), parts: &[&str]) {
    eventually(&format!("it is {expected:?} because of {parts:?}"), async || {
        Checked::of(world, &[], server).await.is(expected, parts)
    })
    .await;
}

const OK: (&str, i32) = ("ok", 0);
const REFUSED: (&str, i32) = ("refused", 78);

/// Waits until the daemon says on `/readyz` that a server refuses it, because of this.
async fn says_refused(daemon: &mut Daemon, parts: &[&str]) {
    let mut last = (0, Value::Null);
    eventually(&format!("it is refused because of {parts:?}"), async || {
        if daemon.admin().is_none() {
            return false;
        }
        last = daemon.readiness().await;
        let text = last.1.to_string();
        last.0 == 503 && text.contains("refused") && parts.iter().all(|part| text.contains(part))
    })
    .await;
}

async fn reload(daemon: &mut Daemon, count: usize) {
    daemon.signal(Signal::HUP);
    daemon.counts("settled_config_reloads_total", &[("result", "success")], count).await;
}

/// Waits until a payment settles, and the daemon is ready.
async fn goes_on(world: &World, daemon: &mut Daemon) {
    eventually("it is ready", async || daemon.readiness().await.0 == 200).await;
    world.settle(&[transfer("world", "alice", 1)]).await;
}
