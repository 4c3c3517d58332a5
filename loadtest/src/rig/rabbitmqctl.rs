//! `rabbitmqctl` for the private broker.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::Rig;

const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
/// What it needs of the broker's own environment, which holds its cookie and its ports.
const NEEDED: [&str; 5] = ["PATH=", "HOME=", "LC_ALL=", "ERL_EPMD_", "RABBITMQ_CONF_ENV_FILE="];

impl Rig {
    /// Has the broker carry out an administrator's command.
    pub(crate) async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        let pid = self.server_pids().1.context("the broker does not run, or is not ours")?;
        let environment = std::fs::read(format!("/proc/{pid}/environ"))?;
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["-n", "settled@localhost"]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        for variable in String::from_utf8_lossy(&environment).split('\0') {
            if let (true, Some((name, value))) =
                (NEEDED.iter().any(|name| variable.starts_with(name)), variable.split_once('='))
            {
                command.env(name, value);
            }
        }
        let output = command.output().await.with_context(|| format!("start {PROGRAM}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rabbitmqctl {}: {}", arguments.join(" "), said.trim());
        Ok(())
    }
}
