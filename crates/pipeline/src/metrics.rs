//! All metrics of the daemon: name, description and a cached handle of each.
//!
//! Names and base units (seconds, bytes) follow the conventions of Prometheus. Using a handle costs one atomic
//! operation. Gauges of what can be read at any time, such as the length of a lane, are set when the metrics are
//! scraped.

use std::ops::Deref;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use settled_core::contract::{DeadReason, EventKind, Properties, TaskType};

use crate::labels::{AckKind, Connection, Dependency, Outcome, RefusalReason, RetryKind, UnroutableAction};

/// Name, kind, unit and help text of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The name, as Prometheus scrapes it.
    pub name: &'static str,
    /// Whether it is a counter, a gauge or a histogram.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// The help text, as Prometheus scrapes it.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution of observations, in buckets.
    Histogram,
}

/// Registers a metric without labels.
macro_rules! register {
    (Counter $name:ident) => {
        counter!($name)
    };
    (Gauge $name:ident) => {
        gauge!($name)
    };
    (Histogram $name:ident) => {
        histogram!($name)
    };
}

/// Declares a constant for each metric's name, [`ALL`] with the descriptions, and the handles of the metrics without
/// labels (`as` a field).
macro_rules! metrics {
    ($($const:ident $(as $field:ident)? = $name:literal, $kind:ident, $unit:ident, $help:literal;)+) => {
        $(const $const: &str = $name;)+

        /// All metrics of the daemon.
        pub const ALL: &[Description] =
            &[$(Description { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help }),+];

        /// Handles to the metrics without labels.
        pub struct Handles {
            $($(#[doc = $help] pub $field: $kind,)?)+
        }

        impl Handles {
            fn register() -> Self {
                Self { $($($field: register!($kind $const),)?)+ }
            }
        }
    };
}

metrics! {
    TASKS_RECEIVED as tasks_received = "settled_tasks_received_total", Counter, Count, "Deliveries taken from the task queue, redeliveries included.";
    OUTCOMES = "settled_outcomes_total", Counter, Count, "What committed deliveries came to, by type, outcome and reason.";
    BATCH_SIZE as batch_size = "settled_batch_size", Histogram, Count, "Tasks per transaction.";
    LANE_DEPTH = "settled_lane_depth", Gauge, Count, "Tasks waiting in a lane.";
    TASKS_IN_FLIGHT as tasks_in_flight = "settled_tasks_in_flight", Gauge, Count, "Deliveries taken and not yet settled.";
    TASKS_MEMORY as tasks_memory = "settled_tasks_memory_bytes", Gauge, Bytes, "Memory of deliveries that are not settled; nothing is read from the broker while it is at `broker.prefetch_bytes`.";
    TASKS_DEFERRED as tasks_deferred = "settled_tasks_set_aside", Gauge, Count, "Tasks whose decline waits for an earlier task of another lane.";
    ACK_LAG as ack_lag = "settled_ack_lag", Gauge, Count, "Deliveries that are settled and not yet acknowledged.";
    ACKS = "settled_acks_total", Counter, Count, "Acknowledgements sent, by kind: one multiple covers many deliveries.";
    TRANSACTION_SECONDS as transaction_seconds = "settled_transaction_seconds", Histogram, Seconds, "From the BEGIN of a batch to the answer to its COMMIT.";
    PUBLISH_TO_COMMIT_SECONDS as publish_to_commit_seconds = "settled_publish_to_commit_seconds", Histogram, Seconds, "From a task's AMQP timestamp (whole seconds, the publisher's clock) or its UUIDv7 to its commit.";
    RECEIVE_TO_COMMIT_SECONDS as receive_to_commit_seconds = "settled_receive_to_commit_seconds", Histogram, Seconds, "From taking a task to its commit.";
    RETRIES = "settled_retries_total", Counter, Count, "Batches run again, by cause.";
    BISECTIONS as bisections = "settled_bisections_total", Counter, Count, "Batches split to find the task that PostgreSQL refuses.";
    UNKNOWN_COMMITS as unknown_commits = "settled_unknown_commits_total", Counter, Count, "Commits without an answer, whose outcome was looked up.";
    OUTBOX_DEPTH as outbox_depth = "settled_outbox_depth", Gauge, Count, "Events in the outbox: committed and not yet confirmed by the broker.";
    OUTBOX_ROWS as outbox_rows = "settled_outbox_rows", Gauge, Count, "Rows of the outbox; one holds the events of one batch.";
    OUTBOX_HELD as outbox_held = "settled_outbox_held", Gauge, Count, "Events in the outbox that are held: no queue takes them, or the broker refuses them.";
    OUTBOX_REFUSED as outbox_refused = "settled_outbox_refused", Gauge, Count, "Events in the outbox that are held because the broker refuses them: `settled outbox list` has the reasons.";
    OUTBOX_OLDEST_SECONDS as outbox_oldest_seconds = "settled_outbox_oldest_seconds", Gauge, Seconds, "Age of the oldest outbox row that is not held; 0 when there is none.";
    EVENTS_PUBLISHED = "settled_events_published_total", Counter, Count, "Events confirmed by the broker, by type.";
    EVENTS_UNROUTABLE = "settled_events_unroutable_total", Counter, Count, "Events that no queue took, by what was done with them.";
    EVENTS_REFUSED = "settled_events_refused_total", Counter, Count, "Events that the broker refused by closing the channel, by reason; each attempt counts. They are held.";
    EVENT_CONFIRM_SECONDS as event_confirm_seconds = "settled_event_confirm_seconds", Histogram, Seconds, "From publishing a message of events to the broker's confirm.";
    DEAD_LETTERS = "settled_dead_letters_total", Counter, Count, "Messages committed as dead letters, by reason.";
    FORBIDDEN = "settled_forbidden_total", Counter, Count, "Tasks that their publisher may not publish, by publisher: one of the settings' [[publisher]], or other.";
    DEAD_LETTERS_OPEN as dead_letters_open = "settled_dead_letters_open", Gauge, Count, "Dead letters that nobody has replayed or discarded.";
    DEAD_LETTER_QUEUE_DEPTH as dead_letter_queue_depth = "settled_dead_letter_queue_depth", Gauge, Count, "Messages in the broker's dead-letter queue that are not in the table dead_letter yet; NaN while that isn't known.";
    RECONNECTS = "settled_reconnects_total", Counter, Count, "Connections to the broker made again, by connection.";
    DEPENDENCY_UP = "settled_dependency_up", Gauge, Count, "1 while a dependency answers, 0 while it does not.";
    PAUSED as paused = "settled_paused", Gauge, Count, "1 while intake is paused because nothing can be committed.";
    BROKER_BLOCKED as broker_blocked = "settled_broker_blocked", Gauge, Count, "1 while the broker blocks publishing (memory or disk alarm).";
    SCHEDULED as scheduled = "settled_scheduled", Gauge, Count, "Tasks that wait for their execute_at.";
    SCHEDULED_OLDEST_SECONDS as scheduled_oldest_seconds = "settled_scheduled_oldest_seconds", Gauge, Seconds, "Time since the oldest scheduled task was taken; 0 when there is none.";
    PARKED as parked = "settled_parked", Gauge, Count, "Tasks that wait for the payment they act on, or for the task they come after.";
    PARKED_OLDEST_SECONDS as parked_oldest_seconds = "settled_parked_oldest_seconds", Gauge, Seconds, "Time since the oldest parked task was taken; 0 when there is none.";
    HOLDS as holds = "settled_holds", Gauge, Count, "Holds: one for each leg of an authorization that is not captured in full.";
    HOLDS_EXPIRING as holds_expiring = "settled_holds_expiring", Gauge, Count, "Holds that run out within an hour.";
    HELD_AMOUNT = "settled_held_amount", Gauge, Count, "What is held, in minor units of the currency.";
    HOLDS_EXPIRED as holds_expired = "settled_holds_expired_total", Counter, Count, "Payments whose hold ran out.";
    SHORTFALLS as shortfalls = "settled_shortfalls_total", Counter, Count, "Chargebacks and reversals that left an account below its limit.";
    BUILD_INFO = "settled_build_info", Gauge, Count, "1, with the version as its label.";
    PROCESS_START_TIME = "process_start_time_seconds", Gauge, Seconds, "When the process started, as Unix time.";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, Seconds, "CPU time used, user and system, in whole seconds.";
    PROCESS_RSS = "process_resident_memory_bytes", Gauge, Bytes, "Resident memory.";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge, Count, "Open file descriptors.";
    PROCESS_THREADS = "process_threads", Gauge, Count, "Threads.";
}

/// The name of the histogram of tasks per transaction, the only one that does not observe seconds.
pub const BATCH_SIZE_NAME: &str = BATCH_SIZE;

/// Handles to all metrics. Registered once, after the recorder is installed, and shared.
///
/// Without a recorder, as in unit tests, the handles do nothing.
pub struct Metrics {
    handles: Handles,
    /// Handles to the metrics about the process itself.
    pub process: ProcessMetrics,
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
#[expect(missing_docs, reason = "the help texts above say what each one is")]
pub struct ProcessMetrics {
    pub start_time: Gauge,
    pub cpu: Counter,
    pub rss: Gauge,
    pub open_fds: Gauge,
    pub threads: Gauge,
}

impl Deref for Metrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.handles
    }
}

impl Metrics {
    /// Describes and registers all metrics with the installed recorder, with a depth for each of `lanes` lanes.
    pub fn register(lanes: usize) -> Self {
        describe();
        gauge!(BUILD_INFO, "version" => crate::VERSION).set(1.0);
        let handles = Handles::register();
        // Not known yet. No alert's comparison matches NaN.
        handles.dead_letter_queue_depth.set(f64::NAN);
        Self {
            handles,
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

    /// Returns the counter of deliveries with an outcome. A body whose type cannot be read has the type `None`, and can
    /// only be a dead letter.
    pub fn outcome(&self, task_type: Option<TaskType>, outcome: Outcome) -> &Counter {
        let row = task_type.map_or(0, |task_type| 1 + task_type as usize);
        &self.outcomes[row * Outcome::COUNT + outcome.index()]
    }

    /// Returns the gauge of the amount held in a currency, in minor units.
    pub fn held_amount(&self, currency: &str) -> Gauge {
        gauge!(HELD_AMOUNT, "currency" => currency.to_owned())
    }

    /// Returns the gauge of tasks that wait in a lane.
    ///
    /// # Panics
    ///
    /// If `lane` is not below the number given to [`Metrics::register`].
    pub fn lane_depth(&self, lane: usize) -> &Gauge {
        &self.lane_depth[lane]
    }

    /// Returns the counter of acknowledgements sent.
    pub fn acks(&self, kind: AckKind) -> &Counter {
        &self.acks[kind as usize]
    }

    /// Returns the counter of batches that were committed again.
    pub fn retries(&self, kind: RetryKind) -> &Counter {
        &self.retries[kind as usize]
    }

    /// Returns the counter of confirmed events.
    pub fn events_published(&self, kind: EventKind) -> &Counter {
        &self.events_published[kind as usize]
    }

    /// Returns the counter of events that no queue took.
    pub fn events_unroutable(&self, action: UnroutableAction) -> &Counter {
        &self.events_unroutable[action as usize]
    }

    /// Returns the counter of events that the broker refused.
    pub fn events_refused(&self, reason: RefusalReason) -> &Counter {
        &self.events_refused[reason as usize]
    }

    /// Returns the counter of committed dead letters.
    pub fn dead_letters(&self, reason: DeadReason) -> &Counter {
        &self.dead_letters[reason as usize]
    }

    /// Adds a series of [`Metrics::forbidden`] for each publisher. If `verified`, messages are attributed by their
    /// `user_id` only, which the broker verifies.
    #[must_use]
    pub fn with_publishers<'p>(self, names: impl Iterator<Item = &'p String>, verified: bool) -> Self {
        let forbidden = names.map(|name| (name.clone(), counter!(FORBIDDEN, "publisher" => name.clone()))).collect();
        Self { forbidden, verified, ..self }
    }

    /// Returns the counter of tasks that their publisher may not publish, for the publisher of a message with these
    /// properties.
    pub fn forbidden(&self, properties: &Properties) -> &Counter {
        let name = if self.verified { &properties.user_id } else { &properties.publisher };
        let of = self.forbidden.iter().find(|(own, _)| Some(own.as_str()) == name.as_deref());
        of.map_or(&self.forbidden_other, |(_, counter)| counter)
    }

    /// Returns the counter of connections that were opened again.
    pub fn reconnects(&self, connection: Connection) -> &Counter {
        &self.reconnects[connection as usize]
    }

    /// Returns the gauge of a dependency: 1 if it is up. Only [`Health`](crate::health::Health) sets it.
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
