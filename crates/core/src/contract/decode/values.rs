//! What a field's text says: ids, names, currencies, moments.

use std::borrow::Cow;

use compact_str::CompactString;
use jiff::Timestamp;
use jiff::tz::Offset;
use uuid::Uuid;

use super::{Origin, Refusal};
use crate::contract::{AccountName, Currency, TaskType};

/// The longest `reference`, in characters.
pub(in crate::contract) const MAX_REFERENCE_CHARS: usize = 140;

type Text<'a> = Option<Cow<'a, str>>;

/// The first year of a moment that a task may name. What lies before is a clock's zero, which says that
/// nobody has set it: 1601, 1900, 1904, 1970, 1980, 2000 and 2001 are in use.
pub(in crate::contract) const FIRST_YEAR: i16 = 2002;

/// The last year of such a moment. Timestamps end in the course of 9999.
pub(in crate::contract) const LAST_YEAR: i16 = 9998;

pub(super) fn uuid(origin: Origin, field: &'static str, text: Text<'_>) -> Result<Uuid, Refusal> {
    const EXPECTED: &str = "a UUID with hyphens, such as 01920000-0000-7000-8000-000000000001";
    let text = text.ok_or_else(|| Refusal::missing(field, EXPECTED))?;
    // One spelling only: the crate would also take braces, URNs and no hyphens.
    let id = (text.len() == 36).then(|| Uuid::try_parse(&text).ok()).flatten();
    let id = id.ok_or_else(|| Refusal::of(field, format!("{}, expected {EXPECTED}", quoted(&text))))?;
    if origin == Origin::Publisher && is_unset(id) {
        let detail =
            format!("{}, which is what an id is before anybody has set it: expected {EXPECTED}", quoted(&text));
        return Err(Refusal::of(field, detail));
    }
    Ok(id)
}

/// Whether an id is memory that nobody has filled: all its bits are 0 or all are 1, beside the two digits
/// that say version and variant. So the nil and the max UUID, and a version 4 or 7 made of no random bits.
pub fn is_unset(id: Uuid) -> bool {
    /// The digit of the version and that of the variant.
    const LABELS: u128 = 0xf << 76 | 0xf << 60;
    let bits = id.as_u128();
    bits & !LABELS == 0 || bits | LABELS == u128::MAX
}

/// The id of a task that isn't the one with the id `own`.
pub(super) fn other_task(origin: Origin, field: &'static str, text: Text<'_>, own: Uuid) -> Result<Uuid, Refusal> {
    match uuid(origin, field, text)? {
        id if id == own => Err(Refusal::of(field, "the task's own `id`, expected that of another task".into())),
        id => Ok(id),
    }
}

pub(super) fn task_type(text: Text<'_>) -> Result<TaskType, Refusal> {
    let expected = || format!("one of {}", TaskType::ALL.map(|task_type| format!("`{}`", task_type.name())).join(", "));
    let text = text.ok_or_else(|| Refusal::missing("type", &expected()))?;
    TaskType::from_name(&text).ok_or_else(|| Refusal::of("type", format!("{}, expected {}", quoted(&text), expected())))
}

pub(super) fn account(field: &'static str, text: Text<'_>) -> Result<AccountName, Refusal> {
    let text = text.ok_or_else(|| Refusal::missing(field, AccountName::EXPECTED))?;
    AccountName::parse(&text)
        .ok_or_else(|| Refusal::of(field, format!("{}, expected {}", quoted(&text), AccountName::EXPECTED)))
}

pub(super) fn currency(text: Text<'_>) -> Result<Currency, Refusal> {
    const EXPECTED: &str = "three capital letters, an ISO 4217 code";
    let text = text.ok_or_else(|| Refusal::missing("currency", EXPECTED))?;
    Currency::parse(&text).ok_or_else(|| Refusal::of("currency", format!("{}, expected {EXPECTED}", quoted(&text))))
}

pub(super) fn reference(text: Cow<'_, str>) -> Result<CompactString, Refusal> {
    match text.chars().count() {
        1..=MAX_REFERENCE_CHARS => Ok(CompactString::new(text)),
        n => Err(Refusal::of("reference", format!("{n} characters, expected 1 to {MAX_REFERENCE_CHARS}"))),
    }
}

/// A moment to the microsecond: what the database keeps, so that what comes back from there is what was
/// asked for.
pub(super) fn moment(origin: Origin, field: &'static str, text: &str) -> Result<Timestamp, Refusal> {
    const EXPECTED: &str = "a date and time with its offset, as RFC 3339 writes it, with capital T and Z and at most six digits of a \
         second, such as 2030-01-31T09:00:00Z or 2030-01-31T10:00:00.000001+01:00";
    let refuse = |detail: String| Err(Refusal::of(field, format!("{}, {detail}", quoted(text))));
    // The crate would also take other separators, no seconds, a second 60, more digits, longer
    // offsets, a time zone in brackets.
    if !is_rfc_3339(text.as_bytes()) {
        return refuse(format!("expected {EXPECTED}"));
    }
    let is_in_range = |year: i16| origin == Origin::Ledger || (FIRST_YEAR..=LAST_YEAR).contains(&year);
    let out_of_range = || refuse(format!("expected a year from {FIRST_YEAR} to {LAST_YEAR}, in UTC as well"));
    if !text[..4].parse().is_ok_and(is_in_range) {
        return out_of_range();
    }
    let Ok(moment) = text.parse() else {
        return refuse("a date or time that is not in the calendar".to_owned());
    };
    // A schema can check the year that is written; this one is that of the task's own JSON.
    if is_in_range(Offset::UTC.to_datetime(moment).year()) { Ok(moment) } else { out_of_range() }
}

/// Whether a text has the form `2030-01-31T10:00:00.000001+01:00`, whatever its figures.
fn is_rfc_3339(text: &[u8]) -> bool {
    let like = |text: &[u8], form: &[u8]| {
        let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
        text.len() == form.len() && text.iter().zip(form).all(fits)
    };
    let Some((whole, rest)) = text.split_at_checked(b"0000-00-00T00:00:00".len()) else { return false };
    let offset = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=6).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
        whole_seconds => whole_seconds,
    };
    like(whole, b"0000-00-00T00:00:00")
        && !whole.ends_with(b"60")
        && (offset == b"Z"
            || (like(offset, b"+00:00") || like(offset, b"-00:00"))
                && offset[1..3] < b"24"[..]
                && offset[4..] < b"60"[..])
}

/// A value as it is shown to people: quoted, and cut when it is long.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
