//! Metrics as a daemon exports them, and what two scrapes of them tell.
//!
//! The text is the one of this program's own exporter, of which only what is needed is read.

/// The series of one scrape.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Samples {
    /// Parses Prometheus' text format. Lines that it does not understand are left out.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse).collect())
    }

    /// Returns the sum of all series of a metric that have these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has_all = |sample: &&Sample| labels.iter().all(|(label, value)| sample.label(label) == Some(value));
        // An empty sum would be -0.
        self.of(name).filter(has_all).map(|sample| sample.value).fold(0.0, |sum, value| sum + value)
    }

    /// Returns a label and the value of each series of a metric, in the order of the exporter.
    pub(super) fn by<'a>(&'a self, name: &'a str, label: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.of(name).filter_map(move |sample| Some((sample.label(label)?, sample.value)))
    }

    /// Returns outcome and reason of the series of outcomes that have happened; several types may have the same.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&str, &str)> {
        let happened = self.of("settled_outcomes_total").filter(|sample| sample.value > 0.0);
        happened.filter_map(|sample| Some((sample.label("outcome")?, sample.label("reason")?)))
    }

    /// Returns the upper bound and the count of each bucket of a histogram, in ascending order.
    fn buckets(&self, histogram: &str) -> Vec<(f64, f64)> {
        let name = format!("{histogram}_bucket");
        let bound = |sample: &Sample| Some((sample.label("le")?.parse().ok()?, sample.value));
        let mut buckets: Vec<(f64, f64)> = self.of(&name).filter_map(bound).collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) =
            series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        // A name of a publisher could have a comma, but none of its series is read.
        let label = |pair: &str| {
            let (label, value) = pair.split_once('=')?;
            Some((label.to_owned(), value.trim_matches('"').to_owned()))
        };
        let labels = labels.split(',').filter_map(label).collect();
        Some(Self { name: name.to_owned(), labels, value: value.parse().ok()? })
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// Two scrapes of one daemon.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) before: Samples,
    pub(super) now: Samples,
    /// Time between them.
    pub(super) seconds: f64,
}

impl Pair {
    /// Returns by how much a counter has grown. One that has become smaller has begun again at zero.
    pub(super) fn growth(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (before, now) = (self.before.sum(name, labels), self.now.sum(name, labels));
        if now < before { now } else { now - before }
    }

    pub(super) fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        if self.seconds > 0.0 { self.growth(name, labels) / self.seconds } else { 0.0 }
    }
}

/// Returns a quantile of what several daemons have observed between two scrapes, as Prometheus estimates it: within its
/// bucket by linear interpolation. Returns `None` if nothing was observed.
pub(super) fn quantile<'p>(pairs: impl Iterator<Item = &'p Pair>, histogram: &str, quantile: f64) -> Option<f64> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for pair in pairs {
        let (before, now) = (pair.before.buckets(histogram), pair.now.buckets(histogram));
        for (place, &(bound, count)) in now.iter().enumerate() {
            let was = before.get(place).map_or(0.0, |(_, was)| *was);
            let grown = if count < was { count } else { count - was };
            match buckets.get_mut(place) {
                Some((_, sum)) => *sum += grown,
                None => buckets.push((bound, grown)),
            }
        }
    }
    let total = buckets.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
    let rank = quantile * total;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if count >= rank {
            // Above the last bound nothing more is known.
            let is_open = bound.is_infinite() || count <= below;
            return Some(if is_open { low } else { low + (bound - low) * (rank - below) / (count - below) });
        }
        (low, below) = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(before: &str, now: &str) -> Pair {
        Pair { before: Samples::parse(before), now: Samples::parse(now), seconds: 2.0 }
    }

    #[test]
    fn series_are_found_by_their_labels_and_counters_may_begin_again() {
        let text = "# HELP a x\n# TYPE a counter\na{kind=\"x\",of=\"1\"} 3\na{kind=\"y\",of=\"1\"} 4\nb 2.5\nc NaN\n";
        let pair = pair("a{kind=\"x\",of=\"1\"} 1\nb 7\n", text);
        assert_eq!(
            (pair.now.sum("a", &[]), pair.now.sum("a", &[("kind", "y")]), pair.now.sum("d", &[])),
            (7.0, 4.0, 0.0)
        );
        assert_eq!((pair.growth("a", &[]), pair.growth("b", &[]), pair.rate("a", &[])), (6.0, 2.5, 3.0));
        assert_eq!(pair.now.by("a", "kind").collect::<Vec<_>>(), [("x", 3.0), ("y", 4.0)]);
        assert!(pair.now.sum("c", &[]).is_nan());
    }

    #[test]
    fn a_quantile_is_that_of_what_was_observed_in_between() {
        let at = |counts: [u32; 3]| {
            let [first, second, all] = counts;
            format!("h_bucket{{le=\"0.1\"}} {first}\nh_bucket{{le=\"0.2\"}} {second}\nh_bucket{{le=\"+Inf\"}} {all}\n")
        };
        let pair = pair(&at([100, 100, 100]), &at([110, 120, 120]));
        let of = |part| quantile([&pair].into_iter(), "h", part).expect("observed");
        assert!((of(0.5) - 0.1).abs() < 1e-9 && (of(0.75) - 0.15).abs() < 1e-9, "{} {}", of(0.5), of(0.75));
        let slow = Pair { now: Samples::parse(&at([0, 0, 4])), ..Pair::default() };
        assert_eq!(quantile([&slow].into_iter(), "h", 0.5), Some(0.2));
        assert_eq!(quantile([&Pair::default()].into_iter(), "h", 0.5), None);
    }
}
