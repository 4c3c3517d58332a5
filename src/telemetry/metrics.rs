//! Every metric of the daemon: its name, what it means, and a cached handle.
//!
//! Base units (seconds, bytes) and names as Prometheus asks for them. A handle costs one atomic
//! operation to use. Gauges of things that can be looked at (a queue's length) are set on scrape,
//! by a closure given to [`Exporter::on_scrape`](super::exporter::Exporter::on_scrape).

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use super::labels::{AckKind, Connection, Dependency, Outcome, RefusalReason, RetryKind, UnroutableAction};
use crate::contract::{DeadReason, EventKind, Properties, TaskType};

/// What Prometheus is told about a metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The name, as it is scraped.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it means, for people.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// Declares the names and, in the same breath, what they mean.
macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:ident, $unit:ident, $help:literal;)+) => {
        $(const $const: &str = $name;)+

        /// Every metric there is.
        pub const ALL: &[Description] =
            &[$(Description { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help }),+];
    };
}

metrics! {
    TASKS_RECEIVED = "settled_tasks_received_total", Counter, Count, "Deliveries taken from the task queue, redeliveries included.";
    OUTCOMES = "settled_outcomes_total", Counter, Count, "What committed deliveries came to, by type, outcome and reason.";
    BATCH_SIZE = "settled_batch_size", Histogram, Count, "Tasks per transaction.";
    LANE_DEPTH = "settled_lane_depth", Gauge, Count, "Tasks waiting in a lane.";
    TASKS_IN_FLIGHT = "settled_tasks_in_flight", Gauge, Count, "Deliveries taken and not yet settled.";
    TASKS_MEMORY = "settled_tasks_memory_bytes", Gauge, Bytes, "Memory of deliveries that are not settled; nothing is read from the broker while it is at `broker.prefetch_bytes`.";
    TASKS_SET_ASIDE = "settled_tasks_set_aside", Gauge, Count, "Tasks whose decline waits for an earlier task of another lane.";
    ACK_LAG = "settled_ack_lag", Gauge, Count, "Deliveries that are settled and not yet acknowledged.";
    ACKS = "settled_acks_total", Counter, Count, "Acknowledgements sent, by kind: one multiple covers many deliveries.";
    TRANSACTION_SECONDS = "settled_transaction_seconds", Histogram, Seconds, "From the BEGIN of a batch to the answer to its COMMIT.";
    PUBLISH_TO_COMMIT_SECONDS = "settled_publish_to_commit_seconds", Histogram, Seconds, "From a task's AMQP timestamp (whole seconds, the publisher's clock) or its UUIDv7 to its commit.";
    RECEIVE_TO_COMMIT_SECONDS = "settled_receive_to_commit_seconds", Histogram, Seconds, "From taking a task to its commit.";
    RETRIES = "settled_retries_total", Counter, Count, "Batches run again, by cause.";
    BISECTIONS = "settled_bisections_total", Counter, Count, "Batches split to find the task that PostgreSQL refuses.";
    UNKNOWN_COMMITS = "settled_unknown_commits_total", Counter, Count, "Commits without an answer, whose outcome was looked up.";
    OUTBOX_DEPTH = "settled_outbox_depth", Gauge, Count, "Events in the outbox: committed and not yet confirmed by the broker.";
    OUTBOX_ROWS = "settled_outbox_rows", Gauge, Count, "Rows of the outbox; one holds the events of one batch.";
    OUTBOX_HELD = "settled_outbox_held", Gauge, Count, "Events in the outbox that are held: no queue takes them, or the broker refuses them.";
    OUTBOX_REFUSED = "settled_outbox_refused", Gauge, Count, "Events in the outbox that are held because the broker refuses them: `settled outbox list` has the reasons.";
    OUTBOX_OLDEST_SECONDS = "settled_outbox_oldest_seconds", Gauge, Seconds, "Age of the oldest outbox row that is not held; 0 when there is none.";
    EVENTS_PUBLISHED = "settled_events_published_total", Counter, Count, "Events confirmed by the broker, by type.";
    EVENTS_UNROUTABLE = "settled_events_unroutable_total", Counter, Count, "Events that no queue took, by what was done with them.";
    EVENTS_REFUSED = "settled_events_refused_total", Counter, Count, "Events that the broker refused by closing the channel, by reason; each attempt counts. They are held.";
    EVENT_CONFIRM_SECONDS = "settled_event_confirm_seconds", Histogram, Seconds, "From publishing a message of events to the broker's confirm.";
    DEAD_LETTERS = "settled_dead_letters_total", Counter, Count, "Messages committed as dead letters, by reason.";
    FORBIDDEN = "settled_forbidden_total", Counter, Count, "Tasks that their publisher may not publish, by publisher: one of the settings' [[publisher]], or other.";
    DEAD_LETTERS_OPEN = "settled_dead_letters_open", Gauge, Count, "Dead letters that nobody has replayed or discarded.";
    DEAD_LETTER_QUEUE_DEPTH = "settled_dead_letter_queue_depth", Gauge, Count, "Messages in the broker's dead-letter queue that are not in the table dead_letter yet; NaN while that isn't known.";
    RECONNECTS = "settled_reconnects_total", Counter, Count, "Connections to the broker made again, by connection.";
    DEPENDENCY_UP = "settled_dependency_up", Gauge, Count, "1 while a dependency answers, 0 while it does not.";
    PAUSED = "settled_paused", Gauge, Count, "1 while intake is paused because nothing can be committed.";
    BROKER_BLOCKED = "settled_broker_blocked", Gauge, Count, "1 while the broker blocks publishing (memory or disk alarm).";
    SCHEDULED = "settled_scheduled", Gauge, Count, "Tasks that wait for their execute_at.";
    SCHEDULED_OLDEST_SECONDS = "settled_scheduled_oldest_seconds", Gauge, Seconds, "Time since the oldest scheduled task was taken; 0 when there is none.";
    PARKED = "settled_parked", Gauge, Count, "Tasks that wait for the payment they act on, or for the task they come after.";
    PARKED_OLDEST_SECONDS = "settled_parked_oldest_seconds", Gauge, Seconds, "Time since the oldest parked task was taken; 0 when there is none.";
    HOLDS = "settled_holds", Gauge, Count, "Holds: one for each leg of an authorization that is not captured in full.";
    HOLDS_EXPIRING = "settled_holds_expiring", Gauge, Count, "Holds that run out within an hour.";
    HELD_AMOUNT = "settled_held_amount", Gauge, Count, "What is held, in minor units of the currency.";
    HOLDS_EXPIRED = "settled_holds_expired_total", Counter, Count, "Payments whose hold ran out.";
    SHORTFALLS = "settled_shortfalls_total", Counter, Count, "Chargebacks and reversals that left an account below its limit.";
    BUILD_INFO = "settled_build_info", Gauge, Count, "1, with the version as its label.";
    PROCESS_START_TIME = "process_start_time_seconds", Gauge, Seconds, "When the process started, as Unix time.";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, Seconds, "CPU time used, user and system, in whole seconds.";
    PROCESS_RSS = "process_resident_memory_bytes", Gauge, Bytes, "Resident memory.";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge, Count, "Open file descriptors.";
    PROCESS_THREADS = "process_threads", Gauge, Count, "Threads.";
}

