//! Spans of tasks whose publisher has sampled them, as plain records for an exporter.
//!
//! A record goes into a bounded channel, and is dropped and counted if that is full: whatever becomes of the exporter, the
//! pipeline does not wait. Without traces the whole module is one branch per batch.
//!
//! The ids of spans are derived from the publisher's span and the task, so that the relay, perhaps of another daemon, can
//! name the parent of an event's span: the outbox stores the publisher's `traceparent` and nothing else.

use std::fmt;

use jiff::Timestamp;
use metrics::Counter;
use settled_core::contract::{EventKind, Message, MessageId, TaskType};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use uuid::Uuid;

use crate::labels::Outcome;

/// The most links of a batch's span: the limit of the OpenTelemetry specification.
const MOST_LINKS: usize = 128;

/// What tells apart the spans of one task that have the same parent.
mod salt {
    pub(super) const PROCESS: u64 = 0x9e37_79b9_7f4a_7c15;
    pub(super) const AGAIN: u64 = 0xc2b2_ae3d_27d4_eb4f;
    pub(super) const BATCH: u64 = 0x1656_67b1_9e37_79f9;
    pub(super) const EVENT: u64 = 0x85eb_ca77_c2b2_ae63;
    pub(super) const REPLY: u64 = 0x27d4_eb2f_1656_67c5;
}

/// A span of a sampled trace, as the header `traceparent` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The id of the trace; not zero.
    pub trace: u128,
    /// The id of the span; not zero.
    pub span: u64,
    /// The flags of the trace, of which it is sampled.
    pub flags: u8,
}

impl Context {
    const SAMPLED: u8 = 1;
    /// Flags that W3C has defined: sampled, and that the trace's id is random.
    const KNOWN: u8 = 0b11;

