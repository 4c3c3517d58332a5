//! Free space on disks.

use std::path::Path;

/// Returns the part of the disk that has `directory` which processes without privileges may still use, 0 to 1. `None` if
/// it can't be read.
pub(super) fn free_part(directory: &Path) -> Option<f64> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    (disk.f_blocks > 0).then(|| disk.f_bavail as f64 / disk.f_blocks as f64)
}
