//! Enums whose values have a name outside of Rust: in the contract, in the database, in the diagram of the states.

/// Declares such an enum with `ALL`, `name` and `from_name`; serde and the schemas use the same names. A second word of
/// each value, such as a code of ISO 20022, gets the method that is named in the first line.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident, $(#[$about:meta])* $word:ident {
        $($(#[$doc:meta])* $variant:ident = $text:literal, $other:literal;)+
    }) => {
        named! { $(#[$meta])* $name { $($(#[$doc])* $variant = $text;)+ } }

        impl $name {
            $(#[$about])*
            pub const fn $word(self) -> &'static str {
                match self {
                    $(Self::$variant => $other),+
                }
            }
        }
    };
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema), allow(missing_docs))]
        pub enum $name {
            $(
                $(#[$doc])*
                // Not of the schemas, which say what a value means.
                #[cfg_attr(not(test), doc = concat!("\n\n`", $text, "`"))]
                #[serde(rename = $text)]
                $variant,
            )+
        }

        impl $name {
            /// All values, in the order of their declaration.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// Returns the name of the value.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            /// Returns the value with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.name() == name)
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::contract::{DeadReason, EventKind, PaymentState, Rejection, TaskType};

    macro_rules! assert_names {
        ($($name:ident),+) => {$(
            for value in $name::ALL {
                assert_eq!($name::from_name(value.name()), Some(value), "each has a name of its own");
                assert_eq!(serde_json::to_value(value).expect("a string"), value.name());
            }
        )+};
    }

    #[test]
    fn every_value_is_found_by_its_name_and_serialises_as_it() {
        assert_names!(DeadReason, EventKind, PaymentState, Rejection, TaskType);
    }
}
