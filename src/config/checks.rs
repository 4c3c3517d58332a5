//! Checks across keys. Each names the keys it reads; it is skipped if one of their values was refused, and reported at
//! the first of them that is set.

use settled_amqp::MAX_PREFETCH;
use tokio_postgres::config::SslMode;

use super::Config;
use super::problem::Origin;
use super::read::{Reader, publisher_path};
use super::span::show;
use super::stream_checks::{
    a_stream_has_single_events, partitions_are_no_queues, partitions_are_of_a_stream, stream_holds_a_segment,
    stream_keeps_events, super_stream_has_an_exchange,
};

/// A contradiction between keys.
pub(super) struct Finding {
    message: String,
    remedy: String,
}

/// The keys a check reads, and the check: `None` if they are consistent.
type Check = (&'static [&'static str], fn(&Config) -> Option<Finding>);

const CHECKS: &[Check] = &[
    (&["broker.prefetch", "pipeline.max_batch", "pipeline.lanes"], prefetch_fills_the_lanes),
    (&["pipeline.lane_capacity", "pipeline.max_batch"], lane_holds_a_batch),
    (&["pipeline.workers", "pipeline.lanes"], lane_for_every_worker),
    (&["postgres.pool_size", "pipeline.max_transactions"], connection_for_every_transaction),
    (&["postgres.pool_size", "pipeline.workers"], connection_for_every_worker),
    (&["postgres.statement_timeout", "postgres.lock_timeout"], lock_timeout_is_shorter),
    (&["admin.liveness_timeout", "postgres.statement_timeout"], statement_timeout_is_shorter),
    (&["retry.max", "retry.initial"], retry_delay_grows),
    (&["broker.dead_letter_exchange", "broker.exchange"], |config| {
        let broker = &config.broker;
        let (dead, tasks) = (&broker.dead_letter_exchange, &broker.exchange);
        differ(("broker.dead_letter_exchange", dead), ("broker.exchange", tasks), LOOP)
    }),
    (&["broker.dead_letter_exchange", "events.exchange"], |config| {
        let (dead, events) = (&config.broker.dead_letter_exchange, &config.events.exchange);
        let because = "the dead letters would fill with events";
        differ(("broker.dead_letter_exchange", dead), ("events.exchange", events), because)
    }),
    (&["broker.dead_letter_queue", "broker.queue"], |config| {
        let (dead, tasks) = (&config.broker.dead_letter_queue, &config.broker.queue);
        differ(("broker.dead_letter_queue", dead), ("broker.queue", tasks), LOOP)
    }),
    (&["stream.name", "broker.queue"], |config| {
        differ(("stream.name", &config.stream.name), ("broker.queue", &config.broker.queue), IS_A_QUEUE)
    }),
    (&["stream.name", "broker.dead_letter_queue"], |config| {
        let (stream, dead) = (&config.stream.name, &config.broker.dead_letter_queue);
        differ(("stream.name", stream), ("broker.dead_letter_queue", dead), IS_A_QUEUE)
    }),
    (&["stream.max_age"], stream_keeps_events),
    (&["stream.max_length_bytes", "stream.segment_bytes"], stream_holds_a_segment),
    (&["events.format", "events.transport"], a_stream_has_single_events),
    (&["events.partitions", "events.transport"], partitions_are_of_a_stream),
    (&["broker.queue", "broker.dead_letter_queue", "stream.name", "events.partitions"], partitions_are_no_queues),
    (
        &["stream.name", "events.partitions", "events.exchange", "broker.exchange", "broker.dead_letter_exchange"],
        super_stream_has_an_exchange,
    ),
    (&["broker.tls_ca_file", "broker.uris"], |config| {
        broker_file_is_used("broker.tls_ca_file", config.broker.tls_ca_file.is_some(), config)
    }),
    (&["broker.tls_cert_file", "broker.uris"], |config| {
        broker_file_is_used("broker.tls_cert_file", config.broker.tls_cert_file.is_some(), config)
    }),
    (&["broker.tls_cert_file", "broker.tls_key_file"], |config| {
        let broker = &config.broker;
        both_or_none("broker", broker.tls_cert_file.is_some(), broker.tls_key_file.is_some())
    }),
    (&["broker.uris", "broker.tls_cert_file"], external_has_a_certificate),
    (&["broker.password_file", "broker.uris"], one_password_of_the_broker),
    (&["postgres.tls_ca_file", "postgres.url"], |config| {
        database_file_is_used("postgres.tls_ca_file", config.postgres.tls_ca_file.is_some(), config)
    }),
    (&["postgres.tls_cert_file", "postgres.url"], |config| {
        database_file_is_used("postgres.tls_cert_file", config.postgres.tls_cert_file.is_some(), config)
    }),
    (&["postgres.tls_cert_file", "postgres.tls_key_file"], |config| {
        let postgres = &config.postgres;
        both_or_none("postgres", postgres.tls_cert_file.is_some(), postgres.tls_key_file.is_some())
    }),
    (&["postgres.password_file", "postgres.url"], one_password),
];

