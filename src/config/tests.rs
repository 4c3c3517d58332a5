use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::*;

const NO_ENV: &[(&str, &str)] = &[];

fn compose(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let lookup = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    Config::compose(Some((Path::new("settled.toml"), text)), &lookup)
}

/// Returns what `settled check` prints for a broken file.
fn refused(text: &str) -> String {
    let error = compose(text, NO_ENV).expect_err("a broken configuration");
    for problem in error.problems() {
        assert!(!problem.remedy.is_empty(), "no remedy: {problem}");
        assert!(!problem.message.contains("geheim"), "a password leaks: {problem}");
    }
    error.to_string()
}

macro_rules! refuses {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::with_settings!({ prepend_module_to_snapshot => false, description => $text, omit_expression => true }, {
                insta::assert_snapshot!(stringify!($name), refused($text));
            });
        }
    )*};
}

refuses! {
    unknown_key: "[broker]\nprefech = 100\n";
    unknown_key_without_a_likeness: "[admin]\ncolour = \"red\"\n";
    misspelled_section: "[pipelines]\nlanes = 2\n\n[weather]\n";
    key_outside_its_section: "prefetch = 100\nsun = 1\n";
    section_as_a_value: "broker = 5\n";
    wrong_types: "[broker]\nprefetch = \"2000\"\nexchange = 5\nuris = \"amqp://localhost\"\ndeclare = \"true\"\nheartbeat = 10\n\n[pipeline]\nlanes = 2.0\nworkers = \"many\"\n";
    bad_durations: "[pipeline]\ndrain_timeout = \"10\"\n\n[retry]\ninitial = \"10 ms\"\nmax = \"1.5s\"\n";
    out_of_range: "[broker]\nprefetch = 5000\n\n[pipeline]\nlanes = 0\nworkers = -1\naccount_cache = 99999999999999999999\ndrain_timeout = \"2h\"\n\n[events]\nlease = \"10ms\"\n\n[retry]\njitter = 1.5\nmultiplier = nan\n";
    bad_choice: "[events]\nformat = \"batched\"\nunroutable = \"hodl\"\n\n[log]\nlevel = \"inof\"\n";
    bad_names: "[broker]\nexchange = \"amq.topic\"\nqueue = \"\"\n\n[events]\nsource = \"my bank\"\n";
    bad_broker_uri: "[broker]\nuris = [\n  \"amqp://u:geheim@localhost:5672/\",\n]\n";
    second_broker_uri_is_bad: "[broker]\nuris = [\n  \"amqp://localhost\",\n  \"rabbit://u:geheim@localhost\",\n]\n";
    no_broker_uri: "[broker]\nuris = []\n";
    bad_postgres_url: "[postgres]\nurl = \"postgresql://u:geheim@localhost/db?sslmode=verify-ca\"\n";
    unknown_parameters: "[broker]\nuris = [\"amqps://u:geheim@a?verify=verify_none\"]\n[postgres]\nurl = \"postgresql://u:geheim@h/db?sslcert=/x\"\n";
    certificate_without_a_key: "[broker]\ntls_cert_file = \"/c.pem\"\nuris = [\"amqps://h\"]\n[postgres]\ntls_key_file = \"/k.pem\"\n";
    user_in_no_certificate: "[broker]\nuris = [\"amqps://h?auth_mechanism=external\"]\n";
    two_passwords_of_the_broker: "[broker]\nuris = [\"amqp://u:geheim@h\"]\npassword_file = \"/pw\"\n";
    password_for_nobody: "[broker]\nuris = [\"amqps://h?auth_mechanism=external\"]\npassword_file = \"/pw\"\ntls_cert_file = \"/c.pem\"\ntls_key_file = \"/k.pem\"\n";
    bad_address: "[admin]\nlisten = \"localhost:9464\"\n";
    encrypted_collector: "[traces]\nendpoint = \"https://collector:4318\"\n";
    prefetch_too_small: "[broker]\nprefetch = 100\n";
    batch_too_large_for_any_prefetch: "[pipeline]\nlanes = 8\nmax_batch = 1000\n";
    pool_too_small: "[postgres]\npool_size = 5\n";
    pool_smaller_than_workers: "[broker]\nprefetch = 2000\n[postgres]\npool_size = 8\n[pipeline]\nlanes = 16\nworkers = 16\nmax_batch = 100\n";
    workers_above_lanes: "[pipeline]\nlanes = 2\nworkers = 4\n";
    lane_smaller_than_batch: "[pipeline]\nlane_capacity = 100\n";
    timeouts_in_the_wrong_order: "[postgres]\nlock_timeout = \"30s\"\n[admin]\nliveness_timeout = \"5s\"\n[retry]\ninitial = \"2s\"\n";
    dead_letters_that_come_back: "[broker]\ndead_letter_exchange = \"payments\"\ndead_letter_queue = \"payments.tasks\"\n";
    stream_that_is_a_queue: "[broker]\nqueue = \"events\"\n\n[stream]\nname = \"events\"\n";
    stream_that_keeps_nothing: "[stream]\nmax_age = \"0s\"\nmax_length_bytes = 0\n";
    partitions_of_an_exchange: "[events]\npartitions = 3\n";
    super_stream_without_an_exchange: "[events]\ntransport = \"stream\"\npartitions = 3\nexchange = \"told\"\n[stream]\nname = \"told\"\n";
    partition_that_is_a_queue: "[broker]\nqueue = \"told-2\"\n[events]\ntransport = \"stream\"\npartitions = 3\n[stream]\nname = \"told\"\n";
    partitions_beyond_what_is_sane: "[events]\ntransport = \"stream\"\npartitions = 65\n";
    stream_beyond_what_rabbitmq_takes: "[stream]\nport = 70000\nsegment_bytes = 4000000000\nname = \"amq.log\"\n";
    authorities_for_nothing: "[broker]\ntls_ca_file = \"/ca.pem\"\n[postgres]\ntls_ca_file = \"/ca.pem\"\nurl = \"postgresql://h/db?sslmode=disable\"\n";
    two_passwords: "[postgres]\nurl = \"postgresql://u:geheim@h/db\"\npassword_file = \"/pw\"\n";
    authority_that_is_none: "[authority]\nrouting_key = \"yes\"\nreplies = []\nverified = \"true\"\n\n[[publisher]]\nname = \"shop\"\ntypes = [\"transfer\", \"tranfser\"]\ndebit = [\"a b\"]\n\n[[publisher]]\ntype = [\"*\"]\n\n[[publisher]]\nname = \"shop\"\ntypes = [\"*\"]\naccounts = \"*\"\n";
    publisher_as_a_section: "[publisher]\nname = \"shop\"\n";
    syntax_error: "[broker]\nprefetch = \nqueue = \"payments\n\n[postgres\nurl = \"postgresql://u:geheim@h/db\"\n";
    duplicate_key: "[broker]\nprefetch = 2000\nqueue = \"a\"\nprefetch = 1900\n";
    duplicate_section: "[broker]\n[admin]\n[broker]\n";
    several_at_once: "[broker]\nprefetch = 100\nquue = \"a\"\n\n[postgres]\npool_size = \"8\"\nstatement_timout = \"1s\"\n\n[pipeline]\nworkers = 9\n";
}

