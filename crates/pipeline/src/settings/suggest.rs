//! Suggests names for misspelled ones.

/// Returns the question whether the closest name was meant, if one is close enough for a typing error.
pub fn did_you_mean<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    closest(written, names).map(|name| format!("did you mean `{name}`?"))
}

/// Returns the name closest to what was written, if it is close enough for a typing error.
pub fn closest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Separators and case are often confused, so they are ignored.
    let plain = |name: &str| name.to_lowercase().replace(['-', '.', ' '], "_");
    let likeness = |name: &str| strsim::jaro_winkler(&plain(written), &plain(name));
    let best = names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= 0.8).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = ["prefetch", "exchange", "delivery_limit"];
        assert_eq!(closest("prefech", names), Some("prefetch"));
        assert_eq!(closest("Delivery-Limit", names), Some("delivery_limit"));
        assert_eq!(closest("colour", names), None);
        assert_eq!(closest("x", []), None);
    }
}
