//! `settled audit`: checks every invariant of the ledger over every row, in one snapshot and without locks.

use anyhow::anyhow;
use settled_core::contract::{Currencies, Currency};
use settled_store::queries::Error;
use settled_store::queries::audit::{Audit, CurrencyTotals, Part, STEPS, Totals, audit_part};

use super::human::{counted, time};
use super::output::{self, Text};
use super::progress::Progress;
use super::{Exit, Failure, Global, block_on};
use crate::lifecycle;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Checks one of several equal parts, such as 1/8, to have a long audit in pieces. Together 1/8 to 8/8 check the whole
    /// ledger, whenever each of them runs; what is about the ledger as a whole goes with the first.
    #[arg(long, value_name = "I/N", default_value_t = Part::WHOLE)]
    part: Part,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    let stop = lifecycle::interruptible()?;
    block_on(async {
        let progress = Progress::begin(global.json, "audit", Some(STEPS));
        let work = async {
            let mut client = settled_store::connect_to_read(&config.postgres).await?;
            let audit = audit_part(&mut client, args.part, |step| progress.step(step)).await;
            audit.map_err(failure)
        };
        let audit = tokio::select! {
            biased;
            audit = work => audit?,
            () = stop.cancelled() => return Err(interrupted(args.part)),
        };
        drop(progress);
        output::print(global.json, &audit, || human(&audit, &config.payments.currencies))?;
        Ok(if audit.passed { Exit::Ok } else { Exit::Failure })
    })
}

fn interrupted(part: Part) -> Failure {
    let hint = match part.is_whole() {
        true => "--part 1/8 to --part 8/8 check the same in eight pieces".to_owned(),
        false => format!("go on with --part {part}; parts that passed need not be repeated"),
    };
    Failure::new(Exit::Interrupted, anyhow!("interrupted: nothing is known of what was not finished")).hint(hint)
}

/// Says what to do if the standby has ended the audit to replay a change of the primary.
fn failure(error: Error) -> Failure {
    if !error.is_recovery_conflict() {
        return error.into();
    }
    Failure::new(Exit::Unavailable, error).hint(
        "the audit was in the way of the primary's changes: set hot_standby_feedback = on on the standby, or a longer \
         max_standby_streaming_delay, or audit it in parts",
    )
}

fn human(audit: &Audit, currencies: &Currencies) -> Text {
    let mut text = Text::default();
    for check in &audit.checks {
        let mark = if check.violations == 0 { '✓' } else { '✗' };
        text.line(format!("{mark} {:<22}{}", check.name, check.holds));
        for example in &check.examples {
            text.line(format!("    {example}"));
        }
        let shown = i64::try_from(check.examples.len()).unwrap_or_default();
        if check.violations > shown {
            text.line(format!("    … and {} more", check.violations - shown));
        }
    }
    text.line("");
    if let Some(counted) = &audit.totals {
        totals(counted, currencies, &mut text);
        text.line("");
    }
    let failed = audit.checks.iter().filter(|check| check.violations > 0).count();
    if audit.is_standby {
        let until = audit.replayed_until.map(|until| format!(", which has replayed the primary until {}", time(until)));
        text.line(format!("on a standby{}", until.unwrap_or_default()));
    }
    let part = if audit.part.is_whole() { String::new() } else { format!(", part {}", audit.part) };
    text.line(match failed {
        0 => format!("audit: passed{part}"),
        failed => format!("audit: FAILED, {}{part}", counted(failed, "check")),
    });
    text
}

fn totals(totals: &Totals, currencies: &Currencies, text: &mut Text) {
    let Totals { accounts, unopened_accounts, entries, legs, transitions, holds, .. } = totals;
    text.line(format!(
        "{}, {} that nobody opened, {entries} entries",
        counted(*accounts, "account"),
        counted(*unopened_accounts, "name")
    ));
    text.line([counted(*legs, "leg"), counted(*transitions, "transition"), counted(*holds, "hold")].join(", "));
    let Totals { payments, outbox, dead_letters, .. } = totals;
    for payment in payments {
        let reason = payment.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text.line(format!("{:>12} {} {}{reason}", payment.count, payment.task_type, payment.state));
    }
    for currency in &totals.currencies {
        text.line(balances(currency, currencies));
    }
    let (rows, events) = (counted(outbox.rows, "row"), counted(outbox.events, "event"));
    text.line(format!("outbox: {rows}, {events} ({} held)", outbox.held_events));
    let open: Vec<String> =
        dead_letters.iter().map(|letters| format!("{} {}", letters.count, letters.reason)).collect();
    text.line(format!("open dead letters: {}", if open.is_empty() { "none".to_owned() } else { open.join(", ") }));
}

fn balances(totals: &CurrencyTotals, currencies: &Currencies) -> String {
    // A sum beyond 64 bits can only be an error; it is shown in minor units.
    let format = |minor: i128| match (Currency::parse(&totals.currency), i64::try_from(minor)) {
        (Some(currency), Ok(minor)) => currencies.format(currency, minor),
        _ => minor.to_string(),
    };
    let mut text = format!(
        "{}: {}, balances {} and {}",
        totals.currency,
        counted(totals.accounts, "account"),
        format(totals.credit),
        format(totals.debit)
    );
    if totals.held > 0 {
        text += &format!(", held {}", format(totals.held));
    }
    if totals.shortfall > 0 {
        text += &format!(", {} short of limits", format(totals.shortfall));
    }
    text
}
