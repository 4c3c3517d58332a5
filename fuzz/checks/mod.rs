//! What has to hold of whatever comes from outside, whatever it is: a check for each kind of input.
//!
//! A check takes any bytes and panics if something doesn't hold. The fuzz targets feed it what they
//! make up, and `cargo test --test corpus` what they have found worth keeping.
#![allow(unreachable_pub, reason = "a test includes what is a library to the fuzz targets")]

pub mod arguments;
pub mod config;
pub mod deliveries;
mod draw;
pub mod events;
pub mod fields;
pub mod message;
pub mod proxy;
pub mod stream;
pub mod task;
pub mod urls;
pub mod values;

pub type Check = fn(&[u8]);

/// The targets: each with its name, which is that of its corpus too.
pub const TARGETS: [(&str, Check); 11] = [
    ("task", task::check),
    ("fields", fields::check),
    ("message", message::check),
    ("config", config::check),
    ("arguments", arguments::check),
    ("urls", urls::check),
    ("events", events::check),
    ("values", values::check),
    ("proxy", proxy::check),
    ("deliveries", deliveries::check),
    ("stream", stream::check),
];
