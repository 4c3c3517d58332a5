//! The targets that a configuration may name in `log.level`, as they were before the daemon was cut into crates.

/// A target as it was, and those that log the same now. What is longer in `log.level` keeps its end:
/// `settled::store::driver` is `settled_store::driver`.
const MOVED: [(&str, &[&str]); 20] = [
    ("settled::agenda", &["settled_pipeline::scheduler"]),
    ("settled::broker", &["settled_amqp::connection", "settled_amqp::headers", "settled_amqp::inbound"]),
    ("settled::broker::headers", &["settled_amqp::headers"]),
    ("settled::broker::inbound", &["settled_amqp::inbound"]),
    ("settled::contract", &["settled_core::contract"]),
    ("settled::daemon", &["settled::daemon", "settled_pipeline::machine"]),
    ("settled::disposition", &["settled_pipeline::disposition"]),
    ("settled::health", &["settled_pipeline::health"]),
    (
        "settled::intake",
        &[
            "settled_pipeline::intake",
            "settled_pipeline::admission",
            "settled_amqp::source",
            "settled_amqp::dead_queue",
        ],
    ),
    ("settled::intake::dead_queue", &["settled_amqp::dead_queue"]),
    ("settled::intake::rabbitmq", &["settled_amqp::source"]),
    ("settled::lanes", &["settled_pipeline::lanes"]),
    ("settled::ledger", &["settled_core::ledger"]),
    ("settled::lifecycle", &["settled::lifecycle", "settled_pipeline::shutdown"]),
    ("settled::outbox", &["settled_pipeline::outbox", "settled_amqp::sink"]),
    ("settled::outbox::keeper", &["settled_pipeline::outbox::sweeper"]),
    ("settled::outbox::rabbitmq", &["settled_amqp::sink"]),
    ("settled::retry", &["settled_pipeline::retry"]),
    ("settled::store", &["settled_store"]),
    ("settled::worker", &["settled_pipeline::worker", "settled_pipeline::committer"]),
];

/// Returns `directives` with the targets of today.
///
/// Where two old targets have become one, the directive that named the longer one comes last and wins, as it did.
pub(super) fn of_today(directives: &[&str]) -> Vec<String> {
    let target = |directive: &str| directive.find(['=', '[']).unwrap_or(directive.len());
    let mut sorted = directives.to_vec();
    sorted.sort_by_key(|directive| target(directive));
    let of_one = |directive: &str| {
        let moved = MOVED.iter().filter_map(|(old, new)| Some((old.len(), *new, directive.strip_prefix(old)?)));
        let moved = moved.filter(|(_, _, rest)| rest.starts_with(['=', '[']) || rest.starts_with("::"));
        match moved.max_by_key(|&(length, _, _)| length) {
            Some((_, new, rest)) => new.iter().map(|target| format!("{target}{rest}")).collect(),
            None => vec![directive.to_owned()],
        }
    };
    sorted.into_iter().flat_map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_of_before_are_those_that_log_the_same() {
        for (before, today) in [
            ("settled::store=debug", "settled_store=debug"),
            ("settled::store::driver=debug", "settled_store::driver=debug"),
            ("settled::stores=debug", "settled::stores=debug"),
            ("settled::agenda[{id}]=trace", "settled_pipeline::scheduler[{id}]=trace"),
            ("settled::worker=debug", "settled_pipeline::worker=debug,settled_pipeline::committer=debug"),
            ("settled::outbox=off", "settled_pipeline::outbox=off,settled_amqp::sink=off"),
            ("settled::outbox::keeper=warn", "settled_pipeline::outbox::sweeper=warn"),
            ("settled::outbox::relay=warn", "settled_pipeline::outbox::relay=warn,settled_amqp::sink::relay=warn"),
            ("settled::ledger=trace", "settled_core::ledger=trace"),
            ("settled=debug", "settled=debug"),
            ("settled_store=debug", "settled_store=debug"),
            ("lapin=info", "lapin=info"),
        ] {
            assert_eq!(of_today(&[before]).join(","), today, "{before}");
        }
    }

    #[test]
    fn the_longer_target_of_before_comes_last() {
        let expected = "settled_pipeline::outbox=debug,settled_amqp::sink=debug,settled_amqp::sink=error";
        for order in [
            ["settled::outbox::rabbitmq=error", "settled::outbox=debug"],
            ["settled::outbox=debug", "settled::outbox::rabbitmq=error"],
        ] {
            assert_eq!(of_today(&order).join(","), expected);
        }
    }
}
