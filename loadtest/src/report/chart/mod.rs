//! Line charts as SVG: scales and shapes only, of any figures. Colours are those of the page.

mod scale;
mod svg;
#[cfg(test)]
mod tests;

use maud::Markup;

pub(super) use scale::{GREATEST, NINES, Scale, quantile};

/// Lines over a common horizontal axis.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: &'static str,
    /// What the vertical axis counts, and in what unit.
    pub(super) unit: &'static str,
    /// What the horizontal axis is.
    pub(super) across: &'static str,
    /// How the horizontal axis is divided.
    pub(super) x: Scale,
    /// How the vertical axis is divided.
    pub(super) y: Scale,
    /// Where the points are.
    pub(super) places: Vec<f64>,
    /// What is drawn.
    pub(super) lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// What it shows.
    pub(super) name: &'static str,
    /// Which of the page's styles it has, from 0 to 3: the same in all charts for what belongs
    /// together.
    pub(super) style: usize,
    /// Its most important figures, for the legend.
    pub(super) figures: String,
    /// Its height at every place of the chart, or that there is none.
    pub(super) heights: Vec<Option<f64>>,
}

impl Chart {
    /// With its title and its legend, as a figure of a page.
    pub(super) fn figure(&self) -> Markup {
        svg::figure(self)
    }
}
