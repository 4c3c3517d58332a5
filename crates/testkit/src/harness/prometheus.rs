//! Runs a Prometheus that scrapes daemons and evaluates the alerts, and its tool that tests rules.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{eventually, settled};

/// Environment variable with the directory of `prometheus` and `promtool` to use instead of Debian's.
const VARIABLE: &str = "SETTLED_TEST_PROMETHEUS";

/// The interval that the rules recommend.
const SCRAPE: &str = "5s";

/// Returns the path of `prometheus` or `promtool`: installed, or unpacked by `make prometheus`.
pub fn tool(name: &str) -> PathBuf {
    let target = settled().parent().and_then(Path::parent).map(|target| target.join("prometheus/usr/bin"));
    let places = [std::env::var_os(VARIABLE).map(PathBuf::from), Some("/usr/bin".into()), target];
    let mut found = places.into_iter().flatten().map(|place| place.join(name)).filter(|path| path.exists());
    found.next().unwrap_or_else(|| panic!("there is no {name}: run `make prometheus`"))
}

/// A running Prometheus. Killed when dropped, and when the test's thread ends.
pub struct Prometheus {
    child: Child,
    dir: TempDir,
    address: SocketAddr,
    targets: Vec<(String, SocketAddr)>,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    pub severity: String,
    pub name: String,
    pub instance: String,
}

impl Prometheus {
    /// Starts a Prometheus that evaluates the rules of a file.
    pub async fn start(rules: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let targets = dir.path().join("targets.json");
        let config = json!({
            "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "settled",
                "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}],
            }],
        });
        fs::write(dir.path().join("prometheus.yml"), config.to_string()).expect("its configuration");
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(tool("prometheus"));
        command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        let mut prometheus = Self { child, dir, address, targets: Vec::new() };
        prometheus.write_targets();
        eventually("Prometheus answers", async || prometheus.get("/-/ready").await.is_some()).await;
        prometheus
    }

    /// Scrapes a daemon from now on, as this instance, in place of an earlier one of the name.
    pub fn scrape(&mut self, instance: &str, daemon: SocketAddr) {
        self.targets.retain(|(name, _)| name != instance);
        self.targets.push((instance.to_owned(), daemon));
        self.write_targets();
    }

    fn write_targets(&mut self) {
        let target =
            |(name, address): &(String, SocketAddr)| json!({"targets": [address], "labels": {"instance": name}});
        let targets: Vec<Value> = self.targets.iter().map(target).collect();
        // Renamed, because it is read at any time.
        let (new, file) = (self.dir.path().join("targets.new"), self.dir.path().join("targets.json"));
        fs::write(&new, Value::from(targets).to_string()).and_then(|()| fs::rename(new, file)).expect("written");
    }

    /// Returns the alerts that fire.
    pub async fn firing(&self) -> Vec<Alert> {
        let answer = self.json("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().expect("a list");
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let of = |alert: &Value| Alert {
            severity: label(alert, "severity"),
            name: label(alert, "alertname"),
            instance: label(alert, "instance"),
        };
        alerts.iter().filter(|alert| alert["state"] == "firing").map(of).collect()
    }

    /// Waits until all daemons have been scraped.
    pub async fn scraped(&self) {
        eventually("all daemons are scraped", async || {
            let answer = self.json("/api/v1/targets?state=active").await;
            let targets = answer["data"]["activeTargets"].as_array().expect("a list");
            targets.iter().filter(|target| target["health"] == "up").count() == self.targets.len()
        })
        .await;
    }

    /// Waits until all rules have been evaluated after this moment.
    pub async fn evaluated(&self) {
        let now = jiff::Timestamp::now();
        let is_later = |group: &Value| {
            let evaluated = group["lastEvaluation"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
            evaluated.is_some_and(|evaluated| evaluated > now)
        };
        eventually("the rules are evaluated", async || {
            let answer = self.json("/api/v1/rules").await;
            answer["data"]["groups"].as_array().expect("a list").iter().all(is_later)
        })
        .await;
    }

    /// Returns the names of the alerts of a severity that have been pending or firing at any time.
    pub async fn ever(&self, severity: &str) -> Vec<String> {
        // ALERTS{severity="…"}[1h], encoded.
        let answer = self.json(&format!("/api/v1/query?query=ALERTS%7Bseverity%3D%22{severity}%22%7D%5B1h%5D")).await;
        let series = answer["data"]["result"].as_array().expect("a list");
        series.iter().map(|series| series["metric"].to_string()).collect()
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await.unwrap_or_else(|| panic!("no answer to {path}"));
        serde_json::from_str(&answer).expect("JSON")
    }

    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.ok()?;
        let (head, body) = response.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).filter(|status| *status == "200")?;
        Some(body.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let errors = log.lines().filter(|line| line.contains("level=error") || line.contains("level=warn"));
            eprintln!("Prometheus says\n{}", errors.collect::<Vec<_>>().join("\n"));
        }
    }
}