    /// Reads a `traceparent`. Returns `None` if it is not valid by W3C's rules, or not sampled.
    pub fn sampled(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let version = hex(parts.next()?, 2)?;
        let (trace, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
        // Later versions may append something.
        let is_complete = if version == 0 { parts.next().is_none() } else { version != 0xff };
        let is_valid = is_complete && trace != 0 && span != 0 && flags & Self::SAMPLED != 0;
        let span = u64::try_from(span).ok()?;
        is_valid.then_some(Self { trace, span, flags: flags & Self::KNOWN })
    }

    /// Returns another span of the trace. The same values give the same span.
    #[must_use]
    pub fn derive(self, salt: u64) -> Self {
        let span = self.span ^ salt;
        Self { span: if span == 0 { salt } else { span }, ..self }
    }

    /// Returns the span of the first processing of a task that this span has published.
    fn process(self, task: Uuid) -> Self {
        self.derive(random_half(task) ^ salt::PROCESS)
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Reads a number of so many hexadecimal digits, in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Returns the half of a UUID that is random in versions 4 and 7.
fn random_half(id: Uuid) -> u64 {
    id.as_u64_pair().1
}

/// Returns bits that differ from one moment to the next.
fn moment(at: Timestamp) -> u64 {
    let nanos = at.as_nanosecond().unsigned_abs();
    (nanos as u64).rotate_left(17)
}

/// What is told to the exporter.
#[derive(Clone, Debug)]
pub enum Record {
    /// A task was processed.
    Task(TaskRecord),
    /// A batch with at least one sampled task was committed.
    Batch(BatchRecord),
    /// An event or a reply was published.
    Event(EventRecord),
}

impl Record {
    /// Returns the number of spans that are made of the record.
    pub const fn spans(&self) -> u64 {
        match self {
            Self::Task(task) if task.resumes => 2,
            Self::Task(task) => 3 + task.published.is_some() as u64,
            Self::Batch(_) | Self::Event(_) => 1,
        }
    }
}

/// A sampled task with its outcome, or a message that became a dead letter.
#[derive(Clone, Debug)]
pub struct TaskRecord {
    /// The span of its processing.
    pub context: Context,
    /// The span that the message's `traceparent` names.
    pub publisher: Context,
    /// The span below which the processing is: the publisher's, or of a task that waited that of its first processing.
    pub parent: Context,
    /// Id of the task; nil if it could not be read.
    pub task: Uuid,
    /// The payment that the task is, or acts on.
    pub payment: Uuid,
    /// Type of the task; `None` of a dead letter.
    pub task_type: Option<TaskType>,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether it had waited as scheduled or parked.
    pub resumes: bool,
    /// When it was published, by the publisher's clock, if that is known.
    pub published: Option<Timestamp>,
    /// When it was taken from the queue.
    pub taken: Timestamp,
    /// When it was settled.
    pub settled: Timestamp,
    /// When its transaction began and ended.
    pub commit: Commit,
    /// The span of its batch.
    pub batch: Context,
}

/// A committed batch.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// The batch's span, the only one of its trace.
    pub context: Context,
    /// Number of tasks, sampled or not.
    pub size: usize,
    /// When its transaction began and ended.
    pub commit: Commit,
    /// The spans of its sampled tasks, up to 128.
    pub links: Vec<Context>,
    /// The number of further sampled tasks.
    pub unlinked: u32,
}

/// A published event or reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// The span of its publication.
    pub context: Context,
    /// Of an event the span of the task's processing, of a reply the publisher's span.
    pub parent: Context,
    /// The id of the event.
    pub id: String,
    /// The type of the event.
    pub kind: Option<EventKind>,
    /// Whether it is a reply.
    pub is_reply: bool,
    /// When it was sent.
    pub sent: Timestamp,
    /// When the broker confirmed it.
    pub confirmed: Timestamp,
}

impl EventRecord {
    /// Begins the span of an event that is about to be sent, of a task with this `traceparent` and the CloudEvents
    /// attributes `subject` and `id`.
    ///
    /// A reply is an answer to the publisher, and its parent is the publisher's span: one to a repetition of the task
    /// could not name the span of that repetition.
    pub fn begin(traceparent: &str, (subject, id): (&str, &str), kind: &str, is_reply: bool) -> Option<Self> {
        let publisher = Context::sampled(traceparent)?;
        let (sent, task) = (Timestamp::now(), Uuid::try_parse(subject).unwrap_or_default());
        let version: u64 = id.rsplit('/').next().and_then(|version| version.parse().ok()).unwrap_or_default();
        let salt = if is_reply { salt::REPLY } else { salt::EVENT } ^ version.rotate_left(32);
        Some(Self {
            // With the time, because an event may be published more than once.
            context: publisher.derive(random_half(task) ^ salt ^ moment(sent)),
            parent: if is_reply { publisher } else { publisher.process(task) },
            id: id.to_owned(),
            kind: EventKind::from_name(kind),
            is_reply,
            sent,
            confirmed: sent,
        })
    }
}

/// When the transaction of a batch began and ended.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// When it had its permit.
    pub began: Timestamp,
    /// When its COMMIT was confirmed.
    pub ended: Timestamp,
}

/// Where records of sampled tasks go; nowhere by default.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Queue>);

#[derive(Clone)]
struct Queue {
    records: Sender<Record>,
    dropped: Counter,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Queue {
    fn record(&self, record: Record) {
        if let Err(refused) = self.records.try_send(record) {
            self.dropped.increment(refused.into_inner().spans());
        }
    }
}

impl Traces {
    /// Creates a queue of at most `capacity` records. What does not fit is counted as `dropped`.
    pub fn queue(capacity: usize, dropped: Counter) -> (Self, Receiver<Record>) {
        let (records, receiver) = channel(capacity);
        (Self(Some(Queue { records, dropped })), receiver)
    }

    /// Returns whether anything is recorded.
    pub const fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the time, if anything is recorded.
    pub fn now(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|_| Timestamp::now())
    }

    /// Records what was published.
    pub fn published(&self, event: EventRecord) {
        if let Some(queue) = &self.0 {
            queue.record(Record::Event(event));
        }
    }

    /// Begins the records of a committed batch of `size` tasks. With no `commit`, which traces that are off do not
    /// measure, nothing is recorded.
    pub fn batch(&self, size: usize, commit: Option<Commit>) -> BatchTraces<'_> {
        let open = |(queue, commit)| OpenBatch { queue, commit, size, context: None, links: Vec::new(), unlinked: 0 };
        BatchTraces(self.0.as_ref().zip(commit).map(open))
    }
}

