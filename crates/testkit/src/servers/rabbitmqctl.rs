//! Runs `rabbitmqctl` with the environment of the private broker, which contains its cookie and ports.

use std::fs;
use std::process::Stdio;

use settled::dev::DevError;
use tokio::process::Command;

/// Path on Debian. The script in `/usr/sbin` can't be used, because it changes the user.
const RABBITMQCTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Variables that it needs from the broker's environment.
const VARIABLES: [&str; 7] =
    ["PATH", "HOME", "LC_ALL", "ERL_EPMD_PORT", "ERL_EPMD_ADDRESS", "ERL_CRASH_DUMP", "RABBITMQ_CONF_ENV_FILE"];

/// Runs `rabbitmqctl` for the broker with this process id. Returns its output.
pub(super) async fn run(broker: Option<u32>, arguments: &[&str]) -> Result<String, DevError> {
    let failed = |problem: String| DevError::Rabbitmqctl { arguments: arguments.join(" "), problem };
    let pid = broker.ok_or_else(|| failed("the broker does not run".into()))?;
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).map_err(|error| failed(error.to_string()))?;
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    let output = Command::new(RABBITMQCTL)
        .args(["-n", "settled@localhost"])
        .args(arguments)
        .env_clear()
        .envs(variables.filter(|(name, _)| VARIABLES.contains(name)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    Err(failed(format!("{}: {} {}", output.status, said(&output.stdout), said(&output.stderr))))
}
