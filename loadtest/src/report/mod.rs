//! What is said of a run: the data between measuring and reporting, and everything made of it.
//!
//! Those who measure fill [`model`]; nobody here measures.

pub(crate) mod compare;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod folder;
mod hlog;
pub(crate) mod live;
pub(crate) mod model;
pub(crate) mod numbers;
mod page;
#[cfg(test)]
mod schema;
pub(crate) mod text;
