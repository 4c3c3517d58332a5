//! Scheduled and parked tasks, like the table `agenda`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use settled_pipeline::store::Due;
use settled_store::decision::Life;
use uuid::Uuid;

use super::Memory;

/// Delay before the first check of a parked task. It doubles with each check.
const FIRST_LOOK: SignedDuration = SignedDuration::from_millis(100);

#[derive(Clone, Debug)]
pub(super) struct AgendaRow {
    pub(super) due_at: Timestamp,
    pub(super) waits_for: Option<Uuid>,
    pub(super) woken: i32,
    looked: u32,
}

impl Memory {
    /// Returns the tasks and holds that are due, oldest first.
    pub fn due(&self, most: usize, now: Timestamp) -> Due {
        let mut due: Vec<_> = self.agenda.iter().filter(|(_, row)| row.due_at <= now).collect();
        due.sort_by_key(|(id, row)| (row.due_at, **id));
        let message = |id: &Uuid| self.stored.get(id).map(|stored| stored.message.clone());
        let tasks: Vec<_> = due.into_iter().take(most).filter_map(|(id, _)| message(id)).collect();
        let mut out: Vec<_> = self.holds().filter(|(_, until)| *until <= now).collect();
        out.sort_by_key(|(payment, until)| (*until, payment.id));
        let expired: Vec<_> = out.into_iter().take(most).map(|(payment, _)| payment.id).collect();
        let more = tasks.len() >= most || expired.len() >= most;
        Due { tasks, expired, more }
    }

    pub fn postpone(&mut self, task: Uuid, by: Duration, now: Timestamp) {
        if let Some(row) = self.agenda.get_mut(&task) {
            row.due_at = now + by;
        }
    }

    /// Returns the number of scheduled and parked tasks.
    pub fn waiting(&self) -> usize {
        self.agenda.len()
    }

    /// Applies the changes of a batch, in the order of its SQL statements. Returns how many waiting tasks were woken.
    pub(super) fn write_agenda(&mut self, life: &Life<'_>, now: Timestamp) -> u64 {
        for id in &life.agenda_done {
            self.agenda.remove(id);
        }
        for row in &life.agenda {
            let due_at = row.waits_for.map_or(row.deadline, |_| row.deadline.min(now + FIRST_LOOK));
            self.agenda.insert(row.task, AgendaRow { due_at, waits_for: row.waits_for, woken: 0, looked: 0 });
        }
        for row in &life.agenda_again {
            let Some(own) = self.agenda.get_mut(&row.task).filter(|own| own.woken == row.woken) else { continue };
            let wait = FIRST_LOOK * 2_i32.pow(own.looked.min(13));
            (own.due_at, own.waits_for) = (row.deadline.min(now + wait), row.waits_for);
            own.looked += 1;
        }
        let mut woken = 0;
        for row in self.agenda.values_mut().filter(|row| row.waits_for.is_some_and(|id| life.wakes.contains(&id))) {
            row.due_at = now;
            row.woken += 1;
            woken += 1;
        }
        woken
    }
}
