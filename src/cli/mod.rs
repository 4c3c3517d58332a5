//! The command line: one file a verb.

pub mod account;
pub mod audit;
pub mod dead_letters;
pub mod exit;
mod human;
mod outcome;
pub mod output;
pub mod payment;
pub mod publish;
pub mod publisher;