/// The name of the one histogram that doesn't observe seconds.
pub(super) const BATCH_SIZE_NAME: &str = BATCH_SIZE;

/// Handles to every metric. Made once, after the recorder is installed, and shared.
///
/// Without a recorder (in a unit test) every handle does nothing.
pub struct Metrics {
    /// Deliveries taken.
    pub tasks_received: Counter,
    /// Tasks per transaction.
    pub batch_size: Histogram,
    /// Deliveries taken and not settled.
    pub tasks_in_flight: Gauge,
    /// Memory of what is taken and not settled.
    pub tasks_memory: Gauge,
    /// Tasks that wait for an earlier one of another lane.
    pub tasks_set_aside: Gauge,
    /// Deliveries settled and not acknowledged.
    pub ack_lag: Gauge,
    /// Seconds from BEGIN to the answer to COMMIT.
    pub transaction_seconds: Histogram,
    /// Seconds from publishing to commit. Never negative: see [`observe`].
    pub publish_to_commit_seconds: Histogram,
    /// Seconds from intake to commit.
    pub receive_to_commit_seconds: Histogram,
    /// Batches split.
    pub bisections: Counter,
    /// Commits without an answer.
    pub unknown_commits: Counter,
    /// Events in the outbox.
    pub outbox_depth: Gauge,
    /// Rows of the outbox.
    pub outbox_rows: Gauge,
    /// Events in the outbox that no queue takes, or the broker refuses.
    pub outbox_held: Gauge,
    /// Events in the outbox that the broker refuses.
    pub outbox_refused: Gauge,
    /// Seconds since the oldest row that is not held was written.
    pub outbox_oldest_seconds: Gauge,
    /// Seconds from publish to confirm.
    pub event_confirm_seconds: Histogram,
    /// Unresolved dead letters.
    pub dead_letters_open: Gauge,
    /// What lies in the broker's dead-letter queue; NaN while that isn't known.
    pub dead_letter_queue_depth: Gauge,
    /// 1 while paused; set by [`Health`](crate::health::Health).
    pub paused: Gauge,
    /// 1 while the broker blocks publishing; set by [`Health`](crate::health::Health).
    pub broker_blocked: Gauge,
    /// Tasks that wait for their time.
    pub scheduled: Gauge,
    /// Seconds since the oldest of them was taken.
    pub scheduled_oldest_seconds: Gauge,
    /// Tasks that wait for another one.
    pub parked: Gauge,
    /// Seconds since the oldest of them was taken.
    pub parked_oldest_seconds: Gauge,
    /// Holds.
    pub holds: Gauge,
    /// Holds that run out within an hour.
    pub holds_expiring: Gauge,
    /// Payments whose hold ran out.
    pub holds_expired: Counter,
    /// Chargebacks below a limit.
    pub shortfalls: Counter,
    pub(super) process: ProcessMetrics,
    outcomes: Vec<Counter>,
    lane_depth: Vec<Gauge>,
    acks: Vec<Counter>,
    retries: Vec<Counter>,
    events_published: Vec<Counter>,
    events_unroutable: Vec<Counter>,
    events_refused: Vec<Counter>,
    dead_letters: Vec<Counter>,
    forbidden: Vec<(String, Counter)>,
    forbidden_other: Counter,
    verified: bool,
    reconnects: Vec<Counter>,
    dependency_up: Vec<Gauge>,
}

