//! `settled profile`: where the CPU time and the memory of a running daemon go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::output::Text;
use super::{Exit, Failure, Global, block_on, output};
use crate::http;
use crate::profile::Format;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's socket [default: admin.profile_socket of the configuration]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Write where CPU time goes to a file
    Cpu {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How long to watch.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
        /// How it is written [default: by the file's name: .folded, or pprof]
        #[arg(long)]
        format: Option<Format>,
    },
    /// Print how much memory the daemon has, by kind
    Memory,
}

/// How long the daemon may take in addition to the time that it is watched for: it looks up the names of functions.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(global: &Global, args: Args) -> Result<Exit, Failure> {
    let config = global.load_of_service()?;
    let socket = args.socket.or(config.admin.profile_socket).ok_or_else(|| {
        let error = anyhow!("the daemon has no socket for profiles");
        Failure::new(Exit::BadConfig, error).hint("set admin.profile_socket and restart it, or name one with --socket")
    })?;
    match args.what {
        What::Cpu { file, seconds, format } => {
            let format = format.unwrap_or_else(|| by_name(&file));
            let request = format!("/debug/pprof/profile?seconds={seconds}&format={}", format.name());
            store(global, &socket, &request, Duration::from_secs(seconds), &file)
        }
        What::Memory => {
            let body = block_on(async { get(&socket, "/debug/memory", Duration::ZERO).await })?;
            let sizes: std::collections::BTreeMap<String, u64> = serde_json::from_slice(&body)?;
            output::print(global.json, &sizes, || {
                let mut text = Text::default();
                text.pairs(
                    sizes.iter().map(|(name, bytes)| {
                        (name.as_str(), format!("{:>9.1} MiB", *bytes as f64 / f64::from(1 << 20)))
                    }),
                );
                text
            })
        }
    }
}

fn by_name(file: &Path) -> Format {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("folded" | "txt") => Format::Folded,
        _ => Format::Pprof,
    }
}

/// Stores the answer in a file.
fn store(global: &Global, socket: &Path, request: &str, takes: Duration, file: &Path) -> Result<Exit, Failure> {
    let body = block_on(async { get(socket, request, takes).await })?;
    std::fs::write(file, &body).with_context(|| file.display().to_string())?;
    let report = serde_json::json!({ "file": file.display().to_string(), "bytes": body.len() });
    output::print(global.json, &report, || Text::of(format!("{} bytes in {}", body.len(), file.display())))
}

async fn get(socket: &Path, request: &str, takes: Duration) -> Result<Bytes, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::BadConfig,
            _ => Exit::Unavailable,
        };
        Failure::new(exit, anyhow!("{}: {error}", socket.display()))
            .hint("the daemon's user alone may open it; admin.profile_socket says where it is")
    })?;
    let answered = timeout(takes + LIMIT, http::get(stream, "settled", request)).await;
    let (status, body) = answered.map_err(|_| anyhow!("the daemon doesn't answer"))??;
    if status == StatusCode::OK {
        return Ok(body);
    }
    let said = anyhow!("the daemon says: {}", String::from_utf8_lossy(&body).trim_end());
    let failure = Failure::new(Exit::Failure, said);
    Err(match status {
        StatusCode::NOT_IMPLEMENTED => {
            failure.hint("packages have the CPU profiler; see \"Looking inside\" in the manual")
        }
        _ => failure,
    })
}
