//! The `settled-loadtest` binary.

fn main() {}
