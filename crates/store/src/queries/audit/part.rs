//! Parts of a ledger, for audits that take long.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::Serialize;

/// One of several equal parts of the ledger. Each payment, with its legs, transitions and follow-ups, and each account,
/// with its entries, is in exactly one of them. Which one depends on its id alone, so that the parts can be audited at
/// different times and in any order: together they are the whole ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// From 1.
    number: NonZeroU32,
    of: NonZeroU32,
}

/// The calls in the passes that stand for "is in this part", and the expression of its argument that is divided.
const CALLS: [(&str, &str); 2] = [("account_in_part(", "{}"), ("in_part(", "uuid_hash_extended({}, 0)")];

impl Part {
    /// The whole ledger.
    pub const WHOLE: Self = Self { number: NonZeroU32::MIN, of: NonZeroU32::MIN };

    /// Returns whether it is all of the ledger.
    pub fn is_whole(&self) -> bool {
        self.of == NonZeroU32::MIN
    }

    /// Returns whether it is the first part, or the whole.
    pub fn is_first(&self) -> bool {
        self.number == NonZeroU32::MIN
    }

    /// Replaces the calls in a pass by conditions for this part.
    pub(super) fn restrict(self, pass: &str) -> String {
        CALLS.iter().fold(pass.to_owned(), |sql, (call, divided)| {
            let mut pieces = sql.split(call);
            let mut restricted = pieces.next().unwrap_or_default().to_owned();
            for piece in pieces {
                let (argument, rest) = piece.split_once(')').unwrap_or((piece, ""));
                restricted += &self.condition(&divided.replace("{}", argument));
                restricted += rest;
            }
            restricted
        })
    }

    fn condition(self, divided: &str) -> String {
        match self.is_whole() {
            true => "true".to_owned(),
            false => format!("abs({divided} % {}) = {}", self.of, self.number.get() - 1),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Part {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = text.split_once('/').and_then(|(number, of)| {
            Some(Self { number: number.parse().ok()?, of: of.parse().ok()? }).filter(|part| part.number <= part.of)
        });
        part.ok_or("expected a part and how many there are, as in 1/8 to 8/8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_number_of_so_many() {
        let part: Part = "2/8".parse().expect("a part");
        assert_eq!((part.to_string(), part.is_first(), part.is_whole()), ("2/8".to_owned(), false, false));
        assert_eq!("1/1".parse(), Ok(Part::WHOLE));
        for wrong in ["0/8", "9/8", "1/0", "1", "-1/2", "1/2/3", ""] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_call_in_a_pass_becomes_a_condition() {
        let pass = "WHERE in_part(p.id) AND account_in_part(id)";
        assert_eq!(Part::WHOLE.restrict(pass), "WHERE true AND true");
        let part: Part = "2/8".parse().expect("a part");
        assert_eq!(part.restrict(pass), "WHERE abs(uuid_hash_extended(p.id, 0) % 8) = 1 AND abs(id % 8) = 1");
    }
}
