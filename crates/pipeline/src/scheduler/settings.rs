//! `[payments]`: rules for holds, waiting tasks and accounts.

use std::time::Duration;

use jiff::SignedDuration;

use crate::section;
use crate::settings::{List, always};
use settled_core::contract::{AddedCurrency, Currencies};
use settled_core::ledger::Rules;

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

section! {
    /// Durations of holds and waits, and rules for accounts.
    pub struct PaymentSettings in "payments",
        "How long things may wait, and what a frozen account is. The same for all daemons.";

    /// How long an authorization holds money if it doesn't say so itself; at most longest_hold.
    pub hold: Duration = Duration::from_secs(7 * 24 * 3600) => Span(Duration::from_secs(1)..=YEAR), reloads(always);
    /// How long an authorization may hold money; one that asks for more is rejected.
    pub longest_hold: Duration = Duration::from_secs(31 * 24 * 3600) => Span(Duration::from_secs(1)..=YEAR), reloads(always);
    /// How long a task waits for the payment it acts on, or for the task it comes after, before it is rejected.
    pub parking: Duration = Duration::from_secs(15 * 60) => Span(Duration::from_millis(100)..=YEAR), reloads(always);
    /// Whether a frozen account can be paid. Nothing but a chargeback or its reversal debits it.
    pub frozen_takes_credits: bool = true => Flag(), reloads(always);
    /// Currencies beside the active ones of ISO 4217 in which accounts can be opened, each with the number of digits
    /// behind the decimal point: ["BTC:8"]. An account that is open keeps its currency, whatever is listed here.
    pub currencies: Currencies = Currencies::default() => List(), reloads(always);
    /// How often scheduled and parked tasks and holds that run out are looked for. What a commit makes due is looked at
    /// at once.
    pub interval: Duration = Duration::from_millis(200)
        => Span(Duration::from_millis(10)..=Duration::from_millis(1000));
}

impl PaymentSettings {
    /// Returns these settings as the rules of the ledger.
    pub fn rules(&self) -> Rules {
        let signed = |span: Duration| SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        Rules {
            hold: signed(self.hold),
            longest_hold: signed(self.longest_hold),
            parking: signed(self.parking),
            frozen_takes_credits: self.frozen_takes_credits,
            currencies: self.currencies.clone(),
        }
    }
}

impl List for Currencies {
    fn expected(&self) -> String {
        "codes, each with its digits: three capital letters, a colon, and a number from 0 to 12".to_owned()
    }

    fn replace(&mut self, texts: &[&str]) -> Result<(), (usize, String)> {
        let mut added: Vec<AddedCurrency> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let currency: AddedCurrency = text.parse().map_err(|why| (index, why))?;
            if added.iter().any(|other| other.currency() == currency.currency()) {
                return Err((index, format!("{} is there twice", currency.currency())));
            }
            added.push(currency);
        }
        *self = Self::with(added);
        Ok(())
    }

    fn show(&self) -> Vec<String> {
        self.added().iter().map(ToString::to_string).collect()
    }

    fn may_be_empty(&self) -> bool {
        true
    }
}
