//! What is said in words and tables.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::report::model::{ProcessUse, Quantiles, Summary};
use crate::report::numbers::{bytes, count, decimal, measured, millis, share, shares};

/// Whether everything was as it had to be, term by term.
pub(super) fn judgement(summary: &Summary) -> Markup {
    html! {
        section.wide {
            h2 { "Objective and checks" }
            ul.checks {
                @for term in &summary.slo {
                    li.held[term.held].broken[!term.held] {
                        (mark(term.held)) code { (term.term) } " measured "
                        strong { (measured(term)) }
                    }
                }
                @for check in &summary.checks {
                    li.held[check.found.is_none()].broken[check.found.is_some()] {
                        (mark(check.found.is_none())) (check.holds)
                        @if let Some(found) = &check.found { pre.found { (found) } }
                    }
                }
            }
            p.sub {
                "Audit of the ledger: " @if summary.audit.passed { "passed" } @else { "not passed" } ", "
                (count(summary.audit.checks)) " checks over every row."
            }
        }
    }
}

/// In words, for those who do not see the colour, and for paper.
fn mark(held: bool) -> Markup {
    html! { span.mark { @if held { "✓ holds" } @else { "✗ broken" } } " " }
}

/// What came of every message, how long it took and what it cost.
pub(super) fn figures(summary: &Summary) -> Markup {
    html! {
        section {
            h2 { "Outcomes" }
            (outcomes(summary))
        }
        section {
            h2 { "Latency and cost" }
            (latencies(summary))
            (processes(summary))
        }
    }
}

fn outcomes(summary: &Summary) -> Markup {
    let row = |name: &str, number: u64| {
        html! {
            tr { th scope="row" { (name) } td { (count(number)) } td { (share(number, summary.published)) } }
        }
    };
    let must_be_none = |name: &str, number: u64| {
        html! {
            tr.broken[number > 0] { th scope="row" { (name) } td { (count(number)) } td {} }
        }
    };
    let plain = |name: &str, number: u64| {
        html! {
            tr { th scope="row" { (name) } td { (count(number)) } td {} }
        }
    };
    html! {
        table {
            thead { tr { th { "" } th { "messages" } th { "of published" } } }
            tbody {
                (row("published", summary.published))
                (row("confirmed by the broker", summary.confirmed))
                (row("settled", summary.settled))
                (row("rejected", summary.rejected.values().sum()))
                (reasons(&summary.rejected, summary.published))
                @if summary.canceled > 0 { (row("canceled", summary.canceled)) }
                (row("duplicates", summary.duplicates))
                (row("dead-lettered", summary.dead_lettered.values().sum()))
                (reasons(&summary.dead_lettered, summary.published))
                (must_be_none("lost", summary.lost))
                (must_be_none("doubled", summary.doubled))
            }
            (types(summary))
            tbody {
                (plain("events, different ones", summary.events))
                (plain("events, repetitions included", summary.events_received))
                (must_be_none("events missing", summary.events_missing))
                (must_be_none("events unexpected", summary.events_unexpected))
            }
        }
    }
}

/// What came of the tasks of each type, where there is more than transfers.
fn types(summary: &Summary) -> Markup {
    let is_plain = summary.by_type.keys().all(|name| name == "transfer") && summary.waited.is_empty();
    html! {
        @if !is_plain {
            tbody {
                @for (name, outcomes) in &summary.by_type {
                    @for (outcome, number) in outcomes {
                        tr { th scope="row" { code { (name) } ", " (outcome) } td { (count(*number)) }
                             td { (share(*number, summary.published)) } }
                    }
                }
                @for (state, times) in &summary.waited {
                    tr { th scope="row" { (state) " before that" } td { (count(*times)) } td {} }
                }
            }
        }
    }
}

fn reasons(reasons: &BTreeMap<String, u64>, published: u64) -> Markup {
    html! {
        @for (reason, number) in reasons {
            tr.reason { th scope="row" { code { (reason) } } td { (count(*number)) } td { (share(*number, published)) } }
        }
    }
}

