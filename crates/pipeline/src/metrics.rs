//! All metrics of the daemon: name, description and a cached handle of each.
//!
//! Names and base units (seconds, bytes) follow the conventions of Prometheus. Using a handle costs one atomic
//! operation. Gauges of what can be read at any time, such as the length of a lane, are set when the metrics are
//! scraped.

mod publishers;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use settled_core::contract::{DeadReason, EventKind, Properties, TaskType};

pub use self::publishers::Publisher;
use self::publishers::Publishers;
use crate::labels::{
    AckKind, Clock, Connection, Dependency, Kept, Outcome, Reflex, ReflexAction, RefusalReason, ReloadResult,
    RetryKind, SpanResult, UnroutableAction,
};
use crate::settings::Live;

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
    /// The names of its labels.
    pub labels: &'static [&'static str],
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

/// Registers a metric: one handle, or one for each value of its label.
macro_rules! register {
    ($kind:ident $name:ident by $label:ident $values:ident) => {
        $values::ALL.iter().map(|value| register!($kind $name, stringify!($label) => value.name())).collect()
    };
    (Counter $($metric:tt)+) => { counter!($($metric)+) };
    (Gauge $($metric:tt)+) => { gauge!($($metric)+) };
    (Histogram $($metric:tt)+) => { histogram!($($metric)+) };
}

/// The type of what [`register`] returns.
macro_rules! handle {
    ($kind:ident) => { $kind };
    ($kind:ident $values:ident) => { Vec<$kind> };
}

