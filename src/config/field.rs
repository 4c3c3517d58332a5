//! Reading and showing the value of one key.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use serde_json::Value as Json;
use settled_pipeline::settings::{Field, List, did_you_mean};
use toml::de::DeValue;

use super::span;

/// Why a value is not accepted.
pub(super) struct Refusal {
    /// What was found. Never contains the value of a field that may hold a password.
    pub(super) found: String,
    /// `None` if the value does not tell what is meant.
    pub(super) remedy: Option<String>,
    /// The position in the file of the wrong element of a list.
    pub(super) span: Option<Range<usize>>,
}

impl Refusal {
    pub(super) fn new(found: impl Into<String>) -> Self {
        Self { found: found.into(), remedy: None, span: None }
    }

    /// Returns the refusal of a text that `found` describes, for a reason as [`Parsed::parse`](settled_pipeline::settings::Parsed::parse) gives it.
    fn because(found: &str, why: &str, remedy: Option<String>) -> Self {
        let (why, instead) = why.split_once("; ").map_or((why, None), |(why, instead)| (why, Some(instead.to_owned())));
        Self::new(format!("{found} ({why})")).remedy(instead.or(remedy))
    }

    fn remedy(mut self, remedy: Option<String>) -> Self {
        self.remedy = remedy;
        self
    }
}

/// Returns the accepted values in words, to follow "expected".
pub(super) fn expected(field: &Field<'_>) -> String {
    match field {
        Field::Flag(_) => "true or false".to_owned(),
        Field::Whole(_, range) => format!("a whole number from {} to {}", range.start(), range.end()),
        Field::Number(_, range) => format!("a number from {:?} to {:?}", range.start(), range.end()),
        Field::Span(_, range) => {
            let (from, to) = (span::show(*range.start()), span::show(*range.end()));
            format!("a duration from \"{from}\" to \"{to}\"")
        }
        Field::Text(_, rule) => rule.expected.to_owned(),
        Field::Path(_) => "the path of a file, in quotes".to_owned(),
        Field::Parsed(value) => value.expected(),
        Field::List(list) => format!("a list of {}", list.expected()),
    }
}

/// Returns the value with passwords hidden.
pub(super) fn show(field: &Field<'_>) -> Json {
    match field {
        Field::Flag(value) => Json::from(**value),
        Field::Whole(value, _) => Json::from(value.get()),
        Field::Number(value, _) => Json::from(**value),
        Field::Span(value, _) => Json::from(span::show(**value)),
        Field::Text(value, _) => Json::from(value.as_str()),
        Field::Path(value) => value.as_ref().map_or(Json::Null, |path| Json::from(path.display().to_string())),
        Field::Parsed(value) => Json::from(value.show()),
        Field::List(list) => Json::from(list.show()),
    }
}

/// Sets a field to a value from the file.
pub(super) fn set(field: &mut Field<'_>, value: &DeValue<'_>) -> Result<(), Refusal> {
    match (&mut *field, value) {
        (Field::Flag(field), DeValue::Boolean(value)) => **field = *value,
        (Field::Whole(field, range), DeValue::Integer(number)) => {
            let digits = number.as_str();
            let parsed = u64::from_str_radix(digits, number.radix());
            field.put(within(parsed.ok(), range, digits)?);
        }
        (Field::Number(field, range), DeValue::Float(number)) => {
            **field = within(number.as_str().parse().ok(), range, number.as_str())?;
        }
        (Field::Number(field, range), DeValue::Integer(number)) if number.radix() == 10 => {
            **field = within(number.as_str().parse().ok(), range, number.as_str())?;
        }
        (Field::List(list), DeValue::Array(values)) => {
            let texts: Option<Vec<&str>> = values.iter().map(|value| value.get_ref().as_str()).collect();
            let Some(texts) = texts else { return Err(wrong_type(field, value)) };
            replace(*list, &texts)
                .map_err(|(index, refusal)| Refusal { span: index.map(|index| values[index].span()), ..refusal })?;
        }
        (Field::Span(..) | Field::Text(..) | Field::Path(_) | Field::Parsed(_), DeValue::String(text)) => {
            return set_text(field, text);
        }
        _ => return Err(wrong_type(field, value)),
    }
    Ok(())
}

