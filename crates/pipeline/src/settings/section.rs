//! One declaration for a section and its keys.

/// Declares the settings of a section with one entry for each key: its description, as the sample prints it; the field
/// with its default; and the kind of [`Field`](crate::settings::Field) with the values that it accepts. The environment
/// variable that overrides it, or the value that the sample recommends, come last.
///
/// ```
/// settled_pipeline::section! {
///     /// What is served over HTTP.
///     pub struct AdminSettings in "admin", "HTTP for the operator.";
///
///     /// Connections at a time.
///     pub connections: usize = 64 => Whole(1..=1000), env "ADMIN_CONNECTIONS";
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
                => $kind:ident($($accepted:expr),*) $(, env $env:literal)? $(, recommended $recommended:literal)?;
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
                        $(.or_env($env))? $(.recommended($recommended))?,
                )+]
            }
        }
    };
}
