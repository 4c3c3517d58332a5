//! What becomes of the payments of a load, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use settled_core::contract::Leg;

use crate::values::{duration, share};

/// A case: a payment, and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Transfer,
    /// A hold, and its final capture: of all of it, or of a part while the rest is released.
    AuthorizeCapture,
    /// A hold, and two captures that share it.
    AuthorizeCaptureParts,
    AuthorizeVoid,
    /// A transfer, or a hold and its capture, of which all or a part goes back.
    Refund,
    /// A transfer that is charged back, and perhaps a reversal of that.
    Chargeback,
    /// A transfer for the next day that is called off.
    Cancel,
    Legs(u8),
}

/// How many of the cases are of which kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kinds(Vec<(Kind, f64)>);

/// Everything about the payments of a load but whom they are between.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(crate) struct Life {
    /// What becomes of the good payments: cases with their weights, such as
    /// transfer:60,authorize-capture:20,authorize-void:5,refund:10,legs:4:5 [default: transfer:1]
    ///
    /// Cases are transfer; authorize-capture, authorize-capture-parts (two captures) and
    /// authorize-void; refund, of a transfer or of a capture; chargeback, at times with a reversal;
    /// cancel, of a transfer for the next day; legs:N, a transfer with N legs. A weight says how many
    /// of the cases are of that kind; a case is one to three messages, and those are what rates and
    /// counts are about.
    #[arg(long = "mix", value_name = "CASE:WEIGHT,…", default_value = "transfer:1", hide_default_value = true)]
    pub(crate) kinds: Kinds,
    /// Cases that are published in reverse, so that what acts on a payment comes before it
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share, hide_default_value = true)]
    pub(crate) out_of_order: f64,
    /// Payments that are to be executed later, within 5s of being published or another time, such as
    /// 10% or 10%:30s
    #[arg(long, value_name = "SHARE[:WITHIN]", default_value = "0", hide_default_value = true)]
    pub(crate) scheduled: Scheduled,
}

/// Payments that wait for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scheduled {
    /// Share of the payments, from 0 to 1.
    pub(crate) share: f64,
    /// The longest wait after they are published; nothing if none waits.
    pub(crate) within: Duration,
}

impl FromStr for Scheduled {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const USUAL: Duration = Duration::from_secs(5);
        const HOUR: Duration = Duration::from_secs(3600);
        let (part, within) = text.split_once(':').map_or((text, None), |(part, within)| (part, Some(within)));
        let within = within.map_or(Ok(USUAL), duration).ok().filter(|within| *within <= HOUR);
        let scheduled = share(part).ok().zip(within);
        let scheduled =
            scheduled.map(|(share, within)| Self { share, within: if share > 0.0 { within } else { Duration::ZERO } });
        scheduled
            .ok_or_else(|| "expected a share, and perhaps a time of up to an hour, such as 10% or 10%:30s".to_owned())
    }
}

impl Life {
    /// Whether it is nothing but transfers, each for at once.
    pub(crate) fn is_plain(&self) -> bool {
        self.kinds.0.iter().all(|(kind, _)| *kind == Kind::Transfer) && self.scheduled.share == 0.0
    }
}

impl Kind {
    const NAMED: [(&'static str, Self); 7] = [
        ("transfer", Self::Transfer),
        ("authorize-capture", Self::AuthorizeCapture),
        ("authorize-capture-parts", Self::AuthorizeCaptureParts),
        ("authorize-void", Self::AuthorizeVoid),
        ("refund", Self::Refund),
        ("chargeback", Self::Chargeback),
        ("cancel", Self::Cancel),
    ];

    /// How many messages it takes at the least.
    pub(super) const fn shortest(self) -> usize {
        match self {
            Self::Transfer | Self::Legs(_) => 1,
            Self::AuthorizeCapture | Self::AuthorizeVoid | Self::Refund | Self::Chargeback | Self::Cancel => 2,
            Self::AuthorizeCaptureParts => 3,
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, kind)) = Self::NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*kind);
        }
        let names = Self::NAMED.map(|(name, _)| name).join(", ");
        match text.strip_prefix("legs").map(|legs| legs.strip_prefix(':').and_then(|legs| legs.parse().ok())) {
            Some(Some(legs)) if (1..=Leg::MOST).contains(&usize::from(legs)) => Ok(Self::Legs(legs)),
            Some(_) => Err(format!("`{text}`: expected legs:N with 1 to {} legs, such as legs:4", Leg::MOST)),
            None => Err(format!("`{text}`: expected {names}, or legs:N")),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legs(legs) => write!(f, "legs:{legs}"),
            named => {
                let name = Self::NAMED.iter().find(|(_, kind)| kind == named).map(|(name, _)| *name);
                f.write_str(name.unwrap_or_default())
            }
        }
    }
}

impl Kinds {
    /// The share of each kind among the cases, from 0 to 1, by name; nothing if all are transfers.
    pub(crate) fn by_name(&self) -> BTreeMap<String, f64> {
        if self.0.iter().all(|(kind, _)| *kind == Kind::Transfer) {
            return BTreeMap::new();
        }
        let total = self.total();
        let mut shares = BTreeMap::new();
        for (kind, weight) in &self.0 {
            *shares.entry(kind.to_string()).or_default() += weight / total;
        }
        shares
    }

