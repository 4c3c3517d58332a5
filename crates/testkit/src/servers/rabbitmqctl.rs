//! Runs `rabbitmqctl` with the environment of the private broker, which contains its cookie and ports.

use std::fs;
use std::process::Stdio;

use settled::dev::{DevError, missing, rabbitmq_program};
use tokio::process::Command;

/// Variables that it needs from the broker's environment.
const VARIABLES: [&str; 7] =
    ["PATH", "HOME", "LC_ALL", "ERL_EPMD_PORT", "ERL_EPMD_ADDRESS", "ERL_CRASH_DUMP", "RABBITMQ_CONF_ENV_FILE"];

/// Runs `rabbitmqctl` for the node `name`, the broker with this process id. Returns its output.
pub(super) async fn run(name: &str, broker: Option<u32>, arguments: &[&str]) -> Result<String, DevError> {
    let failed = |problem: String| DevError::Rabbitmqctl { arguments: arguments.join(" "), problem };
    let pid = broker.ok_or_else(|| failed("the broker does not run".into()))?;
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).map_err(|error| failed(error.to_string()))?;
    let variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
    let program = rabbitmq_program("rabbitmqctl").ok_or(missing("rabbitmqctl", "rabbitmq-server"))?;
    let output = Command::new(program)
        .args(["-n", name])
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