/// Records the tasks of a committed batch, and the batch when it is dropped.
#[derive(Debug)]
pub struct BatchTraces<'t>(Option<OpenBatch<'t>>);

#[derive(Debug)]
struct OpenBatch<'t> {
    queue: &'t Queue,
    commit: Commit,
    size: usize,
    /// The batch's span, once a sampled task was seen.
    context: Option<Context>,
    links: Vec<Context>,
    unlinked: u32,
}

impl BatchTraces<'_> {
    /// Records a task that was taken from the queue and is settled now. Without an outcome it waits, and its span ends
    /// later.
    pub fn settled(&mut self, message: &Message, outcome: Option<Outcome>) {
        if let (Some(batch), Some(outcome)) = (&mut self.0, outcome) {
            batch.task(message, outcome, false);
        }
    }

    /// Records a task that had waited as scheduled or parked.
    pub fn resumed(&mut self, message: &Message, outcome: Option<Outcome>) {
        if let (Some(batch), Some(outcome)) = (&mut self.0, outcome) {
            batch.task(message, outcome, true);
        }
    }
}

impl OpenBatch<'_> {
    fn task(&mut self, message: &Message, outcome: Outcome, resumes: bool) {
        let Some(publisher) = message.properties.traceparent.as_deref().and_then(Context::sampled) else { return };
        let content = message.content.as_ref();
        let named = || message.properties.message_id.as_ref().and_then(MessageId::uuid);
        let task =
            content.map_or_else(|letter| letter.task_id.or_else(named), |task| Some(task.id)).unwrap_or_default();
        let (first, settled) = (publisher.process(task), Timestamp::now());
        let is_repeated = resumes || outcome == Outcome::Duplicate;
        let context = if is_repeated { first.derive(salt::AGAIN ^ moment(settled)) } else { first };
        let batch = *self.context.get_or_insert_with(|| batch_of(context, self.commit));
        if self.links.len() < MOST_LINKS {
            self.links.push(context);
        } else {
            self.unlinked += 1;
        }
        self.queue.record(Record::Task(TaskRecord {
            context,
            publisher,
            parent: if resumes { first } else { publisher },
            task,
            payment: content.ok().and_then(|task| task.body.payment_id()).unwrap_or(task),
            task_type: content.ok().map(|task| task.body.task_type()),
            outcome,
            resumes,
            published: message.published_at(),
            taken: message.received_at,
            settled,
            commit: self.commit,
            batch,
        }));
    }
}

/// Returns the span of a batch, in a trace of its own: it belongs to all its tasks.
fn batch_of(first: Context, commit: Commit) -> Context {
    let moment = moment(commit.ended) ^ salt::BATCH;
    let trace = first.trace ^ (u128::from(first.span) << 64 | u128::from(moment));
    Context { trace: if trace == 0 { 1 } else { trace }, ..first.derive(moment) }
}

impl Drop for BatchTraces<'_> {
    fn drop(&mut self) {
        let Some(OpenBatch { queue, commit, size, context: Some(context), links, unlinked }) = self.0.take() else {
            return;
        };
        queue.record(Record::Batch(BatchRecord { context, size, commit, links, unlinked }));
    }
}

#[cfg(test)]
mod tests {
    use settled_core::contract::Properties;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const TASK: &str = "01a1f9c1-3010-7d47-8e4f-3ec2bf1b7dd2";

    fn message(traceparent: Option<&str>, id: &str) -> Message {
        let body = format!(
            r#"{{"id":"{id}","type":"transfer","debit_account":"a","credit_account":"b","amount":1,"currency":"USD"}}"#
        );
        let properties = Properties { traceparent: traceparent.map(Into::into), ..Properties::default() };
        let message = Message::read(body.into_bytes(), properties, Timestamp::now());
        assert!(message.content.is_ok(), "{:?}", message.content);
        message
    }

    fn commit() -> Option<Commit> {
        let now = Timestamp::now();
        Some(Commit { began: now, ended: now })
    }

