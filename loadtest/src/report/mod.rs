//! What is said of a run: the data between measuring and reporting, and everything made of it.
//!
//! Those who measure fill [`model`]; nobody here measures. All but `folder`, `live` and the end
//! of `compare` is pure.

mod chart;
pub(crate) mod compare;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod folder;
mod hlog;
mod html;
pub(crate) mod live;
pub(crate) mod model;
pub(crate) mod numbers;
#[cfg(test)]
mod schema;
pub(crate) mod text;
mod thin;