fn latencies(summary: &Summary) -> Markup {
    let latency = &summary.latency_ms;
    let rows: Vec<(&str, Quantiles)> = [
        ("schedule lag", summary.schedule_lag_ms),
        ("to the confirm", latency.confirm),
        ("to the commit", latency.commit),
        ("to the event", latency.event),
    ]
    .into_iter()
    .filter_map(|(name, quantiles)| Some((name, quantiles?)))
    .collect();
    html! {
        @if rows.is_empty() {
            p.none { "No latency was measured." }
        } @else {
            table {
                caption { "From the time a message was scheduled for" }
                thead { tr { th { "" } th { "p50" } th { "p90" } th { "p99" } th { "p99.9" } th { "max" } } }
                tbody {
                    @for (name, Quantiles { p50, p90, p99, p999, max, count: _ }) in rows {
                        tr { th scope="row" { (name) } @for time in [p50, p90, p99, p999, max] { td { (millis(time)) } } }
                    }
                }
            }
        }
    }
}

fn processes(summary: &Summary) -> Markup {
    let rows: [(&str, &ProcessUse); 4] = [
        ("daemon", &summary.daemon),
        ("PostgreSQL", &summary.postgres),
        ("RabbitMQ", &summary.rabbitmq),
        ("load generator", &summary.generator),
    ];
    html! {
        table {
            caption { "Processes" }
            thead { tr { th { "" } th { "CPU" } th { "cores" } th { "per payment" } th { "memory" } th { "restarts" } } }
            tbody {
                @for (name, used) in rows {
                    tr {
                        th scope="row" { (name) }
                        td { (decimal(used.cpu_seconds, 1)) " s" }
                        td { (decimal(used.cpu_seconds / summary.duration_s, 2)) }
                        td { @if let Some(micros) = summary.cpu_micros_per_payment(used) { (decimal(micros, 0)) " µs" } @else { "–" } }
                        td { (bytes(used.max_rss_bytes)) }
                        td { (used.restarts) }
                    }
                }
            }
        }
    }
}

/// What the figures depend on, and how to get them again.
pub(super) fn circumstances(summary: &Summary) -> Markup {
    let (load, machine) = (&summary.load, &summary.machine);
    html! {
        section {
            h2 { "Load" }
            dl {
                dt { "rate" } dd { (load.rate) }
                dt { "arrival" } dd { (load.arrival) }
                dt { "accounts" } dd { (count(load.accounts)) ", " (load.skew) }
                dt { "seed" } dd { (load.seed) }
                dt { "payload" } dd { (count(load.payload_bytes)) " bytes" }
                dt { "mix" } dd { (shares(&load.mix)) }
                @if !load.cases.is_empty() {
                    dt { "cases" } dd { (shares(&load.cases)) }
                }
                @if load.out_of_order > 0.0 {
                    dt { "in reverse" } dd { (decimal(100.0 * load.out_of_order, 1)) " % of the cases" }
                }
                @if load.scheduled > 0.0 {
                    dt { "scheduled" } dd {
                        (decimal(100.0 * load.scheduled, 1)) " % of the payments, within "
                        (decimal(load.scheduled_within_s, 1)) " s"
                    }
                }
                dt { "daemons" } dd { (load.daemons) }
            }
        }
        section {
            h2 { "Machine" }
            dl {
                dt { "processors" } dd { (machine.cpus) " × " (machine.cpu_model) }
                dt { "memory" } dd { (bytes(machine.memory_bytes)) }
                dt { "kernel" } dd { (machine.kernel) }
                dt { "PostgreSQL" } dd { (machine.postgres_version) }
                dt { "RabbitMQ" } dd { (machine.rabbitmq_version) }
            }
        }
        section.wide {
            h2 { "Command" }
            pre.command { (command_line(&summary.command)) }
        }
    }
}

/// As it can be typed into a shell.
fn command_line(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
    let quoted = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_again() {
        let words = ["settled-loadtest", "run", "--rate=0..20/5s", "--slo", "p99<25ms", "--label", "it's", ""];
        let line = command_line(&words.map(str::to_owned));
        assert_eq!(line, r"settled-loadtest run --rate=0..20/5s --slo 'p99<25ms' --label 'it'\''s' ''");
    }
}
