//! CPU profiles, by `pprof`: a timer interrupts the process so many times per second of CPU time, and the handler walks
//! the frame pointers of whatever thread is running.
//!
//! Not the default unwinder, which is not safe in a signal handler. The frame pointers are followed only as far as
//! memory can be read there, so a program that was built without them has short stacks and is not harmed.

use std::time::Duration;

use super::ProfileError;

/// How a profile is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For `go tool pprof` and the viewers that read its files
    Pprof,
    /// A line of text per stack, for speedscope, inferno and flamegraph.pl
    Folded,
}

impl Format {
    /// Returns the word for it in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pprof => "pprof",
            Self::Folded => "folded",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Pprof, Self::Folded].into_iter().find(|format| format.name() == name)
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Pprof => "application/octet-stream",
            Self::Folded => "text/plain; charset=utf-8",
        }
    }
}

/// Samples the process for a time.
#[cfg(feature = "profiling")]
pub(super) async fn profile(duration: Duration, format: Format) -> Result<Vec<u8>, ProfileError> {
    /// Samples per second of CPU time: no divisor of common periods.
    const FREQUENCY: i32 = 99;
    let failed = |error: pprof::Error| ProfileError::Failed(error.to_string());
    let guard = pprof::ProfilerGuardBuilder::default().frequency(FREQUENCY).build().map_err(failed)?;
    tokio::time::sleep(duration).await;
    // Looking up the names of functions reads the debug information, which takes a while.
    let written = tokio::task::spawn_blocking(move || {
        let report = guard.report().build().map_err(failed)?;
        drop(guard);
        write(&report, format)
    });
    written.await.map_err(|error| ProfileError::Failed(error.to_string()))?
}

#[cfg(not(feature = "profiling"))]
#[expect(clippy::unused_async, reason = "the other one is")]
pub(super) async fn profile(_: Duration, _: Format) -> Result<Vec<u8>, ProfileError> {
    Err(ProfileError::NotBuiltIn("profiling"))
}

#[cfg(feature = "profiling")]
fn write(report: &pprof::Report, format: Format) -> Result<Vec<u8>, ProfileError> {
    use std::fmt::Write as _;

    use pprof::protos::Message as _;

    let failed = |error: &dyn std::fmt::Display| ProfileError::Failed(error.to_string());
    let mut written = Vec::new();
    match format {
        Format::Pprof => {
            let profile = report.pprof().map_err(|error| failed(&error))?;
            profile.encode(&mut written).map_err(|error| failed(&error))?;
        }
        Format::Folded => {
            let mut lines: Vec<String> = report
                .data
                .iter()
                .map(|(stack, count)| {
                    let mut line = stack.thread_name_or_id();
                    for symbol in stack.frames.iter().rev().flat_map(|inlined| inlined.iter().rev()) {
                        // Writing to a string can't fail.
                        let _ = write!(line, ";{symbol}");
                    }
                    format!("{line} {count}\n")
                })
                .collect();
            lines.sort();
            written = lines.concat().into_bytes();
        }
    }
    Ok(written)
}
