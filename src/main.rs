//! The `settled` binary.

fn main() {}