/// Declares a constant for each metric's name, [`ALL`] with the descriptions, and handles: `as` a field, or `by` a label
/// whose values are an enum, a method that takes one of them. Metrics that are registered elsewhere list their labels.
macro_rules! metrics {
    ($($const:ident $(of ($($listed:ident),+))? $(as $field:ident $(by $label:ident: $values:ident)?)? = $name:literal, $kind:ident, $unit:ident, $help:literal;)+) => {
        $(const $const: &str = $name;)+

        /// All metrics of the daemon.
        pub const ALL: &[Description] =
            &[$(Description {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                help: $help,
                labels: &[$($(stringify!($listed),)+)? $($(stringify!($label),)?)?],
            }),+];

        /// Handles to the metrics that have at most one label, with a fixed set of values.
        pub struct Handles {
            $($(#[doc = $help] pub $field: handle!($kind $($values)?),)?)+
        }

        impl Handles {
            fn register() -> Self {
                Self { $($($field: register!($kind $const $(by $label $values)?),)?)+ }
            }

            $($($(
                #[doc = $help]
                pub fn $field(&self, value: $values) -> &$kind {
                    &self.$field[value as usize]
                }
            )?)?)+
        }
    };
}

metrics! {
    TASKS_RECEIVED as tasks_received = "settled_tasks_received_total", Counter, Count, "Deliveries taken from the task queue, redeliveries included.";
    OUTCOMES of (type, outcome, reason) = "settled_outcomes_total", Counter, Count, "What committed deliveries came to, by type, outcome and reason.";
    BATCH_SIZE as batch_size = "settled_batch_size", Histogram, Count, "Tasks per transaction.";
    PUBLISHER_OUTCOMES of (publisher, outcome) = "settled_publisher_outcomes_total", Counter, Count, "What committed deliveries came to, by publisher and outcome; the publisher is one of the settings' [[publisher]], or other.";
    QUEUE_DEPTH as queue_depth = "settled_queue_depth", Gauge, Count, "Messages that are ready in the task queue, measured every 5 seconds; NaN while that isn't known.";
    QUEUE_OLDEST_SECONDS as queue_oldest_seconds = "settled_queue_oldest_seconds", Gauge, Seconds, "About how long the first message of the task queue has waited, by the publisher's clock; 0 while the queue is empty.";
    LANE_DEPTH of (lane) = "settled_lane_depth", Gauge, Count, "Tasks waiting in a lane.";
    LANE_OLDEST_SECONDS of (lane) = "settled_lane_oldest_seconds", Gauge, Seconds, "Time since the oldest task was taken that the lane's worker is committing; 0 while it has none.";
    TASKS_IN_FLIGHT as tasks_in_flight = "settled_tasks_in_flight", Gauge, Count, "Deliveries taken and not yet settled.";
    TASKS_MEMORY as tasks_memory = "settled_tasks_memory_bytes", Gauge, Bytes, "Memory of deliveries that are not settled; nothing is read from the broker while it is at `broker.prefetch_bytes`.";
    TASKS_DEFERRED as tasks_deferred = "settled_tasks_set_aside", Gauge, Count, "Tasks whose decline waits for an earlier task of another lane.";
    ACK_LAG as ack_lag = "settled_ack_lag", Gauge, Count, "Deliveries that are settled and not yet acknowledged.";
    ACKS as acks by kind: AckKind = "settled_acks_total", Counter, Count, "Acknowledgements sent, by kind: one multiple covers many deliveries.";
    TRANSACTION_SECONDS as transaction_seconds = "settled_transaction_seconds", Histogram, Seconds, "From the BEGIN of a batch to the answer to its COMMIT.";
    PUBLISH_TO_COMMIT_SECONDS as publish_to_commit_seconds = "settled_publish_to_commit_seconds", Histogram, Seconds, "From a task's AMQP timestamp (whole seconds, the publisher's clock) or its UUIDv7 to its commit.";
    RECEIVE_TO_COMMIT_SECONDS as receive_to_commit_seconds = "settled_receive_to_commit_seconds", Histogram, Seconds, "From taking a task to its commit.";
    RETRIES as retries by kind: RetryKind = "settled_retries_total", Counter, Count, "Batches run again, by cause.";
    BISECTIONS as bisections = "settled_bisections_total", Counter, Count, "Batches split to find the task that PostgreSQL refuses.";
    UNKNOWN_COMMITS as unknown_commits = "settled_unknown_commits_total", Counter, Count, "Commits without an answer, whose outcome was looked up.";
    STREAM_PRODUCER as stream_producer = "settled_stream_producer", Gauge, Count, "1 while this daemon is the one that appends events to the stream; 0 in all others, and without a stream.";
    STREAM_GENERATIONS as stream_generations = "settled_stream_generations_total", Counter, Count, "Times that the stream lacked events it had, or had events that the ledger does not know: one of them was deleted or restored.";
    OUTBOX_DEPTH as outbox_depth = "settled_outbox_depth", Gauge, Count, "Events in the outbox: committed and not yet confirmed by the broker.";
    OUTBOX_ROWS as outbox_rows = "settled_outbox_rows", Gauge, Count, "Rows of the outbox; one holds the events of one batch.";
    OUTBOX_HELD as outbox_held = "settled_outbox_held", Gauge, Count, "Events in the outbox that are held: no queue takes them, or the broker refuses them.";
    OUTBOX_REFUSED as outbox_refused = "settled_outbox_refused", Gauge, Count, "Events in the outbox that are held because the broker refuses them: `settled outbox list` has the reasons.";
    OUTBOX_OLDEST_SECONDS as outbox_oldest_seconds = "settled_outbox_oldest_seconds", Gauge, Seconds, "Age of the oldest outbox row that is not held; 0 when there is none.";
    EVENTS_PUBLISHED as events_published by type: EventKind = "settled_events_published_total", Counter, Count, "Events confirmed by the broker, by type.";
    EVENTS_UNROUTABLE as events_unroutable by action: UnroutableAction = "settled_events_unroutable_total", Counter, Count, "Events that no queue took, by what was done with them.";
    EVENTS_REFUSED as events_refused by reason: RefusalReason = "settled_events_refused_total", Counter, Count, "Events that the broker refused by closing the channel, by reason; each attempt counts. They are held.";
    EVENT_CONFIRM_SECONDS as event_confirm_seconds = "settled_event_confirm_seconds", Histogram, Seconds, "From publishing a message of events to the broker's confirm.";
    DEAD_LETTERS as dead_letters by reason: DeadReason = "settled_dead_letters_total", Counter, Count, "Messages committed as dead letters, by reason.";
    FORBIDDEN of (publisher) = "settled_forbidden_total", Counter, Count, "Tasks that their publisher may not publish, by publisher: one of the settings' [[publisher]], or other.";
    DEAD_LETTERS_OPEN as dead_letters_open = "settled_dead_letters_open", Gauge, Count, "Dead letters that nobody has replayed or discarded.";
    DEAD_LETTERS_OLDEST_SECONDS as dead_letters_oldest_seconds = "settled_dead_letters_oldest_seconds", Gauge, Seconds, "Time since the oldest dead letter came that nobody has replayed or discarded; 0 when there is none.";
    UNPROCESSABLE_OPEN as unprocessable_open = "settled_unprocessable_open", Gauge, Count, "Open dead letters of tasks that the ledger finds correct and PostgreSQL refuses: one of the two is wrong.";
    DEAD_LETTER_QUEUE_DEPTH as dead_letter_queue_depth = "settled_dead_letter_queue_depth", Gauge, Count, "Messages in the broker's dead-letter queue that are not in the table dead_letter yet; NaN while that isn't known.";
    ROWS_REMOVED as rows_removed by table: Kept = "settled_rows_removed_total", Counter, Count, "Rows removed whose time by the settings of retention was over, by table.";
    RECONNECTS as reconnects by connection: Connection = "settled_reconnects_total", Counter, Count, "Connections to the broker made again, by connection.";
    DEPENDENCY_UP as dependency_up by dependency: Dependency = "settled_dependency_up", Gauge, Count, "1 while a dependency answers, 0 while it does not.";
    PAUSED as paused = "settled_paused", Gauge, Count, "1 while intake is paused because nothing can be committed.";
    MAINTENANCE as maintenance = "settled_maintenance", Gauge, Count, "1 while an operator has the daemon take no tasks (`settled drain`).";
    BROKER_BLOCKED as broker_blocked = "settled_broker_blocked", Gauge, Count, "1 while the broker blocks publishing (memory or disk alarm).";
    SCHEDULED as scheduled = "settled_scheduled", Gauge, Count, "Tasks that wait for their execute_at.";
    SCHEDULED_OLDEST_SECONDS as scheduled_oldest_seconds = "settled_scheduled_oldest_seconds", Gauge, Seconds, "Time since the oldest scheduled task was accepted, by the database's clock; 0 when there is none.";
    SCHEDULED_OVERDUE_SECONDS as scheduled_overdue_seconds = "settled_scheduled_overdue_seconds", Gauge, Seconds, "How late the scheduler is: time since the earliest waiting task or hold was due, by the database's clock; 0 when none is.";
    PARKED as parked = "settled_parked", Gauge, Count, "Tasks that wait for the payment they act on, or for the task they come after.";
    PARKED_OLDEST_SECONDS as parked_oldest_seconds = "settled_parked_oldest_seconds", Gauge, Seconds, "Time since the oldest parked task was accepted, by the database's clock; 0 when there is none.";
    HOLDS as holds = "settled_holds", Gauge, Count, "Holds: one for each leg of an authorization that is not captured in full.";
    HOLDS_EXPIRING as holds_expiring = "settled_holds_expiring", Gauge, Count, "Holds that run out within an hour.";
    HELD_AMOUNT of (currency) = "settled_held_amount", Gauge, Count, "What is held, in minor units of the currency.";
    HOLDS_EXPIRED as holds_expired = "settled_holds_expired_total", Counter, Count, "Payments whose hold ran out.";
    SHORTFALLS as shortfalls = "settled_shortfalls_total", Counter, Count, "Chargebacks and reversals that left an account below its limit.";
    DATABASE_CLOCK_AHEAD_SECONDS as database_clock_ahead_seconds = "settled_database_clock_ahead_seconds", Gauge, Seconds, "How far the clock of PostgreSQL is ahead of the daemon's, negative if it is behind; 0 if that is less than asking took.";
    CLOCK_BEHIND_SECONDS as clock_behind_seconds by clock: Clock = "settled_clock_behind_seconds", Gauge, Seconds, "How far a clock is behind the latest time that it has shown; 0 while it goes forward.";
    DISK_FREE_RATIO of (path) = "settled_disk_free_ratio", Gauge, Count, "The free part of the disk that has this directory of reflexes.disk_paths, 0 to 1; NaN if it can't be read.";
    REFLEX_CAUSE as reflex_cause by reflex: Reflex = "settled_reflex_cause", Gauge, Count, "Causes for a reflex that there are, unless it is off: 1, or the number of publishers.";
    REFLEX_ACTIVE as reflex_active by reflex: Reflex = "settled_reflex_active", Gauge, Count, "Actions of a reflex that are in effect: 1, or the number of publishers.";
    REFLEX_ACTIONS of (reflex, action) = "settled_reflex_actions_total", Counter, Count, "What reflexes did: observed and suppressed are causes without an action.";
    CONFIG_RELOADS as config_reloads by result: ReloadResult = "settled_config_reloads_total", Counter, Count, "Reloads of the configuration, by result.";
    CONFIG_LAST_RELOAD_SUCCESSFUL as config_last_reload_successful = "settled_config_last_reload_successful", Gauge, Count, "1 if the last reload of the configuration was accepted, or there was none; 0 if it was refused.";
    CONFIG_LAST_RELOAD_SUCCESS as config_last_reload_success = "settled_config_last_reload_success_timestamp_seconds", Gauge, Seconds, "When the configuration was last read and accepted, as Unix time.";
    SPANS as spans by result: SpanResult = "settled_spans_total", Counter, Count, "Spans of sampled tasks, by what became of them: exported to the collector, failed there, or dropped because it was slow or away.";
    BUILD_INFO of (version) = "settled_build_info", Gauge, Count, "1, with the version as its label.";
    PROCESS_START_TIME as process_start_time = "process_start_time_seconds", Gauge, Seconds, "When the process started, as Unix time.";
    PROCESS_CPU as process_cpu = "process_cpu_seconds_total", Counter, Seconds, "CPU time used, user and system, in whole seconds.";
    PROCESS_RSS as process_rss = "process_resident_memory_bytes", Gauge, Bytes, "Resident memory.";
    PROCESS_OPEN_FDS as process_open_fds = "process_open_fds", Gauge, Count, "Open file descriptors.";
    PROCESS_THREADS as process_threads = "process_threads", Gauge, Count, "Threads.";
}

/// The name of the histogram of tasks per transaction, the only one that does not observe seconds.
pub const BATCH_SIZE_NAME: &str = BATCH_SIZE;

/// Handles to all metrics. Registered once, after the recorder is installed, and shared.
///
/// Without a recorder, as in unit tests, the handles do nothing.
pub struct Metrics {
    handles: Handles,
    outcomes: Vec<Counter>,
    lane_depth: Vec<Gauge>,
    lane_oldest_seconds: Vec<Gauge>,
    reflex_actions: Vec<Counter>,
    publishers: Live<Publishers>,
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
        handles.queue_depth.set(f64::NAN);
        Self {
            handles,
            outcomes: outcome_counters(),
            lane_depth: (0..lanes).map(|lane| gauge!(LANE_DEPTH, "lane" => lane.to_string())).collect(),
            lane_oldest_seconds: (0..lanes)
                .map(|lane| gauge!(LANE_OLDEST_SECONDS, "lane" => lane.to_string()))
                .collect(),
            reflex_actions: Reflex::ALL
                .iter()
                .flat_map(|reflex| ReflexAction::ALL.iter().map(move |action| (reflex.name(), action.name())))
                .map(|(reflex, action)| counter!(REFLEX_ACTIONS, "reflex" => reflex, "action" => action))
                .collect(),
            publishers: Publishers::none().into(),
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

    /// Returns the gauge of the age of a lane's oldest task.
    ///
    /// # Panics
    ///
    /// As [`Metrics::lane_depth`].
    pub fn lane_oldest_seconds(&self, lane: usize) -> &Gauge {
        &self.lane_oldest_seconds[lane]
    }

    /// Returns the gauge of the free part of a disk.
    pub fn disk_free_ratio(&self, path: &str) -> Gauge {
        gauge!(DISK_FREE_RATIO, "path" => path.to_owned())
    }

    /// Returns the counter of what a reflex did.
    pub fn reflex_actions(&self, reflex: Reflex, action: ReflexAction) -> &Counter {
        &self.reflex_actions[reflex as usize * ReflexAction::ALL.len() + action as usize]
    }

    /// Returns how many messages each publisher of the settings has sent, and how many of them were its dead letters.
    pub fn traffic(&self) -> Vec<(String, (u64, u64))> {
        self.publishers.get().traffic()
    }

    /// Counts for each of these publishers from now on. If `verified`, messages are attributed by their `user_id` only,
    /// which the broker verifies.
    pub fn set_publishers<'p>(&self, names: impl Iterator<Item = &'p String>, verified: bool) {
        let next = self.publishers.get().of(names, verified);
        self.publishers.set(next);
    }

    /// Returns the publisher of a message with these properties.
    pub fn publisher(&self, properties: &Properties) -> Arc<Publisher> {
        self.publishers.get().publisher(properties)
    }
}

/// Observes a duration in seconds.
pub fn observe(histogram: &Histogram, duration: Duration) {
    histogram.record(duration.as_secs_f64());
}

fn describe() {
    for &Description { name, kind, unit, help, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Histogram => metrics::describe_histogram!(name, unit, help),
        }
    }
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
