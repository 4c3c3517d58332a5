//! What can only be judged across keys. Each check names the keys it looks at; it is left out
//! when one of them was refused already, and reported at the first of them that somebody set.

use tokio_postgres::config::SslMode;

use super::Config;
use super::problem::Origin;
use super::read::{Reader, publisher_path};
use super::span::show;
use crate::intake::MAX_PREFETCH;

/// An impossible combination.
struct Finding {
    message: String,
    remedy: String,
}

/// A check: the keys it looks at, and what it finds.
type Check = (&'static [&'static str], fn(&Config) -> Option<Finding>);

const CHECKS: &[Check] = &[
    (&["broker.prefetch", "pipeline.max_batch", "pipeline.lanes"], prefetch_fills_the_lanes),
    (&["pipeline.lane_capacity", "pipeline.max_batch"], a_lane_holds_a_batch),
    (&["pipeline.workers", "pipeline.lanes"], a_lane_for_every_worker),
    (&["postgres.pool_size", "pipeline.max_transactions"], a_connection_for_every_transaction),
    (&["postgres.pool_size", "pipeline.workers"], a_connection_for_every_worker),
    (&["postgres.statement_timeout", "postgres.lock_timeout"], locks_give_up_first),
    (&["admin.liveness_timeout", "postgres.statement_timeout"], slow_is_not_dead),
    (&["retry.max", "retry.initial"], waits_grow),
    (&["broker.dead_letter_exchange", "broker.exchange"], dead_letters_do_not_come_back),
    (&["broker.dead_letter_exchange", "events.exchange"], events_are_not_dead_letters),
    (&["broker.dead_letter_queue", "broker.queue"], dead_letters_have_a_queue),
    (&["broker.tls_ca_file", "broker.uris"], broker_ca_is_used),
    (&["postgres.tls_ca_file", "postgres.url"], database_ca_is_used),
    (&["postgres.password_file", "postgres.url"], one_password),
];

/// Runs every check whose keys have been taken.
pub(super) fn run(config: &Config, reader: &mut Reader) {
    if reader.garbled {
        return;
    }
    publishers(config, reader);
    for (keys, check) in CHECKS {
        if keys.iter().any(|key| reader.refused.contains(*key)) {
            continue;
        }
        let Some(finding) = check(config) else { continue };
        let set = keys.iter().find(|key| reader.origins.contains_key(**key));
        let key = *set.unwrap_or(&keys[0]);
        let origin = reader.origins.get(key).cloned().unwrap_or(Origin::Default);
        // The report begins with the key: it need not be said twice.
        let message = finding.message.strip_prefix(&format!("{key} ")).unwrap_or(&finding.message).to_owned();
        reader.problem(origin, key, message, finding.remedy);
    }
}

