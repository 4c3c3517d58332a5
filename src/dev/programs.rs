//! The programs of the two servers: where they are, and how they are run so that they cannot
//! outlive the guardian.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tokio::process::Command;

use super::error::DevError;

/// Directories that are searched for the servers' programs before any other: for servers of other versions.
const FIRST: &str = "SETTLED_DEV_PATH";

/// Where Debian keeps RabbitMQ's programs proper; the scripts in `/usr/sbin` change the user and clear the settings.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin";

/// Where Debian keeps each major version of PostgreSQL, off the PATH.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// The paths of all programs the private servers need.
#[derive(Debug, Clone)]
pub struct Programs {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
    pub(super) rabbitmq: PathBuf,
    pub(super) epmd: PathBuf,
}

impl Programs {
    /// Whether the broker is the one that Debian has installed.
    pub(super) fn has_installed_rabbitmq(&self) -> bool {
        self.rabbitmq.starts_with(RABBITMQ)
    }

    /// Finds them all.
    ///
    /// # Errors
    /// [`DevError::Missing`] names the first missing program and its Debian package.
    pub fn find() -> Result<Self, DevError> {
        on_path("setpriv").ok_or(missing("setpriv", "util-linux"))?;
        Ok(Self {
            initdb: postgres_program("initdb").ok_or(missing("initdb", "postgresql"))?,
            postgres: postgres_program("postgres").ok_or(missing("postgres", "postgresql"))?,
            rabbitmq: rabbitmq_program("rabbitmq-server").ok_or(missing("rabbitmq-server", "rabbitmq-server"))?,
            epmd: on_first_path("epmd").or_else(|| on_path("epmd")).ok_or(missing("epmd", "erlang-base"))?,
        })
    }
}

/// Checks that the programs of the private servers are installed.
///
/// # Errors
/// [`DevError::Missing`] names the first missing program and its Debian package.
pub fn check_programs() -> Result<(), DevError> {
    Programs::find().map(drop)
}

/// A command for `program` that the kernel kills when the thread that starts it ends: the
/// servers go even if the guardian is killed and cannot stop them.
pub(super) fn bound(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Like [`bound`], but never as root, which PostgreSQL refuses: root becomes `postgres`.
pub(super) fn bound_as_postgres(program: &Path) -> Command {
    if !is_root() {
        return bound(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"])
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program);
    command
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The PATH for the servers, which otherwise get an empty environment.
pub(super) fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// The error for a program that is not installed.
pub const fn missing(program: &'static str, package: &'static str) -> DevError {
    DevError::Missing { program, package }
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then_some(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).find_map(|dir| existing(dir.join(name)))
}

/// A program in the directories of `SETTLED_DEV_PATH`.
fn on_first_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os(FIRST)?).find_map(|dir| existing(dir.join(name)))
}

/// A program of RabbitMQ: of `SETTLED_DEV_PATH`, or else the one that Debian has installed.
pub fn rabbitmq_program(name: &str) -> Option<PathBuf> {
    on_first_path(name).or_else(|| existing(Path::new(RABBITMQ).join(name)))
}

/// A program of PostgreSQL: of `SETTLED_DEV_PATH`, or else of the newest version that Debian has installed, or else
/// whatever the PATH offers.
pub fn postgres_program(name: &str) -> Option<PathBuf> {
    on_first_path(name).or_else(|| newest(name)).or_else(|| on_path(name))
}

fn newest(name: &str) -> Option<PathBuf> {
    let versions = Path::new(POSTGRES_VERSIONS).read_dir().ok();
    versions
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|version| {
            let bin = Path::new(POSTGRES_VERSIONS).join(version.to_string()).join("bin");
            Some((version, existing(bin.join(name))?))
        })
        .max()
        .map(|(_, path)| path)
}
