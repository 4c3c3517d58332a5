//! Keeps in the database what reflexes do, for whoever looks into it later.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::{Reflex, ReflexAction};
use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::shutdown::sleep_unless;
use crate::store::JournalStore;

/// Entries that may wait for the database. Reflexes act a few times an hour, so more than this is never expected.
pub const MOST_WAITING: usize = 256;

/// How long a stopping daemon goes on writing entries.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// Something that a reflex did, or would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The same each time it is written, so that a repetition changes nothing.
    pub id: Uuid,
    /// When, by the daemon's clock.
    pub at: Timestamp,
    /// Which reflex.
    pub reflex: Reflex,
    /// What it did.
    pub action: ReflexAction,
    /// The publisher, for a reflex that is about one.
    pub publisher: Option<String>,
    /// The cause; of an action that is undone, why.
    pub reason: String,
}

/// Writes the entries in their order until `stop` is cancelled. While the database is away they wait; the log has them
/// anyway, and nothing else depends on this.
pub async fn keep(
    store: impl JournalStore,
    mut entries: mpsc::Receiver<JournalEntry>,
    retry: Live<RetrySettings>,
    stop: CancellationToken,
) {
    let mut delays = Delays::new(&retry);
    while let Some(Some(entry)) = stop.run_until_cancelled(entries.recv()).await {
        while let Err(error) = store.record(&entry).await {
            if !sleep_unless(&stop, delays.next_delay()).await {
                warn!(%error, reflex = entry.reflex.name(), "what a reflex did is in the log only");
                return;
            }
        }
        delays.reset();
    }
    // What was undone by the stop itself.
    let last = async {
        while let Ok(entry) = entries.try_recv() {
            let _ = store.record(&entry).await;
        }
    };
    let _ = tokio::time::timeout(STOP_LIMIT, last).await;
}
