//! The socket, and what is answered on it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::UnixListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Format, ProfileError, cpu, memory};

/// The longest CPU profile, in seconds.
const LONGEST: u64 = 600;

#[derive(Debug, thiserror::Error)]
#[error("admin.profile_socket = {path:?}: can't listen there ({source})")]
pub struct SocketError {
    path: PathBuf,
    pub source: io::Error,
}

/// Serves profiles. Its socket is removed when it is dropped.
#[derive(Debug)]
pub struct ProfileServer {
    listener: Option<UnixListener>,
    path: PathBuf,
}

impl ProfileServer {
    /// Binds the socket, with mode 0600. One that a daemon has left behind that was killed is replaced.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let listener = bind(path).map_err(|source| SocketError { path: path.to_owned(), source })?;
        Ok(Self { listener: Some(listener), path: path.to_owned() })
    }

    /// Begins to serve, until `stop` is cancelled. What serves does not own the socket: when the daemon ends, nobody
    /// waits for it.
    pub fn serve(&mut self, stop: CancellationToken) {
        let Some(listener) = self.listener.take() else { return };
        let one_at_a_time = Arc::new(Mutex::new(()));
        let router = Router::new()
            .route("/debug/pprof/profile", get(cpu_profile))
            .route("/debug/memory", get(memory_sizes))
            .with_state(one_at_a_time);
        // A profile that is being taken is not waited for.
        tokio::spawn(async move { stop.run_until_cancelled(axum::serve(listener, router).into_future()).await });
    }
}

impl Drop for ProfileServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds beside the path and renames it, so that nobody can connect before the mode is set.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon listens there"));
        }
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    let moved = fs::set_permissions(&beside, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&beside, path));
    if moved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    moved.map(|()| listener)
}

async fn cpu_profile(State(turn): State<Arc<Mutex<()>>>, uri: Uri) -> Response {
    let (seconds, format) = match parameters(uri.query().unwrap_or_default()) {
        Ok(parameters) => parameters,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem + "\n").into_response(),
    };
    let Ok(_turn) = turn.try_lock() else { return ProfileError::Busy.into_response() };
    match cpu::profile(Duration::from_secs(seconds), format).await {
        Ok(profile) => ([(header::CONTENT_TYPE, format.content_type())], profile).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn memory_sizes() -> Response {
    match memory::sizes() {
        Ok(sizes) => Json(sizes).into_response(),
        Err(error) => ProfileError::Failed(error.to_string()).into_response(),
    }
}

/// Reads how long and how a profile is to be taken.
fn parameters(query: &str) -> Result<(u64, Format), String> {
    let (mut seconds, mut format) = (10, Format::Pprof);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("seconds", value)) => {
                let parsed = value.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds));
                seconds = parsed.ok_or_else(|| format!("seconds: expected 1 to {LONGEST}, found {value:?}"))?;
            }
            Some(("format", value)) => {
                let parsed = Format::parse(value);
                format = parsed.ok_or_else(|| format!("format: expected pprof or folded, found {value:?}"))?;
            }
            _ => return Err(format!("expected seconds= and format=, found {pair:?}")),
        }
    }
    Ok((seconds, format))
}

impl IntoResponse for ProfileError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotBuiltIn(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Busy => StatusCode::CONFLICT,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{self}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked() {
        assert_eq!(parameters(""), Ok((10, Format::Pprof)));
        assert_eq!(parameters("seconds=3&format=folded"), Ok((3, Format::Folded)));
        for wrong in ["seconds=0", "seconds=601", "seconds=x", "format=png", "second=1", "seconds"] {
            assert!(parameters(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_private_replaces_a_dead_one_and_no_live_one_and_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("profile.sock");
        // As a daemon leaves it that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let server = ProfileServer::bind(&path).expect("bound");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let error = ProfileServer::bind(&path).expect_err("taken").to_string();
        assert!(error.contains("another daemon listens there") && error.contains("admin.profile_socket"), "{error}");
        drop(server);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
        fs::write(&path, "precious").expect("written");
        assert!(ProfileServer::bind(&path).is_err() && fs::read(&path).expect("still there") == b"precious");
    }
}