/// Handles to the metrics about the process itself.
pub(super) struct ProcessMetrics {
    pub(super) start_time: Gauge,
    pub(super) cpu: Counter,
    pub(super) rss: Gauge,
    pub(super) open_fds: Gauge,
    pub(super) threads: Gauge,
}

impl Metrics {
    /// Describes and registers every metric with the installed recorder, `lanes` of them with a depth.
    pub fn register(lanes: usize) -> Self {
        describe();
        gauge!(BUILD_INFO, "version" => crate::VERSION).set(1.0);
        Self {
            tasks_received: counter!(TASKS_RECEIVED),
            batch_size: histogram!(BATCH_SIZE),
            tasks_in_flight: gauge!(TASKS_IN_FLIGHT),
            tasks_memory: gauge!(TASKS_MEMORY),
            tasks_set_aside: gauge!(TASKS_SET_ASIDE),
            ack_lag: gauge!(ACK_LAG),
            transaction_seconds: histogram!(TRANSACTION_SECONDS),
            publish_to_commit_seconds: histogram!(PUBLISH_TO_COMMIT_SECONDS),
            receive_to_commit_seconds: histogram!(RECEIVE_TO_COMMIT_SECONDS),
            bisections: counter!(BISECTIONS),
            unknown_commits: counter!(UNKNOWN_COMMITS),
            outbox_depth: gauge!(OUTBOX_DEPTH),
            outbox_rows: gauge!(OUTBOX_ROWS),
            outbox_held: gauge!(OUTBOX_HELD),
            outbox_refused: gauge!(OUTBOX_REFUSED),
            outbox_oldest_seconds: gauge!(OUTBOX_OLDEST_SECONDS),
            event_confirm_seconds: histogram!(EVENT_CONFIRM_SECONDS),
            dead_letters_open: gauge!(DEAD_LETTERS_OPEN),
            dead_letter_queue_depth: unknown(gauge!(DEAD_LETTER_QUEUE_DEPTH)),
            paused: gauge!(PAUSED),
            broker_blocked: gauge!(BROKER_BLOCKED),
            scheduled: gauge!(SCHEDULED),
            scheduled_oldest_seconds: gauge!(SCHEDULED_OLDEST_SECONDS),
            parked: gauge!(PARKED),
            parked_oldest_seconds: gauge!(PARKED_OLDEST_SECONDS),
            holds: gauge!(HOLDS),
            holds_expiring: gauge!(HOLDS_EXPIRING),
            holds_expired: counter!(HOLDS_EXPIRED),
            shortfalls: counter!(SHORTFALLS),
            process: ProcessMetrics {
                start_time: gauge!(PROCESS_START_TIME),
                cpu: counter!(PROCESS_CPU),
                rss: gauge!(PROCESS_RSS),
                open_fds: gauge!(PROCESS_OPEN_FDS),
                threads: gauge!(PROCESS_THREADS),
            },
            outcomes: outcome_counters(),
            lane_depth: (0..lanes).map(|lane| gauge!(LANE_DEPTH, "lane" => lane.to_string())).collect(),
            acks: counters(ACKS, "kind", AckKind::ALL, AckKind::name),
            retries: counters(RETRIES, "kind", RetryKind::ALL, RetryKind::name),
            events_published: counters(EVENTS_PUBLISHED, "type", &EventKind::ALL, EventKind::name),
            events_unroutable: counters(EVENTS_UNROUTABLE, "action", UnroutableAction::ALL, UnroutableAction::name),
            events_refused: counters(EVENTS_REFUSED, "reason", RefusalReason::ALL, RefusalReason::name),
            dead_letters: counters(DEAD_LETTERS, "reason", &DeadReason::ALL, DeadReason::name),
            forbidden: Vec::new(),
            forbidden_other: counter!(FORBIDDEN, "publisher" => "other"),
            verified: false,
            reconnects: counters(RECONNECTS, "connection", Connection::ALL, Connection::name),
            dependency_up: Dependency::ALL
                .iter()
                .map(|dependency| gauge!(DEPENDENCY_UP, "dependency" => dependency.name()))
                .collect(),
        }
    }