    #[test]
    fn a_sampled_context_is_read_and_written_as_it_was() {
        let context = Context::sampled(PARENT).expect("valid");
        assert_eq!((context.span, context.flags), (0xb7ad_6b71_6920_3331, 1));
        assert_eq!(context.to_string(), PARENT);
        // That the id is random is passed on, flags that nobody knows are not.
        for (flags, kept) in [("03", "03"), ("09", "01"), ("ff", "03")] {
            let context = Context::sampled(&PARENT.replace("-01", &format!("-{flags}"))).expect("sampled");
            assert!(context.to_string().ends_with(&format!("-{kept}")), "{context}");
        }
        assert_eq!(Context::sampled(&PARENT.replacen("00", "cc", 1)), Some(context), "a later version");
        assert_eq!(Context::sampled(&(PARENT.replacen("00", "cc", 1) + "-what-follows")), Some(context));
    }

    #[test]
    fn what_is_not_sampled_or_not_valid_has_no_context() {
        for wrong in [
            "",
            "00",
            "00-1-2-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            "é0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Context::sampled(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_derived_span_is_never_zero() {
        let context = Context::sampled(PARENT).expect("valid");
        assert_eq!(context.derive(context.span).span, context.span);
        assert_ne!(context.derive(7).span, context.span);
    }

    #[test]
    fn an_event_names_the_span_of_its_task_and_a_repetition_has_one_of_its_own() {
        let (traces, mut records) = Traces::queue(10, Counter::noop());
        for outcome in [Outcome::Settled, Outcome::Duplicate] {
            traces.batch(1, commit()).settled(&message(Some(PARENT), TASK), Some(outcome));
        }
        traces.batch(1, commit()).resumed(&message(Some(PARENT), TASK), Some(Outcome::Settled));
        let mut tasks = Vec::new();
        while let Ok(record) = records.try_recv() {
            if let Record::Task(task) = record {
                tasks.push(task);
            }
        }
        let [first, again, resumed] = &tasks[..] else { panic!("{tasks:?}") };
        assert!(first.context.span != again.context.span && again.context.span != resumed.context.span);
        assert_eq!((first.parent, again.parent), (first.publisher, first.publisher));
        assert_eq!(resumed.parent, first.context);
        let id = format!("{TASK}/1");
        let begin = |is_reply| EventRecord::begin(PARENT, (TASK, &id), "payment.settled", is_reply).expect("sampled");
        let (event, reply) = (begin(false), begin(true));
        assert_eq!((event.parent, reply.parent), (first.context, first.publisher));
        assert_ne!(event.context.span, reply.context.span);
    }

    #[test]
    fn a_batch_links_to_128_of_its_sampled_tasks_and_counts_the_others() {
        let (traces, mut records) = Traces::queue(1000, Counter::noop());
        let mut batch = traces.batch(300, commit());
        for _ in 0..150 {
            batch.settled(&message(Some(PARENT), &Uuid::now_v7().to_string()), Some(Outcome::Settled));
            batch.settled(&message(None, &Uuid::now_v7().to_string()), Some(Outcome::Settled));
            batch.settled(&message(Some(PARENT), &Uuid::now_v7().to_string()), None);
        }
        drop(batch);
        let (mut tasks, mut batches) = (Vec::new(), Vec::new());
        while let Ok(record) = records.try_recv() {
            match record {
                Record::Task(task) => tasks.push(task),
                Record::Batch(batch) => batches.push(batch),
                Record::Event(event) => panic!("{event:?}"),
            }
        }
        let [batch] = &batches[..] else { panic!("{batches:?}") };
        assert_eq!((tasks.len(), batch.size, batch.links.len(), batch.unlinked), (150, 300, MOST_LINKS, 22));
        assert!(tasks.iter().all(|task| task.batch == batch.context && task.context.trace != batch.context.trace));
        assert!(batch.links.iter().eq(tasks[..MOST_LINKS].iter().map(|task| &task.context)));
    }

    #[test]
    fn a_batch_without_a_sampled_task_is_not_recorded() {
        let (traces, mut records) = Traces::queue(10, Counter::noop());
        traces.batch(1, commit()).settled(&message(None, TASK), Some(Outcome::Settled));
        Traces::default().batch(1, None).settled(&message(Some(PARENT), TASK), Some(Outcome::Settled));
        assert!(records.try_recv().is_err());
    }
}