#[test]
fn a_bad_environment_names_its_variable() {
    let env = [
        ("SETTLED_AMQP_URI", "amqp://a,http://u:geheim@b"),
        ("SETTLED_POSTGRES_URL", ""),
        ("SETTLED_ADMIN_LISTEN", "x"),
    ];
    let error = compose("", &env).unwrap_err().to_string();
    assert!(!error.contains("geheim"));
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("bad_environment", error);
    });
}

#[test]
fn the_environment_overrides_the_file_and_the_file_the_defaults() {
    let text = "[broker]\nuris = [\"amqp://file\"]\nqueue = \"mine\"\n\n[postgres]\nurl = \"postgresql://file/db\"\n";
    let env = [("SETTLED_AMQP_URI", "amqp://u:geheim@a, amqps://b"), ("SETTLED_ADMIN_LISTEN", "0.0.0.0:80")];
    let config = compose(text, &env).unwrap();
    assert_eq!(config.broker.uris.len(), 2);
    assert_eq!(config.admin.listen.port(), 80);
    let described = config.describe();
    let of = |key: &str| {
        let found = described.iter().find(|described| described.key == key).unwrap();
        (found.value.to_string(), found.origin.to_string())
    };
    assert_eq!(of("broker.uris"), (r#"["amqp://u:***@a","amqps://b"]"#.into(), "env SETTLED_AMQP_URI".into()));
    assert_eq!(of("broker.queue"), (r#""mine""#.into(), "settled.toml:3".into()));
    assert_eq!(of("postgres.url"), (r#""postgresql://file/db""#.into(), "settled.toml:6".into()));
    assert_eq!(of("pipeline.lanes"), ("1".into(), "default".into()));
    assert_eq!(of("postgres.password_file"), ("null".into(), "default".into()));
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn every_kind_of_value_is_taken() {
    let text = "[broker]\ndeclare = false\nprefetch = 0x7D0\n[retry]\nmultiplier = 3\njitter = 0.25\n\
        [events]\nformat = \"batch\"\nlease = \"1m\"\n[log]\nlevel = \"info,settled_store=debug\"\n\
        [postgres]\npassword_file = \"/run/pw\"\n[pipeline]\nmax_batch = 1_0\n";
    let config = compose(text, NO_ENV).unwrap();
    assert!(!config.broker.declare);
    assert_eq!((config.broker.prefetch, config.pipeline.max_batch), (2000, 10));
    assert_eq!((config.retry.multiplier, config.retry.jitter), (3.0, 0.25));
    assert_eq!(config.events.format, settled_pipeline::outbox::EventFormat::Batch);
    assert_eq!(config.events.lease, Duration::from_secs(60));
    assert_eq!(config.postgres.password_file.as_deref(), Some(Path::new("/run/pw")));
}

#[test]
fn the_defaults_obey_every_rule() {
    compose("", NO_ENV).unwrap();
    // Every default is also accepted if it is written in a file.
    let written = sample()
        .lines()
        // Recommended values are no defaults.
        .filter(|line| !line.contains(" = ") || line.starts_with('#'))
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    let without_files: Vec<&str> = written.lines().filter(|line| !line.contains("/path/to/file")).collect();
    let config = compose(&without_files.join("\n"), NO_ENV).unwrap();
    for (described, default) in config.describe().iter().zip(Config::default().describe()) {
        // A password is shown as three stars, so the sample's URI is not the default's.
        assert_eq!(described.value, default.value, "{}", described.key);
        let is_path = default.key.ends_with("_file") || default.key.ends_with("_socket");
        assert!(!is_path == matches!(described.origin, Origin::File(..)), "{}", described.key);
    }
}

#[test]
fn the_sample_in_the_package_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/settled.toml");
    if std::env::var_os("SETTLED_UPDATE_SAMPLE").is_some() {
        std::fs::write(&path, sample()).unwrap();
    }
    let installed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        installed == sample(),
        "systemd/settled.toml is not what the key table says; SETTLED_UPDATE_SAMPLE=1 rewrites it"
    );
}

#[test]
fn the_sample_is_valid_as_it_is() {
    let config = compose(&sample(), NO_ENV).unwrap();
    let set: Vec<_> = config.describe().into_iter().filter(|described| described.origin != Origin::Default).collect();
    let keys: Vec<&str> = set.iter().map(|described| described.key.as_str()).collect();
    assert_eq!(keys, ["authority.routing_key", "authority.replies"], "stricter than the default");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load_with(Some(Path::new("/nowhere/settled.toml")), &|_| None).unwrap_err();
    assert!(error.to_string().contains("/nowhere/settled.toml"));
    assert_eq!(error.problems().len(), 1);
}

#[test]
fn files_that_cannot_be_read_are_found_by_check_only() {
    let config = compose("[postgres]\n\npassword_file = \"/nowhere\"\n", NO_ENV).unwrap();
    let problems = config.check_files().unwrap_err().problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        (problems[0].key.as_str(), problems[0].origin.to_string()),
        ("postgres.password_file", "settled.toml:3".into())
    );
}
