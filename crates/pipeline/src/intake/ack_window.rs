//! Decides which deliveries of a channel to acknowledge: one multiple ack for the contiguous settled prefix, and
//! single acks only when one unsettled delivery blocks too many settled ones.
//!
//! Invariant: no acknowledgement covers a delivery that isn't settled.

use std::collections::VecDeque;

/// An acknowledgement to send to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Acknowledges all deliveries up to and including this tag.
    Multiple(u64),
    /// Acknowledges only the delivery with this tag.
    Single(u64),
}

/// The unacknowledged deliveries of one channel, oldest first. The prefetch limits their number.
#[derive(Debug)]
pub struct AckWindow {
    open: VecDeque<(u64, bool)>,
    settled: usize,
    straggler_limit: usize,
}

impl AckWindow {
    /// Creates a window in which up to `straggler_limit` settled deliveries wait behind an unsettled one.
    pub const fn new(straggler_limit: usize) -> Self {
        Self { open: VecDeque::new(), settled: 0, straggler_limit }
    }

    /// Adds a delivery. Its tag must be greater than all before.
    pub fn deliver(&mut self, tag: u64) {
        debug_assert!(self.open.back().is_none_or(|(last, _)| *last < tag), "tags grow");
        self.open.push_back((tag, false));
    }

    /// Marks a delivery as settled: its outcome is committed.
    pub fn settle(&mut self, tag: u64) {
        if let Ok(place) = self.open.binary_search_by_key(&tag, |(tag, _)| *tag) {
            self.settled += usize::from(!std::mem::replace(&mut self.open[place].1, true));
        }
    }

    /// Returns the number of deliveries that are settled and not acknowledged.
    pub const fn lag(&self) -> usize {
        self.settled
    }

    /// Appends the acknowledgements that are due to `acks`.
    pub fn flush(&mut self, acks: &mut Vec<Ack>) {
        acks.extend(self.flush_prefix());
        if self.settled > self.straggler_limit {
            self.flush_singly(acks);
        }
    }

    /// Returns one acknowledgement for the settled prefix, if there is one.
    pub fn flush_prefix(&mut self) -> Option<Ack> {
        let prefix = self.open.iter().take_while(|(_, settled)| *settled).count();
        let last = self.open.drain(..prefix).next_back();
        self.settled -= prefix;
        last.map(|(tag, _)| Ack::Multiple(tag))
    }

    /// Appends a single acknowledgement for each settled delivery, including those behind an unsettled one.
    pub fn flush_singly(&mut self, acks: &mut Vec<Ack>) {
        self.open.retain(|(tag, settled)| {
            if *settled {
                acks.push(Ack::Single(*tag));
            }
            !settled
        });
        self.settled = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_multiple_ack_covers_the_settled_prefix() {
        let mut window = AckWindow::new(10);
        (1..=5).for_each(|tag| window.deliver(tag));
        let mut acks = Vec::new();
        [2, 3, 5].into_iter().for_each(|tag| window.settle(tag));
        window.flush(&mut acks);
        assert!(acks.is_empty(), "1 holds the others up");
        window.settle(1);
        window.flush(&mut acks);
        assert_eq!(acks, [Ack::Multiple(3)]);
        assert_eq!(window.lag(), 1);
    }

    #[test]
    fn a_straggler_makes_the_others_single() {
        let mut window = AckWindow::new(2);
        (1..=4).for_each(|tag| window.deliver(tag));
        let mut acks = Vec::new();
        [2, 3, 4].into_iter().for_each(|tag| window.settle(tag));
        window.flush(&mut acks);
        assert_eq!(acks, [Ack::Single(2), Ack::Single(3), Ack::Single(4)]);
        window.deliver(5);
        window.settle(5);
        window.settle(1);
        acks.clear();
        window.flush(&mut acks);
        assert_eq!(acks, [Ack::Multiple(5)]);
    }

    proptest! {
        #[test]
        fn exactly_the_settled_are_acknowledged_and_each_once(
            order in Just((1..=60u64).collect::<Vec<_>>()).prop_shuffle(),
            unsettled in 0usize..30,
            limit in 0usize..20,
            every in 1usize..10,
        ) {
            let mut window = AckWindow::new(limit);
            (1..=60).for_each(|tag| window.deliver(tag));
            let (mut settled, mut acked) = (BTreeSet::new(), BTreeSet::new());
            for (step, tag) in order.into_iter().skip(unsettled).enumerate() {
                window.settle(tag);
                settled.insert(tag);
                let mut acks = Vec::new();
                if step % every == 0 {
                    window.flush(&mut acks);
                }
                for ack in acks {
                    let covered: Vec<u64> = match ack {
                        Ack::Multiple(last) => (1..=last).filter(|tag| !acked.contains(tag)).collect(),
                        Ack::Single(tag) => vec![tag],
                    };
                    for tag in covered {
                        prop_assert!(settled.contains(&tag), "{tag} isn't settled");
                        prop_assert!(acked.insert(tag), "{tag} twice");
                    }
                }
            }
            let mut rest = Vec::new();
            window.flush(&mut rest);
            window.flush_singly(&mut rest);
            prop_assert_eq!(window.lag(), 0);
        }
    }
}