    fn total(&self) -> f64 {
        self.0.iter().map(|(_, weight)| weight).sum()
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self(vec![(Kind::Transfer, 1.0)])
    }
}

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = text.split(',').map(|part| {
            let (kind, weight) = part.trim().rsplit_once(':').ok_or_else(|| format!("`{part}`: {EXPECTED}"))?;
            let weight = weight.parse().ok().filter(|weight| (0.0..=1e9).contains(weight));
            Ok((kind.parse()?, weight.ok_or_else(|| format!("`{part}`: {EXPECTED}"))?))
        });
        let kinds = Self(kinds.collect::<Result<_, String>>()?);
        if kinds.total() > 0.0 { Ok(kinds) } else { Err(format!("all weights are 0: {EXPECTED}")) }
    }
}

const EXPECTED: &str = "expected KIND:WEIGHT with a weight from 0, such as transfer:60 or legs:4:5";

/// Says of which kind the next case is to be.
#[derive(Debug)]
pub(super) struct Chooser {
    kinds: Vec<(Kind, f64)>,
    made_of_kind: Vec<u64>,
    made: u64,
}

impl Chooser {
    pub(super) fn new(kinds: &Kinds) -> Self {
        let total = kinds.total();
        let kinds: Vec<_> = kinds.0.iter().map(|(kind, weight)| (*kind, weight / total)).collect();
        Self { made_of_kind: vec![0; kinds.len()], kinds, made: 0 }
    }

    /// The kind that is most behind its share, of those that fit into so many messages; a transfer
    /// fills up where none does.
    pub(super) fn next(&mut self, room: usize) -> Kind {
        let due = (self.made + 1) as f64;
        let behind = |place: &usize| self.kinds[*place].1 * due - self.made_of_kind[*place] as f64;
        let fit = (0..self.kinds.len())
            .filter(|place| self.kinds[*place].1 > 0.0)
            .filter(|place| self.kinds[*place].0.shortest() <= room);
        let Some(place) = fit.max_by(|a, b| behind(a).total_cmp(&behind(b))) else { return Kind::Transfer };
        self.made += 1;
        self.made_of_kind[place] += 1;
        self.kinds[place].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIX: &str = "transfer:60,authorize-capture:20,authorize-void:5,refund:10,legs:4:5";

    #[test]
    fn a_mix_reads_as_kinds_with_weights() {
        let shares = MIX.parse::<Kinds>().expect(MIX).by_name();
        let expected = [
            ("authorize-capture", 0.2),
            ("authorize-void", 0.05),
            ("legs:4", 0.05),
            ("refund", 0.1),
            ("transfer", 0.6),
        ];
        assert_eq!(shares, expected.map(|(kind, share)| (kind.to_owned(), share)).into());
        assert_eq!("transfer:3".parse::<Kinds>().expect("a mix").by_name(), BTreeMap::new());
        for (_, kind) in Kind::NAMED.into_iter().chain([("", Kind::Legs(64))]) {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn what_is_scheduled_is_a_share_and_perhaps_a_time() {
        let scheduled = |share, seconds| Ok(Scheduled { share, within: Duration::from_secs(seconds) });
        assert_eq!(["10%", "0.2:30s", "0"].map(str::parse), [scheduled(0.1, 5), scheduled(0.2, 30), scheduled(0.0, 0)]);
        for text in ["", "5", "10%:", "10%:5", "10%:61m", ":5s"] {
            assert!(text.parse::<Scheduled>().is_err_and(|error| error.contains("10%:30s")), "{text}");
        }
    }

    #[test]
    fn a_mix_that_is_none_says_what_was_expected() {
        for (text, expected) in [
            ("", "KIND:WEIGHT"),
            ("transfer", "KIND:WEIGHT"),
            ("transfer:x", "KIND:WEIGHT"),
            ("transfer:-1", "KIND:WEIGHT"),
            ("transfer:0,refund:0", "all weights are 0"),
            ("refunds:1", "authorize-capture-parts"),
            ("legs:3", "legs:N with 1 to 64"),
            ("legs:0:1", "legs:N with 1 to 64"),
            ("legs:65:1", "legs:N with 1 to 64"),
        ] {
            let error = text.parse::<Kinds>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn every_kind_has_its_share_of_the_cases_also_where_some_do_not_fit() {
        let mut chooser = Chooser::new(&MIX.parse().expect(MIX));
        let kinds: Vec<Kind> = (0..1000).map(|n| chooser.next(if n % 5 == 0 { 1 } else { 3 })).collect();
        let count = |kind| kinds.iter().filter(|other| **other == kind).count();
        let counts = [Kind::Transfer, Kind::AuthorizeCapture, Kind::Refund, Kind::Legs(4)].map(count);
        assert_eq!(counts, [600, 200, 100, 50]);
    }

    #[test]
    fn a_transfer_fills_up_what_is_left() {
        let mut chooser = Chooser::new(&"authorize-capture-parts:1".parse().expect("a mix"));
        assert_eq!((chooser.next(2), chooser.next(3)), (Kind::Transfer, Kind::AuthorizeCaptureParts));
    }
}
