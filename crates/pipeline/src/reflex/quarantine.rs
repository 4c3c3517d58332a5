//! Publishers whose messages are set aside.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use settled_core::contract::{DeadLetter, DeadReason, Message};

use crate::metrics::Metrics;

/// The publishers in quarantine. Costs one load while there is none.
#[derive(Debug, Default)]
pub struct Quarantine {
    is_any: AtomicBool,
    names: RwLock<Vec<String>>,
}

impl Quarantine {
    /// Begins or ends the quarantine of a publisher of the settings.
    pub(super) fn set(&self, name: &str, begins: bool) {
        let mut names = self.names.write();
        names.retain(|own| own != name);
        if begins {
            names.push(name.to_owned());
        }
        self.is_any.store(!names.is_empty(), Ordering::Relaxed);
    }

    /// Turns a message of a publisher in quarantine into a dead letter that can be replayed. Of an oversize message only
    /// the beginning is kept, so it stays what it is.
    pub fn judge(&self, message: &mut Message, metrics: &Metrics) {
        if !self.is_any.load(Ordering::Relaxed) {
            return;
        }
        let publisher = metrics.publisher(&message.properties);
        if !self.names.read().contains(&publisher.name) {
            return;
        }
        let task_id = match &message.content {
            Err(letter) if letter.reason == DeadReason::Oversize => return,
            Err(letter) => letter.task_id,
            Ok(task) => Some(task.id),
        };
        let detail = format!("{:?} was in quarantine: too many of its messages were dead letters", publisher.name);
        message.content = Err(DeadLetter { reason: DeadReason::Quarantined, field: None, detail, task_id });
    }
}
