//! Writes the messages of a load, in scenes.

use std::time::Duration;

use jiff::Timestamp;
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
    pub(super) most: usize,
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
        self.write(Kind::Task, |id| open(id, "world", r#""none""#));
        self.accounts.push("world".to_owned());
        for _ in 0..self.dice.between(3, 40) {
            self.scene();
        }
        self.bodies
    }

    fn write(&mut self, kind: Kind, body: impl FnOnce(Uuid) -> String) -> Uuid {
        let id = Uuid::from_u128(self.dice.bits());
        self.bodies.push((kind, body(id)));
        id
    }

    fn account(&self) -> String {
        self.accounts[self.dice.between(0, self.accounts.len() - 1)].clone()
    }

    fn two(&self) -> Option<(String, String)> {
        let (debit, credit) = (self.account(), self.account());
        (debit != credit).then_some((debit, credit))
    }

    fn amount(&self) -> usize {
        self.dice.between(1, self.plot.most)
    }

    /// Writes messages that belong together.
    fn scene(&mut self) {
        let amount = self.amount();
        match self.dice.between(0, 25) {
            // Open, fund and spend, one directly after the other.
            0..=3 => {
                let name = format!("customer:{}", self.accounts.len());
                self.write(Kind::Task, |id| open(id, &name, "0"));
                self.write(Kind::Task, |id| transfer(id, "world", &name, 100, ""));
                let to = self.account();
                self.write(Kind::Task, |id| transfer(id, &name, &to, amount, ""));
                self.accounts.push(name);
            }
            4..=8 => {
                if let Some((debit, credit)) = self.two() {
                    self.write(Kind::Task, |id| transfer(id, &debit, &credit, amount, ""));
                }
            }
            9 | 10 => self.hold(),
            11 | 12 => self.repeat(),
            13 => {
                self.write(Kind::Malformed, |id| format!(r#"{{"id":"{id}","type":"transfer","amount":{amount}.5}}"#));
            }
            14 => {
                if let Some((debit, credit)) = self.two() {
                    self.write(Kind::Poison, |id| transfer(id, &debit, &credit, amount, POISON));
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
                self.write(Kind::Unreadable, |id| transfer(id, "world", "nobody", amount, ""));
            }
            _ => {
                self.write(Kind::Task, |id| transfer(id, "nobody", "world", amount, ""));
            }
        }
    }

    fn hold(&mut self) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let parent = self.write(Kind::Task, |id| authorize(id, &debit, &credit, amount));
        let action = if self.dice.chance(0.7) { "capture" } else { "void" };
        self.write(Kind::Task, |id| follow_up(id, action, parent, ""));
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
        let parent = self.write(Kind::Task, |id| transfer(id, &debit, &credit, amount, ""));
        let parts = if self.plot.is_orderly { 1 } else { self.dice.between(1, 2) };
        for _ in 0..parts {
            let part = part(self.dice.between(1, amount));
            self.write(Kind::Task, |id| follow_up(id, "refund", parent, &part));
        }
        self.turn_round();
    }

    /// Writes a payment with a chargeback, which is sometimes partly reversed.
    fn chargeback(&mut self) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let parent = self.write(Kind::Task, |id| transfer(id, &debit, &credit, amount, ""));
        let back = self.dice.between(1, amount);
        self.write(Kind::Task, |id| follow_up(id, "chargeback", parent, &part(back)));
        self.turn_round();
        if self.dice.chance(0.5) {
            let again = self.dice.between(1, back);
            self.write(Kind::Task, |id| follow_up(id, "chargeback_reversal", parent, &part(again)));
            self.turn_round();
        }
    }

    /// Writes an account that is changed while it pays and is paid. Its only counterparty is `world`, which has no
    /// limit. There are no chargeback reversals: if the chargeback is declined, they would wait in vain.
    fn shop(&mut self) {
        let shop = format!("{SHOP}{}", self.bodies.len());
        self.write(Kind::Task, |id| open(id, &shop, "0"));
        for _ in 0..self.dice.between(2, 10) {
            let amount = self.amount();
            match self.dice.between(0, 10) {
                0 | 1 => self.write(Kind::Task, |id| transfer(id, "world", &shop, amount, "")),
                2 | 3 => self.write(Kind::Task, |id| transfer(id, &shop, "world", amount, "")),
                4 => {
                    let parent = self.write(Kind::Task, |id| authorize(id, &shop, "world", amount));
                    match self.dice.between(0, 2) {
                        0 => self.write(Kind::Task, |id| follow_up(id, "capture", parent, "")),
                        1 => self.write(Kind::Task, |id| follow_up(id, "void", parent, "")),
                        // The amount stays held.
                        _ => parent,
                    }
                }
                5 => {
                    let parent = self.write(Kind::Task, |id| transfer(id, "world", &shop, amount, ""));
                    self.write(Kind::Task, |id| follow_up(id, "chargeback", parent, &part(amount)))
                }
                6 => {
                    let limit = if self.dice.chance(0.5) { "min_balance" } else { "max_balance" };
                    self.write(Kind::Task, |id| change(id, "set_limits", &shop, &format!(r#","{limit}":{amount}"#)))
                }
                7 => self.write(Kind::Task, |id| change(id, "close_account", &shop, "")),
                8 => self.write(Kind::Task, |id| change(id, "unfreeze_account", &shop, "")),
                _ => self.write(Kind::Task, |id| change(id, "freeze_account", &shop, "")),
            };
            self.turn_round();
        }
    }

    /// Writes a payment with several legs.
    fn legs(&mut self) {
        let pairs: Vec<_> = (0..self.dice.between(2, 4)).filter_map(|_| self.two()).collect();
        let legs = pairs.iter().map(|(debit, credit)| {
            let amount = self.amount();
            format!(r#"{{"debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"}}"#)
        });
        let legs = legs.collect::<Vec<_>>().join(",");
        if !legs.is_empty() {
            self.write(Kind::Task, |id| format!(r#"{{"id":"{id}","type":"transfer","legs":[{legs}]}}"#));
        }
    }

    /// Writes tasks that depend on time: scheduled payments, one of them canceled, payments that wait for others, and
    /// holds that expire.
    fn timed(&mut self, until: f64) {
        let Some((debit, credit)) = self.two() else { return };
        let amount = self.amount();
        let at = until - self.dice.span(Duration::from_secs(8)).as_secs_f64();
        let at = Timestamp::from_millisecond((at * 1000.0) as i64).expect("a time");
        let with = |task: String, more: &str| format!("{},{more}}}", task.trim_end_matches('}'));
        let date = format!(r#""execute_at":"{at}""#);
        match self.dice.between(0, 3) {
            0 => {
                self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &date));
            }
            1 => {
                let parent = self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &date));
                self.write(Kind::Task, |id| follow_up(id, "cancel", parent, ""));
                self.turn_round();
            }
            2 => {
                let first = self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &date));
                let after = format!(r#""after":"{first}""#);
                self.write(Kind::Task, |id| with(transfer(id, &debit, &credit, amount, ""), &after));
                self.turn_round();
            }
            _ => {
                let expiry = format!(r#""expires_in":{}"#, self.dice.between(1, 4));
                let parent = self.write(Kind::Task, |id| with(authorize(id, &debit, &credit, amount), &expiry));
                if self.dice.chance(0.5) {
                    self.write(Kind::Task, |id| follow_up(id, "capture", parent, ""));
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

fn open(id: Uuid, account: &str, min_balance: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"open_account","account":"{account}","currency":"USD","min_balance":{min_balance}}}"#
    )
}

fn transfer(id: Uuid, debit: &str, credit: &str, amount: usize, reference: &str) -> String {
    let reference = if reference.is_empty() { String::new() } else { format!(r#","reference":"{reference}""#) };
    format!(
        r#"{{"id":"{id}","type":"transfer","debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"{reference}}}"#
    )
}

fn authorize(id: Uuid, debit: &str, credit: &str, amount: usize) -> String {
    format!(
        r#"{{"id":"{id}","type":"authorize","debit_account":"{debit}","credit_account":"{credit}","amount":{amount},"currency":"USD"}}"#
    )
}

fn follow_up(id: Uuid, kind: &str, payment: Uuid, more: &str) -> String {
    format!(r#"{{"id":"{id}","type":"{kind}","payment_id":"{payment}"{more}}}"#)
}

/// Returns the field for the amount of a follow-up.
fn part(amount: usize) -> String {
    format!(r#","amount":{amount}"#)
}

fn change(id: Uuid, kind: &str, account: &str, more: &str) -> String {
    format!(r#"{{"id":"{id}","type":"{kind}","account":"{account}"{more}}}"#)
}
