//! Where and how a run was started.

use std::thread::available_parallelism;

use anyhow::Result;
use procfs::{CpuInfo, Current, Meminfo};

use crate::broker;
use crate::report::model::Machine;
use crate::rig::Rig;

const UNKNOWN: &str = "unknown";

/// This machine, and the versions of the servers of a run.
pub(crate) async fn describe(rig: &Rig) -> Result<Machine> {
    let database = rig.database().await?;
    let postgres_version = database.query_one("SHOW server_version", &[]).await?.get(0);
    let rabbitmq_version = broker::version(&rig.amqp_uri).await.unwrap_or_else(|| UNKNOWN.to_owned());
    Ok(this_machine(postgres_version, rabbitmq_version))
}

pub(crate) fn this_machine(postgres_version: String, rabbitmq_version: String) -> Machine {
    let cpu = CpuInfo::current().ok();
    let model = cpu.as_ref().and_then(|cpu| cpu.model_name(0)).unwrap_or(UNKNOWN);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| UNKNOWN.to_owned());
    Machine {
        cpus: available_parallelism().map_or(0, |cpus| cpus.get() as u32),
        cpu_model: model.to_owned(),
        memory_bytes: Meminfo::current().map_or(0, |memory| memory.mem_total),
        kernel: format!("Linux {}", kernel.trim()),
        postgres_version,
        rabbitmq_version,
    }
}

/// The command line; passwords in URIs are left out, for results are shown around.
pub(crate) fn command(words: impl Iterator<Item = String>) -> Vec<String> {
    words.map(|word| without_password(&word)).collect()
}

fn without_password(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.find('/').unwrap_or(rest.len());
    let password = rest[..authority].rfind('@').and_then(|at| Some((rest[..at].find(':')?, at)));
    match password {
        Some((colon, at)) => format!("{scheme}://{}:***{}", &rest[..colon], &rest[at..]),
        None => word.to_owned(),
    }
}

/// A time in microseconds since 1970, in UTC.
pub(crate) fn rfc_3339(micros: i64) -> String {
    let time = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_written_down() {
        for (word, shown) in [
            ("--rate", "--rate"),
            ("amqp://me:se@cret@host:5672/%2f", "amqp://me:***@host:5672/%2f"),
            ("--postgres-url=postgresql://me:secret@host/db", "--postgres-url=postgresql://me:***@host/db"),
            ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
            ("amqp://host:5672", "amqp://host:5672"),
        ] {
            assert_eq!(command([word.to_owned()].into_iter()), [shown]);
        }
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(rfc_3339(1_790_000_000_123_456), "2026-09-21T14:13:20.123Z");
    }
}
