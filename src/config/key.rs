//! The vocabulary of the key table: what a setting may be, in one line per key.
//!
//! Every section lists its keys once (see [`Section::keys`]). That list is all there is:
//! the file is read by it, unknown keys are found by it, and the sample, `settled config`
//! and "did you mean" come out of it, so none of them can say anything else.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A section of the file: `[broker]`, `[postgres]`, …
pub trait Section {
    /// The name in brackets.
    const NAME: &'static str;
    /// What the section is about: one sentence for the sample.
    const ABOUT: &'static str;

    /// Every key of the section, in the order of the sample, bound to its field.
    fn keys(&mut self) -> Vec<Key<'_>>;
}

/// One key: its name, its documentation and the field it fills.
pub struct Key<'a> {
    /// The name in the file.
    pub(super) name: &'static str,
    /// One sentence for the sample. Ranges and choices are added from the field.
    pub(super) doc: &'static str,
    /// The environment variable that overrides the file.
    pub(super) env: Option<&'static str>,
    /// What the sample sets, where the default is as it is for the sake of installations that are there.
    pub(super) recommended: Option<&'static str>,
    /// The field.
    pub(super) field: Field<'a>,
}

impl<'a> Key<'a> {
    /// A key that fills `field`.
    #[must_use]
    pub fn new(name: &'static str, field: Field<'a>, doc: &'static str) -> Self {
        Self { name, doc, env: None, recommended: None, field }
    }

    /// Sets another value than the default in the sample.
    #[must_use]
    pub fn recommended(mut self, literal: &'static str) -> Self {
        self.recommended = Some(literal);
        self
    }

    /// Lets an environment variable override the file.
    #[must_use]
    pub fn or_env(mut self, variable: &'static str) -> Self {
        self.env = Some(variable);
        self
    }
}

/// A field of a settings struct with what it accepts.
pub enum Field<'a> {
    /// `true` or `false`.
    Flag(&'a mut bool),
    /// A whole number within a range.
    Whole(&'a mut dyn Whole, RangeInclusive<u64>),
    /// A number within a range.
    Number(&'a mut f64, RangeInclusive<f64>),
    /// A duration such as `"250ms"` within a range.
    Span(&'a mut Duration, RangeInclusive<Duration>),
    /// A string that obeys a rule.
    Text(&'a mut String, &'static Rule),
    /// The path of a file, or nothing.
    Path(&'a mut Option<PathBuf>),
    /// A string that is read into a type of its own.
    Parsed(&'a mut dyn Parsed),
    /// A list of such strings; by default with at least one element.
    List(&'a mut dyn List),
}

/// What a plain string must be.
pub struct Rule {
    /// In words, after "expected".
    pub expected: &'static str,
    /// Says what is wrong with a string, if anything.
    pub check: fn(&str) -> Result<(), String>,
}

/// An unsigned integer of any width.
pub trait Whole {
    /// The value.
    fn get(&self) -> u64;
    /// Sets the value. The key's range keeps it within the type; what does not fit saturates.
    fn put(&mut self, value: u64);
}

macro_rules! whole {
    ($($integer:ty),*) => {$(
        impl Whole for $integer {
            fn get(&self) -> u64 {
                u64::try_from(*self).unwrap_or(u64::MAX)
            }
            fn put(&mut self, value: u64) {
                *self = Self::try_from(value).unwrap_or(Self::MAX);
            }
        }
    )*};
}
whole!(u16, u32, usize);

/// A type of its own that is written as a string.
pub trait Parsed {
    /// In words, after "expected".
    fn expected(&self) -> String;
    /// Takes the value from `text`, or says what is wrong with it.
    ///
    /// # Errors
    /// With the reason, without the text itself when it may hold a password.
    fn parse(&mut self, text: &str) -> Result<(), String>;
    /// The value as text, without any password.
    fn show(&self) -> String;
    /// Whether the text may hold a password and is therefore never shown as it was written.
    fn is_secret(&self) -> bool {
        false
    }
    /// The values there are, when they can be counted.
    fn choices(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// A setting with a handful of named values.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every value with its name in the file.
    const NAMES: &'static [(&'static str, Self)];

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }
}

impl<T: Choice> Parsed for T {
    fn expected(&self) -> String {
        let names: Vec<String> = self.choices().iter().map(|name| format!("\"{name}\"")).collect();
        names.join(" or ")
    }
    fn parse(&mut self, text: &str) -> Result<(), String> {
        let (_, value) = T::NAMES.iter().find(|(name, _)| *name == text).ok_or("there is no such value")?;
        *self = *value;
        Ok(())
    }
    fn show(&self) -> String {
        self.name().to_owned()
    }
    fn choices(&self) -> Vec<&'static str> {
        T::NAMES.iter().map(|(name, _)| *name).collect()
    }
}

impl Parsed for SocketAddr {
    fn expected(&self) -> String {
        "an IP address and a port such as \"127.0.0.1:9464\" or \"[::1]:9464\"".to_owned()
    }
    fn parse(&mut self, text: &str) -> Result<(), String> {
        *self = text.parse().map_err(|_| match text.rsplit_once(':') {
            None => "the port is missing",
            Some((_, port)) if port.parse::<u16>().is_err() => "the port is not a number up to 65535",
            Some(_) => "the part before the port is not an IP address",
        })?;
        Ok(())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A list of strings that are read into a type of their own. Those of URIs may hold passwords.
pub trait List {
    /// One element in words, after "expected a list of".
    fn expected(&self) -> String;
    /// Takes all elements, or says which one is wrong and why.
    ///
    /// # Errors
    /// With the index of the first wrong element and the reason.
    fn replace(&mut self, texts: &[&str]) -> Result<(), (usize, String)>;
    /// The elements as text, without any password.
    fn show(&self) -> Vec<String>;
    /// Whether a list without elements says something.
    fn may_be_empty(&self) -> bool {
        false
    }
}

/// An element of a [`List`].
pub trait Element: FromStr<Err = String> + Display {
    /// In words, in the plural.
    const EXPECTED: &'static str;
}

impl<T: Element> List for Vec<T> {
    fn expected(&self) -> String {
        T::EXPECTED.to_owned()
    }
    fn replace(&mut self, texts: &[&str]) -> Result<(), (usize, String)> {
        let parse = |(index, text): (usize, &&str)| text.parse().map_err(|reason| (index, reason));
        *self = texts.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok(())
    }
    fn show(&self) -> Vec<String> {
        self.iter().map(T::to_string).collect()
    }
}
