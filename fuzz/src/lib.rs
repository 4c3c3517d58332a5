//! What the targets share: the checks, which `cargo test --test corpus` runs on the kept corpus,
//! and a limit on memory that no input may reach.

#[path = "../checks/mod.rs"]
pub mod checks;

pub use libfuzzer_sys;

/// For all that is allocated at a time, in bytes: no input of a few KiB needs nearly as much, and
/// what each of millions of inputs leaves behind adds up to it. An allocation beyond it fails, and
/// with it the run.
const MEMORY: usize = 64 << 20;

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, MEMORY);

/// A target that runs one of the checks.
#[macro_export]
macro_rules! target {
    ($check:path) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $check(data));
    };
}
