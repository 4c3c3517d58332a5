//! The process's memory as the kernel counts it.

use std::collections::BTreeMap;
use std::{fs, io};

/// Sums over all mappings of the process.
const MAPPINGS: &str = "/proc/self/smaps_rollup";

/// Returns the size of each kind of memory, in bytes. Names are the kernel's: `Rss` is all that is resident, `Pss_Anon` what
/// the allocator and the stacks have, `Pss_File` the program and its libraries, `Private_Dirty` what would become free if it
/// ended.
pub(super) fn sizes() -> io::Result<BTreeMap<String, u64>> {
    Ok(parse(&fs::read_to_string(MAPPINGS)?))
}

fn parse(text: &str) -> BTreeMap<String, u64> {
    let size = |line: &str| {
        let (name, size) = line.split_once(':')?;
        let kibibytes: u64 = size.trim().strip_suffix(" kB")?.parse().ok()?;
        Some((name.to_owned(), kibibytes * 1024))
    };
    text.lines().filter_map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes() {
        let text = "55d0-7ffd ---p 00000000 00:00 0     [rollup]\nRss:    11264 kB\nPss_Anon:   4 kB\n";
        assert_eq!(parse(text), BTreeMap::from([("Rss".to_owned(), 11_534_336), ("Pss_Anon".to_owned(), 4096)]));
        assert!(sizes().expect("Linux has it")["Rss"] > 1 << 20);
    }
}