const IS_A_QUEUE: &str = "that one is a queue, and events are appended to a stream";
const LOOP: &str = "what the broker gave up on would come back for ever";

/// Runs every check whose keys have valid values.
pub(super) fn run(config: &Config, reader: &mut Reader) {
    if reader.not_toml {
        return;
    }
    check_publishers(config, reader);
    for (keys, check) in CHECKS {
        if keys.iter().any(|key| reader.refused.contains(*key)) {
            continue;
        }
        let Some(finding) = check(config) else { continue };
        let set = keys.iter().find(|key| reader.origins.contains_key(**key));
        let key = *set.unwrap_or(&keys[0]);
        let origin = reader.origins.get(key).cloned().unwrap_or(Origin::Default);
        // The report begins with the key already.
        let message = finding.message.strip_prefix(&format!("{key} ")).unwrap_or(&finding.message).to_owned();
        reader.problem(origin, key, message, finding.remedy);
    }
}

/// Checks that each publisher has a unique name and at least one task type.
fn check_publishers(config: &Config, reader: &mut Reader) {
    for (place, publisher) in config.publishers.iter().enumerate() {
        let path = publisher_path(place);
        let mut report = |key: &str, message: String, remedy: &str| {
            let key = format!("{path}.{key}");
            if !reader.refused.contains(&key) {
                let origin = reader.origins.get(&key).or_else(|| reader.origins.get(&path)).cloned();
                reader.problem(origin.unwrap_or(Origin::Default), &key, message, remedy.to_owned());
            }
        };
        if publisher.name.is_empty() {
            report("name", "missing, expected the name of a user of the broker".to_owned(), "write name = \"…\"");
        } else if config.publishers[..place].iter().any(|other| other.name == publisher.name) {
            let found = format!("found \"{}\" a second time, expected each publisher once", publisher.name);
            report("name", found, "merge the two, or delete one");
        }
        if publisher.types.is_empty() {
            let missing = "missing, expected a list of types of tasks: without it the publisher may do nothing";
            report("types", missing.to_owned(), "write types = [\"transfer\"], or types = [\"*\"] for all of them");
        }
    }
}

/// Returns a finding unless `holds`.
pub(super) fn unless(holds: bool, message: String, remedy: impl Into<String>) -> Option<Finding> {
    (!holds).then(|| Finding { message, remedy: remedy.into() })
}

fn prefetch_fills_the_lanes(config: &Config) -> Option<Finding> {
    let (prefetch, lanes, batch) =
        (usize::from(config.broker.prefetch), config.pipeline.lanes, config.pipeline.max_batch);
    let needed = lanes * batch;
    let message = format!(
        "broker.prefetch is {prefetch}, expected at least pipeline.lanes x pipeline.max_batch, \
         {lanes} x {batch} = {needed}: with less the lanes never fill a batch"
    );
    let lower = prefetch / lanes;
    let remedy = match (needed <= usize::from(MAX_PREFETCH), lower) {
        (true, 0) => format!("raise broker.prefetch to {needed}, or lower pipeline.lanes"),
        (true, lower) => format!("raise broker.prefetch to {needed}, or lower pipeline.max_batch to {lower}"),
        (false, 0) => "lower pipeline.lanes".to_owned(),
        (false, lower) => format!(
            "lower pipeline.max_batch to {lower}, or pipeline.lanes; broker.prefetch cannot exceed {MAX_PREFETCH}"
        ),
    };
    unless(prefetch >= needed, message, remedy)
}

fn lane_holds_a_batch(config: &Config) -> Option<Finding> {
    let (capacity, batch) = (config.pipeline.lane_capacity, config.pipeline.max_batch);
    unless(
        capacity >= batch,
        format!("pipeline.lane_capacity is {capacity}, expected at least pipeline.max_batch, {batch}"),
        format!("raise pipeline.lane_capacity to {batch}, or lower pipeline.max_batch to {capacity}"),
    )
}

fn lane_for_every_worker(config: &Config) -> Option<Finding> {
    let (workers, lanes) = (config.pipeline.workers, config.pipeline.lanes);
    unless(
        workers <= lanes,
        format!("pipeline.workers is {workers}, expected at most pipeline.lanes, {lanes}: the others would idle"),
        format!("lower pipeline.workers to {lanes}, or raise pipeline.lanes to {workers}"),
    )
}

fn connection_for_every_transaction(config: &Config) -> Option<Finding> {
    let (pool, transactions) = (config.postgres.pool_size, config.pipeline.max_transactions);
    let needed = transactions + 2;
    let message = format!(
        "postgres.pool_size is {pool}, expected at least pipeline.max_transactions + 2, {needed}: \
         the relay and the probes need one each"
    );
    let remedy = match pool.saturating_sub(2) {
        0 => format!("raise postgres.pool_size to {needed}"),
        fewer => format!("raise postgres.pool_size to {needed}, or lower pipeline.max_transactions to {fewer}"),
    };
    unless(pool >= needed, message, remedy)
}

