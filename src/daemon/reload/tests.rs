use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// What all configurations of these tests have in common.
const BASE: &str = "broker.uris = ['amqps://guest:one@h']\npostgres.url = 'postgresql://u:one@h/db'\n";

/// Certificates come with their keys.
const CERTIFICATES: &str = "broker.tls_cert_file = '/one.pem'\nbroker.tls_key_file = '/one.key'\n\
    postgres.tls_cert_file = '/one.pem'\npostgres.tls_key_file = '/one.key'\n";

/// Every key that reloads, with another value than in `BASE`, `CERTIFICATES` or by default.
const OTHER: [(&str, &str); 39] = [
    ("broker.uris", "['amqps://guest:two@h']"),
    ("broker.password_file", "'/password'"),
    ("broker.tls_ca_file", "'/ca.pem'"),
    ("broker.tls_cert_file", "'/two.pem'"),
    ("broker.tls_key_file", "'/two.key'"),
    ("authority.routing_key", "'require'"),
    ("authority.replies", "['*.replies']"),
    ("authority.verified", "false"),
    ("postgres.url", "'postgresql://u:two@h/db'"),
    ("postgres.password_file", "'/password'"),
    ("postgres.tls_ca_file", "'/ca.pem'"),
    ("postgres.tls_cert_file", "'/two.pem'"),
    ("postgres.tls_key_file", "'/two.key'"),
    ("payments.hold", "'1h'"),
    ("payments.longest_hold", "'300h'"),
    ("payments.parking", "'1h'"),
    ("payments.frozen_takes_credits", "false"),
    ("payments.currencies", "['BTC:8']"),
    ("retry.initial", "'20ms'"),
    ("retry.max", "'2s'"),
    ("retry.multiplier", "3.0"),
    ("retry.jitter", "0.25"),
    ("retry.conflict_attempts", "21"),
    ("reflexes.invariant", "'act'"),
    ("reflexes.clock", "'act'"),
    ("reflexes.disk", "'off'"),
    ("reflexes.disk_paths", "['/srv']"),
    ("reflexes.disk_free_min", "0.1"),
    ("reflexes.publisher", "'act'"),
    ("reflexes.publisher_dead_letters", "0.5"),
    ("reflexes.publisher_messages", "50"),
    ("reflexes.quarantine", "'1m'"),
    ("admin.liveness_timeout", "'61s'"),
    ("log.level", "'debug'"),
    ("publisher[0].types", "['transfer', 'refund']"),
    ("publisher[0].debit", "['customer:*']"),
    ("publisher[0].credit", "['merchant:*']"),
    ("publisher[0].accounts", "['customer:*']"),
    ("publisher[0].replies", "['shop.replies']"),
];

fn config(lines: &[&str]) -> Config {
    Config::compose(Some((Path::new("settled.toml"), &lines.concat())), &|_| None).expect("a valid configuration")
}

/// The configuration in which one key has another value.
fn with(key: &str, value: &str) -> Config {
    let shop = |types: &str, more: &str| format!("[[publisher]]\nname = 'shop'\ntypes = {types}\n{more}");
    match key.strip_prefix("publisher[0].") {
        Some("types") => config(&[BASE, CERTIFICATES, &shop(value, "")]),
        Some(key) => config(&[BASE, CERTIFICATES, &shop("['transfer']", &format!("{key} = {value}\n"))]),
        None => {
            let line = format!("{key} = {value}\n");
            let lines = BASE.lines().chain(CERTIFICATES.lines()).filter(|line| !line.starts_with(key));
            let others: String = lines.map(|line| format!("{line}\n")).collect();
            // A password stands in the URL or in its file.
            let others = match key {
                "postgres.password_file" => others.replace("u:one@h", "u@h"),
                "broker.password_file" => others.replace("guest:one@h", "guest@h"),
                _ => others,
            };
            config(&[&others, &line, &shop("['transfer']", "")])
        }
    }
}

/// Everything that the running parts read, passwords included.
fn seen(running: &Running, config: &Config) -> String {
    let uris: Vec<String> = running.broker.get().uris.iter().map(|uri| uri.expose().to_owned()).collect();
    format!("{running:?} {uris:?} {} {}", running.postgres.get().url.expose(), config.log.level)
}

#[test]
fn every_key_that_reloads_changes_what_the_running_parts_see() {
    let mut missing: BTreeSet<String> = with("log.level", "'info'")
        .describe()
        .into_iter()
        .filter_map(|described| described.reloads.then_some(described.key))
        .collect();
    // It tells the tables apart: another name is another publisher.
    missing.remove("publisher[0].name");
    for (key, value) in OTHER {
        let (before, new) = (with("log.level", "'info'"), with(key, value));
        let running = Running::of(&before);
        let as_it_was = seen(&running, &before);
        let (reloaded, changes) = before.reloaded(&new).expect("consistent");
        running.set(&reloaded);
        assert_ne!(seen(&running, &reloaded), as_it_was, "{key} says that it reloads");
        let name = if key.starts_with("publisher") { "publisher \"shop\"" } else { key };
        assert!(changes.applied.iter().any(|applied| applied == name), "{key}: {changes:?}");
        assert!(changes.restart.is_empty(), "{key}: {changes:?}");
        missing.remove(key);
    }
    assert!(missing.is_empty(), "give these another value here: {missing:?}");
}

