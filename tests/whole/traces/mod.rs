//! Spans of sampled tasks, received over OTLP by a collector of the test.

mod collector;
mod outages;
mod trees;

use lapin::BasicProperties;
use settled_testkit::harness::amqp::table;
use settled_testkit::harness::{Publisher, Task};

/// The publisher's trace and span.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Returns the properties of a task whose trace has these flags.
fn traced(task: &Task, flags: &str) -> BasicProperties {
    let traceparent = format!("00-{TRACE}-{SPAN}-{flags}");
    let headers = table(&[("traceparent", traceparent.into()), ("tracestate", "vendor=1".into())]);
    Publisher::properties(task).with_headers(headers)
}
