//! A stream that exists is used as it is, and what differs is said.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use settled_testkit::harness::World;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logged {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn each_argument_in_which_a_stream_differs_is_a_warning_and_the_stream_stays_as_it_is() {
    let world = World::new(&[]).await;
    append(&mut session(&world).await, 1..=1).await;
    let logged = Logged::default();
    let subscriber = tracing_subscriber::fmt().with_writer(logged.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let text = || String::from_utf8_lossy(&logged.0.lock()).into_owned();
    append(&mut session(&world).await, 2..=2).await;
    assert!(!text().contains("other arguments"), "{}", text());
    let other = StreamSettings {
        max_age: Duration::from_secs(3600),
        max_length_bytes: 1 << 30,
        segment_bytes: 1 << 24,
        ..settings(&world)
    };
    append(&mut StreamLog::new(broker(&world.amqp_uri), &other).open(NAME).await.expect("a session"), 3..=3).await;
    for part in [
        "x-max-age = 604800s, expected 3600s (stream.max_age)",
        "x-max-length-bytes = 10737418240, expected 1073741824 (stream.max_length_bytes)",
        "x-stream-max-segment-size-bytes = 104857600, expected 16777216 (stream.segment_bytes)",
    ] {
        assert!(text().contains(part), "no {part:?}: {}", text());
    }
    assert!(!text().contains("leader-locator"), "{}", text());
    assert_eq!(numbers(&world, 3).await, [1, 2, 3]);
}
