//! Writes the messages of a load, in scenes.

use std::time::Duration;

use jiff::Timestamp;
use settled_testkit::harness::task::{Task, authorize, change, follow_up, open, split, transfer};
use uuid::Uuid;

use super::dice::Dice;
use super::message::{Kind, POISON, SHOP};

/// Writes the messages of a load.
pub(super) struct Author<'a> {
    dice: &'a Dice,
    plot: Plot,
    accounts: Vec<String>,
    bodies: Vec<(Kind, String)>,
}

/// Properties that all scenes of a load have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plot {
    /// Maximum amount of a payment, except of those that fund an account.
    pub(super) most: i64,
    /// Whether every message comes after those that it depends on.
    pub(super) is_orderly: bool,
    /// If the load has scheduled tasks: the end of the faults, in seconds since 1970.
    pub(super) until: Option<f64>,
    /// Whether some accounts are frozen, limited and closed while they pay and are paid.
    pub(super) has_changes: bool,
}

impl<'a> Author<'a> {
    pub(super) const fn new(dice: &'a Dice, plot: Plot) -> Self {
        Self { dice, plot, accounts: Vec::new(), bodies: Vec::new() }
    }

    /// Returns all messages, in order.
    pub(super) fn write_all(mut self) -> Vec<(Kind, String)> {
        self.task(open("world", "USD", None));
        self.accounts.push("world".to_owned());
        for _ in 0..self.dice.between(3, 40) {
            self.scene();
        }
        self.bodies
    }

    /// Adds a message whose id depends on the seed only. Returns the task that it contains.
    fn write(&mut self, kind: Kind, task: Task) -> Task {
        let task = task.identified(Uuid::from_u128(self.dice.bits()));
        self.bodies.push((kind, task.body()));
        task
    }

    fn task(&mut self, task: Task) -> Task {
        self.write(Kind::Task, task)
    }

    fn account(&self) -> String {
        self.accounts[self.dice.between(0, self.accounts.len() - 1)].clone()
    }

    fn two(&self) -> Option<(String, String)> {
        let (debit, credit) = (self.account(), self.account());
        (debit != credit).then_some((debit, credit))
    }

    fn amount(&self) -> i64 {
        self.up_to(self.plot.most)
    }

    fn up_to(&self, most: i64) -> i64 {
        self.dice.between(1, most as usize) as i64
    }

    /// Writes messages that belong together.
    fn scene(&mut self) {
        let amount = self.amount();
        match self.dice.between(0, 25) {
            // Open, fund and spend, one directly after the other.
            0..=3 => {
                let name = format!("customer:{}", self.accounts.len());
                self.task(open(&name, "USD", Some(0)));
                self.task(transfer("world", &name, 100));
                let to = self.account();
                self.task(transfer(&name, &to, amount));
                self.accounts.push(name);
            }
            4..=8 => {
                if let Some((debit, credit)) = self.two() {
                    self.task(transfer(&debit, &credit, amount));
                }
            }
            9 | 10 => self.hold(),
            11 | 12 => self.repeat(),
            13 => {
                let fraction = amount as f64 + 0.5;
                self.write(Kind::Malformed, transfer("world", "nobody", amount).with("amount", fraction));
            }
            14 => {
                if let Some((debit, credit)) = self.two() {
                    self.write(Kind::Poison, transfer(&debit, &credit, amount).with("reference", POISON));
                }
            }
            16 | 17 => self.refund(),
            18 => self.legs(),
            19 | 20 => match self.plot.until {
                Some(until) => self.timed(until),
                None => self.refund(),
            },
            22 | 23 if self.plot.has_changes => self.shop(),
            22..=25 => self.chargeback(),
            _ if self.dice.chance(0.2) => {
                self.write(Kind::Unreadable, transfer("world", "nobody", amount));
            }
            _ => {
                self.task(transfer("nobody", "world", amount));
            }
        }
    }

