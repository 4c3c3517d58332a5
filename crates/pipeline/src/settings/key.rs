//! Types that describe the keys of the configuration.
//!
//! A section declares its keys once, by [`section!`](crate::section). Reading the file, finding unknown keys, the
//! sample, `settled config` and "did you mean" all use that list, so they cannot disagree.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A section of the configuration file, such as `[broker]`.
pub trait Section {
    /// The name, without its brackets.
    const NAME: &'static str;
    /// A sentence about the section, for the sample.
    const ABOUT: &'static str;

    /// Returns all keys of the section in the order of the sample, each with a reference to the field that it sets.
    fn keys(&mut self) -> Vec<Key<'_>>;

    /// Takes the values of `new` for all keys that a reload may change. Returns every key whose values differ.
    fn reload(&mut self, new: &Self) -> Vec<Change>;
}

/// A key whose value differs from the one before a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name in the file.
    pub key: &'static str,
    /// Whether the reload takes the new value. Otherwise it needs a restart.
    pub applied: bool,
}

/// A reload takes whatever value the key has.
pub fn always<T>(_: &T, _: &T) -> bool {
    true
}

/// A key of a section.
pub struct Key<'a> {
    /// The name in the file.
    pub name: &'static str,
    /// A description for the sample, which adds range or choices from the field.
    pub doc: &'static str,
    /// The environment variable that overrides the file.
    pub env: Option<&'static str>,
    /// The value that the sample sets, if the default is another one for the sake of existing installations.
    pub recommended: Option<&'static str>,
    /// The name of the function that says which changes a reload takes, such as [`always`]. `None` if a change needs a
    /// restart.
    pub reloads: Option<&'static str>,
    /// The field that the key sets, and the values it accepts.
    pub field: Field<'a>,
}

impl<'a> Key<'a> {
    /// Creates a key that sets `field`.
    #[must_use]
    pub fn new(name: &'static str, field: Field<'a>, doc: &'static str) -> Self {
        Self { name, doc, env: None, recommended: None, reloads: None, field }
    }

    /// Has the sample set this value instead of the default.
    #[must_use]
    pub fn recommended(mut self, literal: &'static str) -> Self {
        self.recommended = Some(literal);
        self
    }

    /// Has a reload take those changes that the function of this name accepts.
    #[must_use]
    pub fn reloads(mut self, condition: &'static str) -> Self {
        self.reloads = Some(condition);
        self
    }

    /// Lets an environment variable override the file.
    #[must_use]
    pub fn or_env(mut self, variable: &'static str) -> Self {
        self.env = Some(variable);
        self
    }
}

/// A reference to a field of a settings struct, and the values that it accepts.
pub enum Field<'a> {
    /// A boolean: `true` or `false`.
    Flag(&'a mut bool),
    /// An integer within a range.
    Whole(&'a mut dyn Whole, RangeInclusive<u64>),
    /// A number with decimals within a range.
    Number(&'a mut f64, RangeInclusive<f64>),
    /// A duration such as `"250ms"` within a range.
    Span(&'a mut Duration, RangeInclusive<Duration>),
    /// A string that a rule checks.
    Text(&'a mut String, &'static Rule),
    /// The path of a file, or none.
    Path(&'a mut Option<PathBuf>),
    /// A string that is parsed.
    Parsed(&'a mut dyn Parsed),
    /// A list of strings that are parsed.
    List(&'a mut dyn List),
}

/// The values that a string setting accepts.
pub struct Rule {
    /// Describes them, to follow "expected" in a message.
    pub expected: &'static str,
    /// Returns what is wrong with a string, if anything.
    pub check: fn(&str) -> Result<(), String>,
}

/// An unsigned integer of any width.
pub trait Whole {
    /// Returns the value in the widest type.
    fn get(&self) -> u64;
    /// Sets the value, which the key's range has checked. A value that does not fit the type saturates.
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

/// A setting that is parsed from a string.
pub trait Parsed {
    /// Describes the accepted values, to follow "expected" in a message.
    fn expected(&self) -> String;
    /// Sets the value from `text`.
    ///
    /// # Errors
    ///
    /// The reason, without the text itself if it may contain a password. What to write instead, where that is known,
    /// follows behind a semicolon.
    fn parse(&mut self, text: &str) -> Result<(), String>;
    /// Returns the value as text, without passwords.
    fn show(&self) -> String;
    /// Whether the text may contain a password. It is never shown as it was written then.
    fn is_secret(&self) -> bool {
        false
    }
    /// Returns the accepted values, if they can be listed.
    fn choices(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// A setting with a few named values.
pub trait Choice: Copy + PartialEq + 'static {
    /// All values, each with its name in the file.
    const NAMES: &'static [(&'static str, Self)];

    /// Returns the name of the value.
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

/// A setting that is a list of strings, each of which is parsed.
pub trait List {
    /// Describes the elements, to follow "expected a list of" in a message.
    fn expected(&self) -> String;
    /// Replaces all elements by those parsed from `texts`.
    ///
    /// # Errors
    ///
    /// The index of the first wrong element, and the reason as in [`Parsed::parse`].
    fn replace(&mut self, texts: &[&str]) -> Result<(), (usize, String)>;
    /// Returns the elements as text, without passwords.
    fn show(&self) -> Vec<String>;
    /// Whether a list without elements is accepted.
    fn may_be_empty(&self) -> bool {
        false
    }
}

/// An element of a [`List`].
pub trait Element: FromStr<Err = String> + Display {
    /// Describes elements in the plural, to follow "expected a list of" in a message.
    const EXPECTED: &'static str;
    /// Whether a list without elements is accepted.
    const MAY_BE_NONE: bool = false;
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
    fn may_be_empty(&self) -> bool {
        T::MAY_BE_NONE
    }
}