/// Sets a field to a string from the file, or to the value of an environment variable, in which commas separate the
/// elements of a list.
pub(super) fn set_text(field: &mut Field<'_>, text: &str) -> Result<(), Refusal> {
    match field {
        Field::Span(field, range) => {
            let value = span::parse(text).map_err(|why| {
                Refusal::new(format!("found \"{text}\" ({why})")).remedy(Some(span::REMEDY.to_owned()))
            })?;
            if !range.contains(&value) {
                let nearest = if value < *range.start() { range.start() } else { range.end() };
                return Err(out_of_range(&format!("\"{text}\""), &format!("\"{}\"", span::show(*nearest))));
            }
            **field = value;
        }
        Field::Text(field, rule) => {
            (rule.check)(text).map_err(|why| Refusal::new(format!("found \"{text}\" ({why})")))?;
            text.clone_into(field);
        }
        Field::Path(_) if text.is_empty() => return Err(Refusal::new("found an empty path")),
        Field::Path(field) => **field = Some(text.into()),
        Field::Parsed(field) => {
            let choices = field.choices();
            field.parse(text).map_err(|why| {
                // A value that may hold a password must not be quoted.
                let found =
                    if field.is_secret() { "found something else".to_owned() } else { format!("found \"{text}\"") };
                Refusal::because(&found, &why, did_you_mean(text, choices))
            })?;
        }
        Field::List(list) => {
            let texts: Vec<&str> = text.split(',').map(str::trim).collect();
            replace(*list, &texts).map_err(|(_, refusal)| refusal)?;
        }
        Field::Flag(_) | Field::Whole(..) | Field::Number(..) => {
            return Err(wrong_type(field, &DeValue::String(text.into())));
        }
    }
    Ok(())
}

fn replace(list: &mut dyn List, texts: &[&str]) -> Result<(), (Option<usize>, Refusal)> {
    if texts.is_empty() && !list.may_be_empty() {
        return Err((None, Refusal::new("found an empty list")));
    }
    list.replace(texts).map_err(|(index, why)| {
        let found = match texts.len() {
            1 => "found a wrong element".to_owned(),
            n => format!("found a wrong element, number {} of {n}", index + 1),
        };
        (Some(index), Refusal::because(&found, &why, None))
    })
}

/// Returns the number if it could be parsed (`None` if it could not) and is in range.
fn within<T>(number: Option<T>, range: &RangeInclusive<T>, text: &str) -> Result<T, Refusal>
where
    T: PartialOrd + Copy + std::fmt::Debug,
{
    let is_above = match number {
        Some(number) if range.contains(&number) => return Ok(number),
        Some(number) => number > *range.end(),
        None => !text.starts_with('-'),
    };
    Err(out_of_range(text, &format!("{:?}", if is_above { range.end() } else { range.start() })))
}

fn out_of_range(text: &(impl Display + ?Sized), nearest: &str) -> Refusal {
    Refusal::new(format!("found {text}, which is out of range")).remedy(Some(format!("the nearest is {nearest}")))
}

/// Returns the refusal of a value of another type than the field. It quotes the value only if that cannot be a password:
/// a string in place of a number or a flag.
fn wrong_type(field: &Field<'_>, value: &DeValue<'_>) -> Refusal {
    let (kind, remedy) = match (field, value) {
        (Field::Flag(_) | Field::Whole(..) | Field::Number(..), DeValue::String(text)) => {
            (format!("the string \"{text}\""), Some(format!("write it without quotes: {text}")))
        }
        (Field::Span(..), DeValue::Integer(number)) => {
            (format!("the number {number}"), Some(format!("write \"{number}s\" if seconds are meant")))
        }
        (Field::Whole(..), DeValue::Float(number)) => {
            (format!("{number}, which has a fraction"), Some("write it without the point".to_owned()))
        }
        (Field::List(_), DeValue::String(_)) => {
            ("one string".to_owned(), Some("put it in brackets: [\"…\"]".to_owned()))
        }
        (Field::List(_), DeValue::Array(_)) => ("a list with other things than strings".to_owned(), None),
        (_, value) => (format!("a value of type {}", value.type_str()), None),
    };
    // A remedy may quote the value only if it would then be accepted.
    let remedy = remedy.filter(|_| !matches!(value, DeValue::String(text) if !accepted_without_quotes(field, text)));
    Refusal::new(format!("found {kind}")).remedy(remedy)
}

fn accepted_without_quotes(field: &Field<'_>, text: &str) -> bool {
    match field {
        Field::Flag(_) => matches!(text, "true" | "false"),
        Field::Whole(_, range) => text.parse().is_ok_and(|number: u64| range.contains(&number)),
        Field::Number(_, range) => text.parse().is_ok_and(|number: f64| range.contains(&number)),
        _ => true,
    }
}
