//! From figures to places on an axis, and which of them are marked.

use crate::report::numbers::{clock, decimal};

/// How many marks an axis has, about.
const MARKS: f64 = 5.0;
/// Steps between marks on a clock, in seconds.
const CLOCK_STEPS: [f64; 16] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 86_400.0,
];
/// With how many nines the scale of percentiles ends: 99.99.
pub(in crate::report) const NINES: f64 = 4.0;
/// Where the greatest value stands on it.
pub(in crate::report) const GREATEST: f64 = 5.0;
/// So many times the median, the highest value would leave nothing to see below it.
const UNEVEN: f64 = 20.0;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::report) enum Scale {
    /// Evenly, from 0 to `max`.
    Linear {
        /// The end, at a mark.
        max: f64,
        /// From mark to mark.
        step: f64,
    },
    /// Evenly, in seconds from 0 to `max`, marked as a clock would.
    Time {
        /// The end.
        max: f64,
        /// From mark to mark.
        step: f64,
    },
    /// By powers of ten.
    Log {
        /// The begin, at a mark.
        min: f64,
        /// The end, at a mark.
        max: f64,
    },
    /// By nines: as far from 99 to 99.9 as from 90 to 99. Figures are numbers of nines.
    Percentile,
}

impl Scale {
    /// From 0 to at least `highest`, with round marks.
    pub(in crate::report) fn linear(highest: f64) -> Self {
        let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
        let rough = highest / MARKS;
        let power = 10_f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999);
        let step = factor.unwrap_or(10.0) * power;
        Self::Linear { max: (highest / step * 0.999).ceil() * step, step }
    }

    /// From 0 to `last` seconds.
    pub(in crate::report) fn time(last: f64) -> Self {
        let max = if last.is_finite() && last > 0.0 { last } else { 1.0 };
        let step = CLOCK_STEPS.into_iter().find(|step| max / step <= 1.6 * MARKS);
        Self::Time { max, step: step.unwrap_or_else(|| (max / MARKS / 86_400.0).ceil() * 86_400.0) }
    }

    /// Over all that is positive in `values`.
    pub(in crate::report) fn log(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = positive.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high <= 0.0 {
            return Self::Log { min: 0.1, max: 1.0 };
        }
        let min = 10_f64.powf((low * 1.001).log10().floor());
        let max = 10_f64.powf((high * 0.999).log10().ceil());
        let min = [5.0, 2.0].into_iter().map(|factor| factor * min).find(|mark| *mark <= low).unwrap_or(min);
        let max = [0.2, 0.5].into_iter().map(|factor| factor * max).find(|mark| *mark >= high).unwrap_or(max);
        Self::Log { min, max: if max > min { max } else { min * 10.0 } }
    }

    /// Linear, but logarithmic if a few values are far above the others.
    pub(in crate::report) fn fitting(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (Some(median), Some(highest)) = (values.get(values.len() / 2), values.last()) else {
            return Self::linear(0.0);
        };
        if *median > 0.0 && highest / median > UNEVEN { Self::log(values.into_iter()) } else { Self::linear(*highest) }
    }

    /// Where a figure stands, from 0 to 1.
    pub(super) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { max, .. } | Self::Time { max, .. } => value / max,
            Self::Log { min, max } => (value.max(min) / min).log10() / (max / min).log10(),
            Self::Percentile => value / GREATEST,
        };
        place.clamp(0.0, 1.0)
    }

    /// The marked figures.
    pub(super) fn marks(self) -> Vec<f64> {
        match self {
            Self::Linear { max, step } | Self::Time { max, step } => {
                let last = (max / step + 0.001).floor() as u32;
                (0..=last).map(|mark| f64::from(mark) * step).collect()
            }
            Self::Log { min, max } => log_marks(min, max),
            Self::Percentile => [50.0, 90.0, 99.0, 99.9, 99.99].map(nines).into_iter().chain([GREATEST]).collect(),
        }
    }

    /// What stands at a mark.
    pub(super) fn label(self, value: f64) -> String {
        match self {
            Self::Linear { step, .. } => decimal(value, decimals(step)),
            Self::Time { max, .. } if max < 120.0 => decimal(value, 0),
            Self::Time { .. } => clock(value),
            Self::Log { .. } => decimal(value, decimals(value)),
            Self::Percentile => percentile(value),
        }
    }
}

/// How many nines a percentile has: 1 for 90, 2 for 99.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// The quantile, from 0 to 1, that has so many nines.
pub(in crate::report) fn quantile(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}

fn percentile(nines: f64) -> String {
    if nines >= GREATEST {
        return "max".to_owned();
    }
    let decimals = (nines - 1.99).floor().max(0.0) as usize;
    format!("{:.decimals$}", 100.0 * quantile(nines))
}

/// 1, 2 and 5 of each power of ten, or the powers alone where that would be too many.
fn log_marks(min: f64, max: f64) -> Vec<f64> {
    let factors: &[f64] = if max / min > 2_000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
    let marks = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
    marks.filter(|mark| (min * 0.999..=max * 1.001).contains(mark)).collect()
}

/// How many decimals a figure of this size needs to differ from its neighbours.
fn decimals(step: f64) -> usize {
    (0..6)
        .find(|decimals| {
            let scaled = step * 10_f64.powi(*decimals);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        })
        .unwrap_or(6) as usize
}