    fn hold(&mut self) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let parent = self.task(authorize(&debit, &credit, amount));
        let action = if self.dice.chance(0.7) { "capture" } else { "void" };
        self.task(follow_up(action, &parent, None));
        self.turn_round();
    }

    /// Sometimes exchanges the last two messages, if order doesn't matter.
    fn turn_round(&mut self) {
        if !self.plot.is_orderly && self.dice.chance(0.3) {
            let last = self.bodies.len() - 1;
            self.bodies.swap(last - 1, last);
        }
    }

    /// Writes a payment that is refunded partly or completely. If order doesn't matter, there can be two refunds,
    /// which may exceed the payment.
    fn refund(&mut self) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let parent = self.task(transfer(&debit, &credit, amount));
        let parts = if self.plot.is_orderly { 1 } else { self.dice.between(1, 2) };
        for _ in 0..parts {
            let part = self.up_to(amount);
            self.task(follow_up("refund", &parent, Some(part)));
        }
        self.turn_round();
    }

    /// Writes a payment with a chargeback, which is sometimes partly reversed.
    fn chargeback(&mut self) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let parent = self.task(transfer(&debit, &credit, amount));
        let back = self.up_to(amount);
        self.task(follow_up("chargeback", &parent, Some(back)));
        self.turn_round();
        if self.dice.chance(0.5) {
            let again = self.up_to(back);
            self.task(follow_up("chargeback_reversal", &parent, Some(again)));
            self.turn_round();
        }
    }

    /// Writes an account that is changed while it pays and is paid. Its only counterparty is `world`, which has no
    /// limit. There are no chargeback reversals: if the chargeback is declined, they would wait in vain.
    fn shop(&mut self) {
        let shop = format!("{SHOP}{}", self.bodies.len());
        self.task(open(&shop, "USD", Some(0)));
        for _ in 0..self.dice.between(2, 10) {
            let amount = self.amount();
            match self.dice.between(0, 10) {
                0 | 1 => self.task(transfer("world", &shop, amount)),
                2 | 3 => self.task(transfer(&shop, "world", amount)),
                4 => {
                    let parent = self.task(authorize(&shop, "world", amount));
                    match self.dice.between(0, 2) {
                        0 => self.task(follow_up("capture", &parent, None)),
                        1 => self.task(follow_up("void", &parent, None)),
                        // The amount stays held.
                        _ => parent,
                    }
                }
                5 => {
                    let parent = self.task(transfer("world", &shop, amount));
                    self.task(follow_up("chargeback", &parent, Some(amount)))
                }
                6 => {
                    let limit = if self.dice.chance(0.5) { "min_balance" } else { "max_balance" };
                    self.task(change("set_limits", &shop).with(limit, amount))
                }
                7 => self.task(change("close_account", &shop)),
                8 => self.task(change("unfreeze_account", &shop)),
                _ => self.task(change("freeze_account", &shop)),
            };
            self.turn_round();
        }
    }

    /// Writes a payment with several legs.
    fn legs(&mut self) {
        let pairs: Vec<_> = (0..self.dice.between(2, 4)).filter_map(|_| self.two()).collect();
        let legs = pairs.iter().map(|(debit, credit)| (debit.as_str(), credit.as_str(), self.amount()));
        let legs: Vec<_> = legs.collect();
        if !legs.is_empty() {
            self.task(split(&legs));
        }
    }

    /// Writes tasks that depend on time: scheduled payments, one of them canceled, payments that wait for others, and
    /// holds that expire.
    fn timed(&mut self, until: f64) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let at = until - self.dice.span(Duration::from_secs(8)).as_secs_f64();
        let at = Timestamp::from_millisecond((at * 1000.0) as i64).expect("a time");
        let later = || transfer(&debit, &credit, amount).with("execute_at", at.to_string());
        match self.dice.between(0, 3) {
            0 => {
                self.task(later());
            }
            1 => {
                let parent = self.task(later());
                self.task(follow_up("cancel", &parent, None));
                self.turn_round();
            }
            2 => {
                let first = self.task(later());
                self.task(transfer(&debit, &credit, amount).with("after", first.id.to_string()));
                self.turn_round();
            }
            _ => {
                let expiry = self.dice.between(1, 4);
                let parent = self.task(authorize(&debit, &credit, amount).with("expires_in", expiry));
                if self.dice.chance(0.5) {
                    self.task(follow_up("capture", &parent, None));
                    // Move the capture to any position, so that it may come too late.
                    let (last, other) = (self.bodies.len() - 1, self.dice.between(1, self.bodies.len() - 1));
                    self.bodies.swap(last, other);
                }
            }
        }
    }

    /// Repeats an earlier task: unchanged, formatted differently, or with other content.
    fn repeat(&mut self) {
        let tasks: Vec<&String> =
            self.bodies.iter().filter(|(kind, _)| *kind == Kind::Task).map(|(_, body)| body).collect();
        let first = tasks[self.dice.between(0, tasks.len() - 1)].clone();
        let (kind, body) = match self.dice.between(0, 2) {
            0 => (Kind::Task, first),
            1 => (Kind::Task, first.replace(r#""type""#, r#" "type""#).replace("}", " }")),
            // Don't change the amount: a reversal could wait for it in vain.
            _ if first.contains("chargeback") => {
                (Kind::Altered, first.replace(r#""type""#, r#""reference":"other","type""#))
            }
            _ if first.contains(r#""amount":"#) => (Kind::Altered, first.replace(r#""amount":"#, r#""amount":1"#)),
            _ => return,
        };
        self.bodies.push((kind, body));
    }
}
