//! Makes the ledger's items of submissions: pure.

use std::collections::HashMap;

use smallvec::SmallVec;
use uuid::Uuid;

use settled_core::contract::{Access, AccountName, Authority, Task};
use settled_core::ledger::{AccountIx, Arrival, Item};
use settled_pipeline::store::Submission;

/// The tasks of a batch, and the names of their accounts, each once.
pub struct Plan<'a> {
    pub names: Vec<&'a AccountName>,
    pub tasks: Vec<Planned<'a>>,
    /// The payments that its tasks refer to, and the tasks that are stored as waiting.
    pub referred: Vec<Uuid>,
}

/// A submission that has a task.
pub struct Planned<'a> {
    /// Its position in the batch.
    pub position: usize,
    arrival: Arrival,
    pub task: &'a Task,
    /// The places of its accounts in the plan's `names`.
    pairs: SmallVec<[(usize, usize); 1]>,
    resumes: bool,
    publisher: Option<&'a str>,
}

/// A batch with its accounts in the order in which they are locked.
pub struct Layout<'a> {
    /// Sorted, each once.
    pub account_ids: Vec<i64>,
    /// In the same order.
    pub names: Vec<&'a AccountName>,
    /// What the ledger applies, in the order of the batch.
    pub items: Vec<Item<'a>>,
}

impl<'a> Plan<'a> {
    pub fn of(batch: &[Submission<'a>]) -> Self {
        let mut places: HashMap<&AccountName, usize> = HashMap::with_capacity(batch.len() * 2);
        let mut names: Vec<&AccountName> = Vec::with_capacity(batch.len() * 2);
        let mut place = |name: &'a AccountName| {
            *places.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            })
        };
        let mut referred = Vec::new();
        let tasks = batch
            .iter()
            .enumerate()
            .filter_map(|(position, submission)| {
                let (arrival, task, resumes) = (submission.arrival, submission.content.ok()?, submission.resumes);
                referred.extend(task.refers_to());
                referred.extend(resumes.then_some(task.id));
                let pairs = task.body.account_pairs().map(|(debit, credit)| (place(debit), place(credit))).collect();
                let publisher = submission.message.properties.publisher.as_deref();
                Some(Planned { position, arrival, task, pairs, resumes, publisher })
            })
            .collect();
        Self { names, tasks, referred }
    }

    /// Lays the batch out: `ids` belong to `names`; `others` are the accounts of payments that it
    /// refers to.
    pub fn layout(&self, ids: &[i64], others: &'a [(i64, AccountName)]) -> Layout<'a> {
        let mut all: Vec<(i64, &'a AccountName)> = ids.iter().copied().zip(self.names.iter().copied()).collect();
        all.extend(others.iter().map(|(id, name)| (*id, name)));
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_unstable_by_key(|place| all[*place].0);
        let mut ranks = vec![AccountIx(0); all.len()];
        let (mut account_ids, mut names) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for place in order {
            let (id, name) = all[place];
            // One id of two names is one of another ledger; it stands here twice, and is found out when it is
            // locked.
            if account_ids.last() != Some(&id) || names.last() != Some(&name) {
                account_ids.push(id);
                names.push(name);
            }
            ranks[place] = AccountIx(account_ids.len() - 1);
        }
        let items = self.tasks.iter().map(|planned| Item {
            task: planned.task,
            arrival: planned.arrival,
            pairs: planned.pairs.iter().map(|(debit, credit)| (ranks[*debit], ranks[*credit])).collect(),
            resumes: planned.resumes,
            publisher: planned.publisher,
            access: Access::Everything,
        });
        Layout { items: items.collect(), account_ids, names }
    }
}

impl<'a> Layout<'a> {
    /// Sets which payments each task's publisher may act on.
    pub(super) fn restrict(&mut self, authority: &'a Authority, plan: &Plan<'a>, batch: &[Submission<'a>]) {
        if authority.publishers.is_empty() {
            return;
        }
        for (item, planned) in self.items.iter_mut().zip(&plan.tasks) {
            let properties = &batch[planned.position].message.properties;
            // One that waits was admitted when it came, by a version perhaps that kept no user_id.
            let is_verified = item.resumes || properties.user_id.is_some();
            item.access = authority.access(properties.publisher.as_deref(), is_verified);
        }
    }
}
