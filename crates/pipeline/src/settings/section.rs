//! One declaration for a section and its keys.

/// Declares the settings of a section with one entry for each key: its description, as the sample prints it; the field
/// with its default; and the kind of [`Field`](crate::settings::Field) with the values that it accepts. Then follow which
/// changes a reload takes (none, unless the function in `reloads(…)` says so), and the environment variable that
/// overrides it, or the value that the sample recommends.
///
/// ```
/// settled_pipeline::section! {
///     /// What is served over HTTP.
///     pub struct AdminSettings in "admin", "HTTP for the operator.";
///
///     /// Connections at a time.
///     pub connections: usize = 64 => Whole(1..=1000), reloads(settled_pipeline::settings::always), env "CONNECTIONS";
/// }
/// assert_eq!(AdminSettings::default().connections, 64);
/// ```
#[macro_export]
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $settings:ident in $name:literal, $about:literal;
        $(
            $(#[doc = $doc:literal])+
            pub $field:ident: $type:ty = $default:expr
                => $kind:ident($($accepted:expr),*)
                $(, reloads($reloads:path))? $(, env $env:literal)? $(, recommended $recommended:literal)?;
        )+
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        #[allow(rustdoc::invalid_html_tags, rustdoc::broken_intra_doc_links, reason = "the descriptions are plain text")]
        pub struct $settings {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $settings {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::settings::Section for $settings {
            const NAME: &'static str = $name;
            const ABOUT: &'static str = $about;

            fn keys(&mut self) -> Vec<$crate::settings::Key<'_>> {
                use $crate::settings::{Field, Key};
                vec![$(
                    // Each line of a comment begins with a space.
                    Key::new(stringify!($field), Field::$kind(&mut self.$field $(, $accepted)*), concat!($($doc),+).trim_start())
                        $(.reloads(stringify!($reloads)))? $(.or_env($env))? $(.recommended($recommended))?,
                )+]
            }

            fn reload(&mut self, new: &Self) -> Vec<$crate::settings::Change> {
                let mut changes = Vec::new();
                $(if self.$field != new.$field {
                    let taken = None::<bool>$(.or_else(|| Some($reloads(&self.$field, &new.$field))))?;
                    let applied = taken.unwrap_or(false);
                    if applied {
                        self.$field.clone_from(&new.$field);
                    }
                    changes.push($crate::settings::Change { key: stringify!($field), applied });
                })+
                changes
            }
        }
    };
}