fn connection_for_every_worker(config: &Config) -> Option<Finding> {
    let (pool, workers) = (config.postgres.pool_size, config.pipeline.workers);
    unless(
        pool >= workers,
        format!("postgres.pool_size is {pool}, expected at least pipeline.workers, {workers}"),
        format!("raise postgres.pool_size to {workers}, or lower pipeline.workers to {pool}"),
    )
}

fn lock_timeout_is_shorter(config: &Config) -> Option<Finding> {
    let (statement, lock) = (config.postgres.statement_timeout, config.postgres.lock_timeout);
    let message = format!(
        "postgres.statement_timeout is \"{}\", expected more than postgres.lock_timeout, \"{}\": \
         a lock that is not had would look like a slow statement",
        show(statement),
        show(lock)
    );
    unless(statement > lock, message, "raise postgres.statement_timeout or lower postgres.lock_timeout")
}

fn statement_timeout_is_shorter(config: &Config) -> Option<Finding> {
    let (liveness, statement) = (config.admin.liveness_timeout, config.postgres.statement_timeout);
    let message = format!(
        "admin.liveness_timeout is \"{}\", expected more than postgres.statement_timeout, \"{}\": \
         a daemon that waits for the database would be taken for dead",
        show(liveness),
        show(statement)
    );
    unless(liveness > statement, message, "raise admin.liveness_timeout or lower postgres.statement_timeout")
}

fn retry_delay_grows(config: &Config) -> Option<Finding> {
    let (initial, max) = (config.retry.initial, config.retry.max);
    let message = format!("retry.max is \"{}\", expected at least retry.initial, \"{}\"", show(max), show(initial));
    unless(max >= initial, message, "raise retry.max or lower retry.initial")
}

/// Checks that two names differ.
pub(super) fn differ(one: (&str, &str), other: (&str, &str), because: &str) -> Option<Finding> {
    unless(
        one.1 != other.1,
        format!("{} is \"{}\", expected another name than {}: {because}", one.0, one.1, other.0),
        format!("give {} a name of its own", one.0),
    )
}

fn broker_file_is_used(key: &str, is_set: bool, config: &Config) -> Option<Finding> {
    unless(
        !is_set || config.broker.uris.iter().any(|uri| uri.is_tls()),
        format!("{key} is set, expected a URI with amqps:// in broker.uris: none is encrypted"),
        format!("write amqps:// in broker.uris, or delete {key}"),
    )
}

fn database_file_is_used(key: &str, is_set: bool, config: &Config) -> Option<Finding> {
    let disabled = config.postgres.url.parts().get_ssl_mode() == SslMode::Disable;
    unless(
        !is_set || !disabled,
        format!("{key} is set, expected no sslmode=disable in postgres.url"),
        format!("take sslmode=disable out of postgres.url, or delete {key}"),
    )
}

/// Checks that a client's certificate comes with its key.
fn both_or_none(section: &str, certificate: bool, key: bool) -> Option<Finding> {
    let (set, missing) =
        if certificate { ("tls_cert_file", "tls_key_file") } else { ("tls_key_file", "tls_cert_file") };
    unless(
        certificate == key,
        format!("{section}.{set} is set, expected {section}.{missing}, too"),
        format!("set {section}.{missing}, or delete {section}.{set}"),
    )
}

fn external_has_a_certificate(config: &Config) -> Option<Finding> {
    unless(
        config.broker.tls_cert_file.is_some() || !config.broker.uris.iter().any(|uri| uri.is_external()),
        "broker.uris has auth_mechanism=external, expected broker.tls_cert_file: the user is the one of the certificate"
            .to_owned(),
        "set broker.tls_cert_file and broker.tls_key_file, or take auth_mechanism=external out",
    )
}

/// Checks that there is one password for each URI, and that the one in the file is for any.
fn one_password_of_the_broker(config: &Config) -> Option<Finding> {
    let uris = &config.broker.uris;
    config.broker.password_file.as_ref()?;
    if uris.iter().any(|uri| uri.has_password()) {
        let message = "broker.password_file is set, expected no password in broker.uris: there are two".to_owned();
        return unless(false, message, "take the passwords out of broker.uris, or delete broker.password_file");
    }
    unless(
        !uris.iter().all(|uri| uri.is_external()),
        "broker.password_file is set, expected a URI without auth_mechanism=external, which needs no password"
            .to_owned(),
        "delete broker.password_file",
    )
}

fn one_password(config: &Config) -> Option<Finding> {
    unless(
        config.postgres.password_file.is_none() || config.postgres.url.parts().get_password().is_none(),
        "postgres.password_file is set, expected no password in postgres.url: there are two".to_owned(),
        "take the password out of postgres.url, or delete postgres.password_file",
    )
}
