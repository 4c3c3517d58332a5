//! `settled audit`: checks every invariant of the ledger over every row, in one snapshot and without locks.

use settled_core::contract::{Currencies, Currency};
use settled_store::queries::audit::{self, Audit, CurrencyTotals, Totals};

use super::human::counted;
use super::output::Text;
use super::{Exit, Failure, Global};

pub(super) fn run(global: &Global) -> Result<Exit, Failure> {
    global.with_database(async |mut session| {
        let audit = audit::audit(&mut session.client).await?;
        session.print(&audit, || human(&audit, session.currencies()))?;
        Ok(if audit.passed { Exit::Ok } else { Exit::Failure })
    })
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
    totals(&audit.totals, currencies, &mut text);
    text.line("");
    let failed = audit.checks.iter().filter(|check| check.violations > 0).count();
    text.line(match failed {
        0 => "audit: passed".to_owned(),
        failed => format!("audit: FAILED, {}", counted(failed, "check")),
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
