//! What the daemon says of itself over HTTP: whether it is ready, and what came of its tasks.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::plan::{Tally, outcome_named};

/// The counter of outcomes, by its documented name: as any monitoring would know it.
const OUTCOMES: &str = "settled_outcomes_total";

/// How long an answer may take: one that is frozen gives none.
const ANSWER: Duration = Duration::from_secs(5);

/// All metrics of a daemon at a moment, in Prometheus' text format.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of a metric over those of its labels of which `label` is a part; all of them if it is
    /// empty.
    pub(crate) fn sum(&self, name: &str, label: &str) -> f64 {
        let samples = self.0.lines().filter_map(|line| line.strip_prefix(name));
        let samples = samples.filter(|rest| rest.starts_with([' ', '{']) && rest.contains(label));
        samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What the deliveries of this process came to, from its start on.
    pub(crate) fn outcomes(&self) -> Tally {
        let mut tally = Tally::default();
        for line in self.0.lines().filter(|line| line.starts_with(OUTCOMES)) {
            let outcome = label(line, "outcome").zip(label(line, "reason"));
            let outcome = outcome.and_then(|(name, reason)| outcome_named(name, reason));
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
            if let Some((outcome, count)) = outcome.zip(count) {
                tally.add(outcome, count as u64);
            }
        }
        tally
    }
}

/// Whether `/readyz` answers 200, and its body.
pub(crate) async fn ready(admin: SocketAddr) -> Result<(bool, String)> {
    let (status, body) = get(admin, "/readyz").await?;
    Ok((status == 200, body))
}

pub(crate) async fn metrics(admin: SocketAddr) -> Result<Metrics> {
    let (status, body) = get(admin, "/metrics").await?;
    ensure!(status == 200, "/metrics answered {status}");
    Ok(Metrics(body))
}

async fn get(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    let answered = timeout(ANSWER, ask(admin, path)).await;
    answered.with_context(|| format!("{path} did not answer within {ANSWER:?}"))?
}

/// One request on one connection. HTTP/1.0, so that the answer ends with the connection.
async fn ask(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok((status.context("no HTTP status")?, body.to_owned()))
}

fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use settled_core::contract::{DeadReason, Rejection};
    use settled_pipeline::labels::Outcome;

    use super::*;

    #[test]
    fn outcomes_of_all_types_are_added_up() {
        let metrics = format!(
            "# HELP {OUTCOMES} text\n\
             {OUTCOMES}{{type=\"transfer\",outcome=\"settled\",reason=\"none\"}} 7\n\
             {OUTCOMES}{{type=\"open_account\",outcome=\"settled\",reason=\"none\"}} 3\n\
             {OUTCOMES}{{type=\"transfer\",outcome=\"rejected\",reason=\"insufficient_funds\"}} 2\n\
             {OUTCOMES}{{type=\"unknown\",outcome=\"dead_lettered\",reason=\"malformed\"}} 1\n\
             other{{outcome=\"settled\",reason=\"none\"}} 5\n"
        );
        let metrics = Metrics(metrics);
        let counts = ["", "type=\"transfer\"", "reason=\"none\""].map(|label| metrics.sum(OUTCOMES, label));
        assert_eq!((counts, metrics.sum("settled_outcomes", "")), ([13.0, 9.0, 10.0], 0.0));
        let tally = metrics.outcomes();
        assert_eq!(tally.get(Outcome::Settled), 10);
        assert_eq!(tally.get(Outcome::Rejected(Rejection::InsufficientFunds)), 2);
        assert_eq!(tally.get(Outcome::DeadLettered(DeadReason::Malformed)), 1);
        assert_eq!(tally.total(), 13);
    }
}