/// Each publisher has a name of its own, and may do something.
fn publishers(config: &Config, reader: &mut Reader) {
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

/// A finding, unless `holds`.
fn unless(holds: bool, message: impl FnOnce() -> String, remedy: impl FnOnce() -> String) -> Option<Finding> {
    (!holds).then(|| Finding { message: message(), remedy: remedy() })
}

fn prefetch_fills_the_lanes(config: &Config) -> Option<Finding> {
    let (prefetch, lanes, batch) =
        (usize::from(config.broker.prefetch), config.pipeline.lanes, config.pipeline.max_batch);
    let needed = lanes * batch;
    let message = || {
        format!(
            "broker.prefetch is {prefetch}, expected at least pipeline.lanes x pipeline.max_batch, \
             {lanes} x {batch} = {needed}: with less the lanes never fill a batch"
        )
    };
    let lower = prefetch / lanes;
    let remedy = || match (needed <= usize::from(MAX_PREFETCH), lower) {
        (true, 0) => format!("raise broker.prefetch to {needed}, or lower pipeline.lanes"),
        (true, lower) => format!("raise broker.prefetch to {needed}, or lower pipeline.max_batch to {lower}"),
        (false, 0) => "lower pipeline.lanes".to_owned(),
        (false, lower) => format!(
            "lower pipeline.max_batch to {lower}, or pipeline.lanes; broker.prefetch cannot exceed {MAX_PREFETCH}"
        ),
    };
    unless(prefetch >= needed, message, remedy)
}

fn a_lane_holds_a_batch(config: &Config) -> Option<Finding> {
    let (capacity, batch) = (config.pipeline.lane_capacity, config.pipeline.max_batch);
    unless(
        capacity >= batch,
        || format!("pipeline.lane_capacity is {capacity}, expected at least pipeline.max_batch, {batch}"),
        || format!("raise pipeline.lane_capacity to {batch}, or lower pipeline.max_batch to {capacity}"),
    )
}

fn a_lane_for_every_worker(config: &Config) -> Option<Finding> {
    let (workers, lanes) = (config.pipeline.workers, config.pipeline.lanes);
    unless(
        workers <= lanes,
        || format!("pipeline.workers is {workers}, expected at most pipeline.lanes, {lanes}: the others would idle"),
        || format!("lower pipeline.workers to {lanes}, or raise pipeline.lanes to {workers}"),
    )
}

fn a_connection_for_every_transaction(config: &Config) -> Option<Finding> {
    let (pool, transactions) = (config.postgres.pool_size, config.pipeline.max_transactions);
    let needed = transactions + 2;
    unless(
        pool >= needed,
        || {
            format!(
                "postgres.pool_size is {pool}, expected at least pipeline.max_transactions + 2, {needed}: \
                 the relay and the probes need one each"
            )
        },
        || match pool.saturating_sub(2) {
            0 => format!("raise postgres.pool_size to {needed}"),
            fewer => format!("raise postgres.pool_size to {needed}, or lower pipeline.max_transactions to {fewer}"),
        },
    )
}

fn a_connection_for_every_worker(config: &Config) -> Option<Finding> {
    let (pool, workers) = (config.postgres.pool_size, config.pipeline.workers);
    unless(
        pool >= workers,
        || format!("postgres.pool_size is {pool}, expected at least pipeline.workers, {workers}"),
        || format!("raise postgres.pool_size to {workers}, or lower pipeline.workers to {pool}"),
    )
}

fn locks_give_up_first(config: &Config) -> Option<Finding> {
    let (statement, lock) = (config.postgres.statement_timeout, config.postgres.lock_timeout);
    unless(
        statement > lock,
        || {
            format!(
                "postgres.statement_timeout is \"{}\", expected more than postgres.lock_timeout, \"{}\": \
                 a lock that is not had would look like a slow statement",
                show(statement),
                show(lock)
            )
        },
        || "raise postgres.statement_timeout or lower postgres.lock_timeout".to_owned(),
    )
}

fn slow_is_not_dead(config: &Config) -> Option<Finding> {
    let (liveness, statement) = (config.admin.liveness_timeout, config.postgres.statement_timeout);
    unless(
        liveness > statement,
        || {
            format!(
                "admin.liveness_timeout is \"{}\", expected more than postgres.statement_timeout, \"{}\": \
                 a daemon that waits for the database would be taken for dead",
                show(liveness),
                show(statement)
            )
        },
        || "raise admin.liveness_timeout or lower postgres.statement_timeout".to_owned(),
    )
}

fn waits_grow(config: &Config) -> Option<Finding> {
    let (initial, max) = (config.retry.initial, config.retry.max);
    unless(
        max >= initial,
        || format!("retry.max is \"{}\", expected at least retry.initial, \"{}\"", show(max), show(initial)),
        || "raise retry.max or lower retry.initial".to_owned(),
    )
}

/// Two names that must differ.
fn differ(one: (&str, &str), other: (&str, &str), because: &str) -> Option<Finding> {
    unless(
        one.1 != other.1,
        || format!("{} is \"{}\", expected another name than {}: {because}", one.0, one.1, other.0),
        || format!("give {} a name of its own", one.0),
    )
}

fn dead_letters_do_not_come_back(config: &Config) -> Option<Finding> {
    let broker = &config.broker;
    let (dead, tasks) = (&broker.dead_letter_exchange, &broker.exchange);
    let because = "what the broker gave up on would come back for ever";
    differ(("broker.dead_letter_exchange", dead), ("broker.exchange", tasks), because)
}

fn events_are_not_dead_letters(config: &Config) -> Option<Finding> {
    let (dead, events) = (&config.broker.dead_letter_exchange, &config.events.exchange);
    let because = "the dead letters would fill with events";
    differ(("broker.dead_letter_exchange", dead), ("events.exchange", events), because)
}

fn dead_letters_have_a_queue(config: &Config) -> Option<Finding> {
    let (dead, tasks) = (&config.broker.dead_letter_queue, &config.broker.queue);
    let because = "what the broker gave up on would come back for ever";
    differ(("broker.dead_letter_queue", dead), ("broker.queue", tasks), because)
}

fn broker_ca_is_used(config: &Config) -> Option<Finding> {
    let used = config.broker.tls_ca_file.is_none() || config.broker.uris.iter().any(|uri| uri.is_tls());
    unless(
        used,
        || "broker.tls_ca_file is set, expected a URI with amqps:// in broker.uris: none is encrypted".to_owned(),
        || "write amqps:// in broker.uris, or delete broker.tls_ca_file".to_owned(),
    )
}

fn database_ca_is_used(config: &Config) -> Option<Finding> {
    let disabled = config.postgres.url.parts().get_ssl_mode() == SslMode::Disable;
    unless(
        config.postgres.tls_ca_file.is_none() || !disabled,
        || "postgres.tls_ca_file is set, expected no sslmode=disable in postgres.url".to_owned(),
        || "take sslmode=disable out of postgres.url, or delete postgres.tls_ca_file".to_owned(),
    )
}

fn one_password(config: &Config) -> Option<Finding> {
    let both = config.postgres.password_file.is_some() && config.postgres.url.parts().get_password().is_some();
    unless(
        !both,
        || "postgres.password_file is set, expected no password in postgres.url: there are two".to_owned(),
        || "take the password out of postgres.url, or delete postgres.password_file".to_owned(),
    )
}
