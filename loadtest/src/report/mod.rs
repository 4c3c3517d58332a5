//! What is said of a run: the data between measuring and reporting, and everything made of it.

mod figures;
pub(crate) mod model;

pub(crate) use figures::Report;
