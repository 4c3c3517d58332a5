//! A disk of limited size that can be filled: a file system in memory, in the guardian's own mount namespace, so that
//! it disappears with the process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::getppid;
use settled::dev::{Context, DevError};

/// Name of the file that fills the disk.
const BALLAST: &str = "ballast";

/// A mounted disk, unmounted when dropped.
pub(super) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Creates the directory `at` and mounts a disk of this many bytes there.
    pub(super) fn mount(at: PathBuf, bytes: u64) -> Result<Self, DevError> {
        let what = || format!("mount {bytes} bytes of memory at {}", at.display());
        if !has_own_mounts() {
            return Err(DevError::Options("for a disk of its own, start the guardian with `unshare --mount`"));
        }
        fs::create_dir_all(&at).context(what)?;
        let options = format!("size={bytes},mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at)).context(what)?;
        Ok(Self { at })
    }

    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    /// Takes all free space.
    pub(super) fn fill(&self) -> Result<(), DevError> {
        let what = || format!("fill {}", self.at.display());
        let mut ballast = File::options().create(true).append(true).open(self.at.join(BALLAST)).context(what)?;
        let block = vec![0; 64 * 1024];
        // If space is freed meanwhile, as by a checkpoint, the next call takes it.
        loop {
            match ballast.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context(what),
            }
        }
    }

    /// Frees the space that `fill` has taken.
    pub(super) fn free(&self) -> Result<(), DevError> {
        match fs::remove_file(self.at.join(BALLAST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(|| format!("free {}", self.at.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because processes that still use the disk are about to end. The kernel unmounts it after that.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

/// Returns true if mounts of this process are invisible to others.
fn has_own_mounts() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    let parent = getppid().map_or_else(|| "1".to_owned(), |pid| pid.as_raw_nonzero().to_string());
    matches!((namespace("self"), namespace(&parent)), (Ok(own), Ok(other)) if own != other)
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
