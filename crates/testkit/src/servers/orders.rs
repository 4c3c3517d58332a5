//! Commands for these servers only, written as words, so that a person can type them too.

use std::fmt;
use std::str::FromStr;

/// A command to the guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    DiskFill,
    DiskFree,
    Promote,
    Rebuild,
    Cut,
    Rejoin,
}

/// The words of every command, for formatting and parsing.
const WORDS: [(Order, &str); 6] = [
    (Order::DiskFill, "disk fill"),
    (Order::DiskFree, "disk free"),
    (Order::Promote, "standby promote"),
    (Order::Rebuild, "standby rebuild"),
    (Order::Cut, "standby cut"),
    (Order::Rejoin, "standby rejoin"),
];

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = WORDS.iter().find(|(order, _)| order == self).map(|(_, words)| *words);
        f.write_str(words.unwrap_or("?"))
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let given: Vec<&str> = text.split_whitespace().collect();
        let found = WORDS.iter().find(|(_, words)| words.split(' ').eq(given.iter().copied()));
        found.map(|(order, _)| *order).ok_or_else(|| format!("unknown order {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_read_back_from_its_words() {
        for (order, words) in WORDS {
            assert_eq!(order.to_string(), words);
            assert_eq!(words.parse(), Ok(order));
        }
        assert_eq!(" standby  cut\r".parse(), Ok(Order::Cut));
        assert!("standby".parse::<Order>().is_err());
    }
}
