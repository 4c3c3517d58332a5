//! Where the servers live: a directory of their own and ports of their own.

use std::fs::{self, DirBuilder, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::ServersOptions;
use super::error::{Context, DevError};

/// The directory of the servers.
pub struct Place {
    dir: PathBuf,
    /// The directory was made by us and goes with its content.
    made: bool,
    keep: bool,
    /// Held for as long as the guardian lives: two of them in one directory would break it.
    _lock: File,
}

impl Place {
    /// Makes a temporary directory, or takes the one asked for.
    pub(super) fn open(options: &ServersOptions) -> Result<Self, DevError> {
        let (dir, made) = match &options.dir {
            None => (make_temporary()?, true),
            Some(dir) => take(dir)?,
        };
        let what = || format!("open {}", dir.display());
        let lock = File::open(&dir).context(what)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| DevError::InUse(dir.clone()))?;
        if !options.keep && dir.read_dir().context(what)?.next().is_some() {
            return Err(DevError::NotEmpty(dir));
        }
        Ok(Self { dir, made, keep: options.keep, _lock: lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn is_kept(&self) -> bool {
        self.keep
    }

    /// Makes the directory of one server, closed to everybody else.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn room(&self, name: &str) -> Result<PathBuf, DevError> {
        let room = self.dir.join(name);
        DirBuilder::new().mode(0o700).recursive(true).create(&room).context(|| format!("make {}", room.display()))?;
        Ok(room)
    }

    /// Removes what the servers left, unless it is to be kept. All of them must have ended.
    pub(super) fn clear(self) -> Result<(), DevError> {
        if self.keep {
            return Ok(());
        }
        remove_content(&self.dir)
            .and_then(|()| if self.made { fs::remove_dir(&self.dir) } else { Ok(()) })
            .context(|| format!("remove {}", self.dir.display()))
    }
}

/// A new directory that the user `postgres` can pass through; the rooms in it are closed.
fn make_temporary() -> Result<PathBuf, DevError> {
    let dir = tempfile::Builder::new()
        .prefix("settled-dev-")
        .tempdir()
        .context(|| "make a temporary directory".into())?
        .keep();
    fs::set_permissions(&dir, Permissions::from_mode(0o711)).context(|| format!("open up {}", dir.display()))?;
    Ok(dir)
}

/// The absolute path of `dir`, which is made if need be, and whether it was.
fn take(dir: &Path) -> Result<(PathBuf, bool), DevError> {
    let made = !dir.exists();
    fs::create_dir_all(dir)
        .and_then(|()| dir.canonicalize())
        .context(|| format!("use {}", dir.display()))
        .map(|dir| (dir, made))
}

fn remove_content(dir: &Path) -> std::io::Result<()> {
    for entry in dir.read_dir()? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

/// Where servers may listen: below the range from which the kernel takes the ports of outgoing
/// connections (32768 and up). Else a client that tries again and again while its server is
/// down could be given the server's own port, connect to itself and keep the server out.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Loopback ports that are nobody else's: no server listens on them, and no other guardian takes them until this value
/// is dropped, also while their servers are stopped.
pub struct Ports<const N: usize> {
    pub numbers: [u16; N],
    /// A socket that is named after each port. It has no file, and ends with the process, however that ends.
    _claims: Vec<UnixListener>,
}

impl<const N: usize> Ports<N> {
    /// Claims `N` different ports.
    ///
    /// # Errors
    /// If there are none.
    pub fn claim() -> Result<Self, DevError> {
        let random = RandomState::new();
        let mut claimed = Vec::with_capacity(N);
        for attempt in 0..1_000_u32 {
            if claimed.len() == N {
                break;
            }
            let offset = random.hash_one(attempt) % u64::from(PORTS.end - PORTS.start);
            let port = PORTS.start + u16::try_from(offset).unwrap_or(0);
            claimed.extend(claim(port).map(|claim| (port, claim)));
        }
        let (numbers, claims): (Vec<u16>, Vec<UnixListener>) = claimed.into_iter().unzip();
        Ok(Self { numbers: numbers.try_into().map_err(|_| DevError::NoPort)?, _claims: claims })
    }
}

/// Claims a port, unless another guardian has, or somebody listens on it.
fn claim(port: u16) -> std::io::Result<UnixListener> {
    let claim = UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("settled-dev-port-{port}"))?)?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_claimed_is_claimed_by_nobody_else() {
        let ports = Ports::<3>::claim().expect("ports");
        for port in ports.numbers {
            assert!(claim(port).is_err(), "{port} is claimed twice");
        }
        let [port, ..] = ports.numbers;
        drop(ports);
        let listening = claim(port).and_then(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).expect("free again");
        assert!(claim(port).is_err(), "{port} is listened on");
        drop(listening);
    }
}
