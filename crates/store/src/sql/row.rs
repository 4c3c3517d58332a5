//! Structs that are read from rows.

/// Declares a struct that is read from a row, each field from the column of its name, or from the column behind `=`.
macro_rules! row {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty $(= $column:literal)?,)+
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl From<&tokio_postgres::Row> for $name {
            fn from(row: &tokio_postgres::Row) -> Self {
                Self { $($field: row.get($crate::sql::first!($($column,)? stringify!($field))),)+ }
            }
        }
    };
}

pub(crate) use row;