#[test]
fn keys_that_need_a_restart_keep_their_values_and_are_named() {
    let before = config(&[BASE]);
    let new = "broker = { uris = ['amqps://guest:two@other'], queue = 'q' }\npostgres.url = 'postgresql://v:one@h/db'\n\
        pipeline.max_batch = 10\nlog = { level = 'debug', format = 'text' }\n";
    let (reloaded, changes) = before.reloaded(&config(&[new])).expect("consistent");
    let restart = ["broker.uris", "broker.queue", "postgres.url", "pipeline.max_batch", "log.format"];
    assert_eq!((changes.restart, changes.applied), (restart.map(str::to_owned).into(), vec!["log.level".to_owned()]));
    let running = Running::of(&reloaded);
    assert!(seen(&running, &before).contains("amqps://guest:one@h\"] postgresql://u:one@h/db"), "{running:?}");
    assert_eq!((reloaded.pipeline.max_batch, reloaded.log.level.as_str()), (1000, "debug"));
    // They are named again at every reload until then.
    let (_, again) = reloaded.reloaded(&config(&[new])).expect("consistent");
    assert_eq!((again.restart.len(), again.applied.len()), (5, 0));
}

#[test]
fn a_value_that_contradicts_one_that_stays_is_refused() {
    let before = config(&[BASE]);
    let new = config(&[BASE, "postgres.statement_timeout = '6s'\nadmin.liveness_timeout = '8s'\n"]);
    let error = before.reloaded(&new).expect_err("the server's limit is still 10 s").to_string();
    for part in ["admin.liveness_timeout", "\"10s\"", "restart the daemon"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn publishers_are_told_apart_by_their_names() {
    let table = |name: &str, types: &str| format!("[[publisher]]\nname = '{name}'\ntypes = ['{types}']\n");
    let before = config(&[BASE, &table("shop", "transfer"), &table("till", "transfer"), &table("gone", "*")]);
    let new = config(&[BASE, &table("till", "refund"), &table("shop", "transfer"), &table("new", "*")]);
    let (reloaded, changes) = before.reloaded(&new).expect("consistent");
    let expected = ["till", "gone", "new"].map(|name| format!("publisher {name:?}"));
    assert_eq!((changes.applied, changes.restart), (expected.into(), Vec::new()));
    assert_eq!(reloaded.publishers.len(), 3);
}

struct Reloading {
    dir: TempDir,
    reloader: Reloader,
    running: Running,
}

impl Reloading {
    fn begin(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("settled.toml");
        std::fs::write(&path, text).expect("written");
        let config = Config::load_with(Some(&path), &|_| None).expect("valid");
        let (running, (news, _)) = (Running::of(&config), mpsc::channel(1));
        let reloader = Reloader::new(config, running.clone(), Arc::new(Metrics::register(1)), news);
        Self { dir, reloader, running }
    }

    async fn reload(&mut self, text: &str) {
        std::fs::write(self.dir.path().join("settled.toml"), text).expect("written");
        self.reloader.reload().await;
    }
}

#[tokio::test]
async fn a_refused_reload_leaves_everything_as_it_was() {
    let good = "admin.liveness_timeout = '61s'\n";
    let mut reloading = Reloading::begin(good);
    let file = reloading.dir.path().join("empty");
    std::fs::write(&file, "").expect("written");
    let empty = file.display();
    for bad in [
        "admin.liveness_timeout = '62s'\nretry.max = 'soon'\n".to_owned(),
        "admin.liveness_timeout = '62s'\n[".to_owned(),
        format!("admin.liveness_timeout = '62s'\npostgres.tls_ca_file = '{empty}'\n"),
        format!("admin.liveness_timeout = '62s'\npostgres.password_file = '{empty}'\n"),
        "admin.liveness_timeout = '62s'\npostgres.password_file = '/nowhere'\n".to_owned(),
        format!("admin.liveness_timeout = '62s'\nbroker.tls_ca_file = '{empty}'\nbroker.uris = ['amqps://h']\n"),
        format!(
            "admin.liveness_timeout = '62s'\nbroker.uris = ['amqps://h']\n\
             broker.tls_cert_file = '{empty}'\nbroker.tls_key_file = '{empty}'\n"
        ),
    ] {
        reloading.reload(&bad).await;
        assert_eq!(*reloading.running.liveness_timeout.get(), Duration::from_secs(61), "{bad}");
    }
    reloading.reload("admin.liveness_timeout = '62s'\n").await;
    assert_eq!(*reloading.running.liveness_timeout.get(), Duration::from_secs(62));
}
