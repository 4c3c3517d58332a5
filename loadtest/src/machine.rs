//! The machine that everything runs on, as it describes itself in `/proc`.

use std::fs::read_to_string;
use std::thread::available_parallelism;

use crate::report::model::Machine;

/// What cannot be found out.
const UNKNOWN: &str = "unknown";

/// This machine, with the versions of the servers that run on it.
pub(crate) fn describe(postgres_version: String, rabbitmq_version: String) -> Machine {
    let file = |path| read_to_string(path).unwrap_or_default();
    Machine {
        cpus: available_parallelism().map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        cpu_model: field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(|| UNKNOWN.to_owned()),
        memory_bytes: field(&file("/proc/meminfo"), "MemTotal").and_then(|text| kibibytes(&text)).unwrap_or_default(),
        kernel: format!("{} {}", file("/proc/sys/kernel/ostype").trim(), file("/proc/sys/kernel/osrelease").trim()),
        postgres_version,
        rabbitmq_version,
    }
}

/// The first `name: value` of a file of such lines.
fn field(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = values.filter(|(key, _)| key.trim() == name);
    values.next().map(|(_, value)| value.trim().to_owned())
}

fn kibibytes(text: &str) -> Option<u64> {
    let kibibytes: u64 = text.strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_knows_what_it_is() {
        let machine = describe("15.18".to_owned(), "3.10.8".to_owned());
        assert!(machine.cpus > 0 && machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
    }

    #[test]
    fn the_first_of_many_processors_stands_for_all() {
        let text = "processor\t: 0\nmodel name\t: Fast CPU\n\nprocessor\t: 1\nmodel name\t: Slow CPU\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Fast CPU"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(kibibytes("16384 kB"), Some(16_777_216));
    }
}