    /// Deliveries by what they came to. `None` is a body whose type couldn't be read, which can
    /// only be a dead letter.
    pub fn outcome(&self, task_type: Option<TaskType>, outcome: Outcome) -> &Counter {
        let row = task_type.map_or(0, |task_type| 1 + task_type as usize);
        &self.outcomes[row * Outcome::COUNT + outcome.index()]
    }

    /// What is held of a currency, in minor units.
    pub fn held_amount(&self, currency: &str) -> Gauge {
        gauge!(HELD_AMOUNT, "currency" => currency.to_owned())
    }

    /// Tasks that wait in a lane, one of those that [`Metrics::register`] was told of.
    pub fn lane_depth(&self, lane: usize) -> &Gauge {
        &self.lane_depth[lane]
    }

    /// Acknowledgements sent.
    pub fn acks(&self, kind: AckKind) -> &Counter {
        &self.acks[kind as usize]
    }

    /// Batches run again.
    pub fn retries(&self, kind: RetryKind) -> &Counter {
        &self.retries[kind as usize]
    }

    /// Events confirmed.
    pub fn events_published(&self, kind: EventKind) -> &Counter {
        &self.events_published[kind as usize]
    }

    /// Events that no queue took.
    pub fn events_unroutable(&self, action: UnroutableAction) -> &Counter {
        &self.events_unroutable[action as usize]
    }

    /// Events that the broker refused.
    pub fn events_refused(&self, reason: RefusalReason) -> &Counter {
        &self.events_refused[reason as usize]
    }

    /// Dead letters committed.
    pub fn dead_letters(&self, reason: DeadReason) -> &Counter {
        &self.dead_letters[reason as usize]
    }

    /// With a series for each of these publishers. Where they are `verified`, a name that the broker has
    /// not verified is nobody's.
    #[must_use]
    pub fn with_publishers<'p>(self, names: impl Iterator<Item = &'p String>, verified: bool) -> Self {
        let forbidden = names.map(|name| (name.clone(), counter!(FORBIDDEN, "publisher" => name.clone()))).collect();
        Self { forbidden, verified, ..self }
    }

    /// Tasks that the publisher of a message with these properties may not publish.
    pub fn forbidden(&self, properties: &Properties) -> &Counter {
        let name = if self.verified { &properties.user_id } else { &properties.publisher };
        let of = self.forbidden.iter().find(|(own, _)| Some(own.as_str()) == name.as_deref());
        of.map_or(&self.forbidden_other, |(_, counter)| counter)
    }

    /// Connections made again.
    pub fn reconnects(&self, connection: Connection) -> &Counter {
        &self.reconnects[connection as usize]
    }

    /// 1 or 0; set by [`Health`](crate::health::Health).
    pub fn dependency_up(&self, dependency: Dependency) -> &Gauge {
        &self.dependency_up[dependency as usize]
    }
}

/// Observes a duration in seconds.
pub fn observe(histogram: &Histogram, duration: Duration) {
    histogram.record(duration.as_secs_f64());
}

fn describe() {
    for &Description { name, kind, unit, help } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Histogram => metrics::describe_histogram!(name, unit, help),
        }
    }
}

/// The same gauge, with a value that compares with none: no alert fires on it.
fn unknown(gauge: Gauge) -> Gauge {
    gauge.set(f64::NAN);
    gauge
}

fn counters<T: Copy>(
    name: &'static str,
    label: &'static str,
    values: &[T],
    value: fn(T) -> &'static str,
) -> Vec<Counter> {
    values.iter().map(|&each| counter!(name, label => value(each))).collect()
}

fn outcome_counters() -> Vec<Counter> {
    let types = std::iter::once(None).chain(TaskType::ALL.map(Some));
    types.flat_map(|task_type| Outcome::all().map(move |outcome| outcome_counter(task_type, outcome))).collect()
}

fn outcome_counter(task_type: Option<TaskType>, outcome: Outcome) -> Counter {
    let type_name = match (task_type, outcome) {
        (Some(task_type), _) => task_type.name(),
        (None, Outcome::DeadLettered(_)) => "unknown",
        (None, _) => return Counter::noop(),
    };
    counter!(OUTCOMES, "type" => type_name, "outcome" => outcome.name(), "reason" => outcome.reason())
}
