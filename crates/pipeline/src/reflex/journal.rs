//! Keeps in the database what reflexes do, for whoever looks into it later.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::shutdown::sleep_unless;
use crate::store::{JournalEntry, JournalStore};

/// Entries that may wait for the database. Reflexes act a few times an hour, so more than this is never expected.
pub const MOST_WAITING: usize = 256;

/// How long a stopping daemon goes on writing entries.
const STOP_LIMIT: Duration = Duration::from_millis(500);

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
