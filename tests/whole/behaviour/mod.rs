//! What a user of the daemon can rely on, each test on the real binary and real servers.

mod acknowledging;
mod authority;
mod currencies;
mod dead_letter_replies;
mod earlier_versions;
mod events;
mod evidence;
mod flow;
mod given_up;
mod idempotency;
mod malformed;
mod order;
mod refused;
mod rejections;
mod reloading;
mod secrets;
mod sequences;
mod several_daemons;
mod starting;
mod unreadable;
