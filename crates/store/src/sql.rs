//! SQL by name: a statement's text refers to its parameters by name, and the same list that names them gives their
//! values. The compiler works out the positions, so no code counts them, and refuses a name that is not in the list.

mod column;
mod row;

pub(crate) use self::column::Column;
pub(crate) use self::row::row;

/// A parameter of a statement. One with a type is a column of many rows, sent as an array of that type.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// The type of the column's values.
    pub(crate) column: Option<&'static str>,
    /// The type that they are cast to when they are stored. Enums are sent as text.
    pub(crate) stored_as: Option<&'static str>,
}

impl Parameter {
    pub(crate) const fn scalar(name: &'static str) -> Self {
        Self { name, column: None, stored_as: None }
    }
}

/// Calls a method of a client, and waits for what it returns, with a statement whose parameters are named:
/// `named!(client.query("SELECT … WHERE id = {id}", id = 7))`. A text that is not constant is marked `dynamic`.
macro_rules! named {
    ($client:ident.$method:ident($template:expr $(, $name:ident = $value:expr)* $(,)?)) => {
        $client.$method(
            $crate::sql::text!($template, &[$($crate::sql::Parameter::scalar(stringify!($name))),*]),
            &[$(&$value as &(dyn tokio_postgres::types::ToSql + Sync)),*],
        ).await
    };
    (dynamic $client:ident.$method:ident($template:expr $(, $name:ident = $value:expr)* $(,)?)) => {
        $client.$method(
            &$crate::sql::dynamic(&$template, &[$($crate::sql::Parameter::scalar(stringify!($name))),*]),
            &[$(&$value as &(dyn tokio_postgres::types::ToSql + Sync)),*],
        ).await
    };
}

/// Declares a statement that is kept prepared, with a list of its parameters and their values. A null is `None`.
macro_rules! query {
    (
        $(#[$doc:meta])*
        $visibility:vis $query:ident($($argument:ident: $argument_type:ty),* $(,)?) {
            $($name:ident = $value:expr,)*
        }
        $template:literal
    ) => {
        $(#[$doc])*
        $visibility struct $query(tokio_postgres::Statement);

        impl $query {
            $visibility async fn prepare(
                client: &deadpool_postgres::ClientWrapper,
            ) -> std::result::Result<Self, tokio_postgres::Error> {
                const TEXT: &str = $crate::sql::text!($template, &[
                    $($crate::sql::Parameter::scalar(stringify!($name)),)*
                ]);
                client.prepare_cached(TEXT).await.map(Self)
            }

            $visibility async fn query(
                &self,
                client: &deadpool_postgres::ClientWrapper,
                $($argument: $argument_type,)*
            ) -> std::result::Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
                client.query(&self.0, &[$(&$value as &(dyn tokio_postgres::types::ToSql + Sync),)*]).await
            }
        }
    };
}

/// Declares a statement that writes many rows at once, and is kept prepared. Its list has, for each column, the name,
/// the SQL type (`as` the type of an enum) and the value in a row. Its text can use, besides the names,
///
/// - `{rows}`: the rows, as a table `given` with the columns of the list
/// - `{columns}`: the names of the columns
/// - `{values}`: the columns of `given`, in the same order, cast to the types that are stored
/// - `{count}`: the number of rows
macro_rules! statement {
    (
        $(#[$doc:meta])*
        $visibility:vis $statement:ident($row:ident: $rows:ty $(, $scalar:ident: $scalar_type:ty)*) {
            $($column:ident: $type:ident $(as $stored_as:ident)? = $value:expr,)+
        }
        $template:literal
    ) => {
        $(#[$doc])*
        $visibility struct $statement(tokio_postgres::Statement);

        impl $statement {
            $visibility async fn prepare(
                client: &deadpool_postgres::ClientWrapper,
            ) -> std::result::Result<Self, tokio_postgres::Error> {
                const TEXT: &str = $crate::sql::text!($template, &[
                    $($crate::sql::Parameter {
                        name: stringify!($column),
                        column: Some(stringify!($type)),
                        stored_as: $crate::sql::first!($(Some(stringify!($stored_as)),)? None),
                    },)+
                    $($crate::sql::Parameter::scalar(stringify!($scalar)),)*
                ]);
                client.prepare_cached(TEXT).await.map(Self)
            }

            /// Returns how many rows were written. Sends nothing if there are none.
            $visibility async fn write(
                &self,
                client: &deadpool_postgres::ClientWrapper,
                rows: &[$rows],
                $($scalar: $scalar_type,)*
            ) -> std::result::Result<u64, tokio_postgres::Error> {
                if rows.is_empty() {
                    return Ok(0);
                }
                client.execute(&self.0, &[
                    $(&$crate::sql::Column::new(rows, |$row| $value),)+
                    $(&$scalar,)*
                ]).await
            }
        }
    };
}

/// The first of its arguments.
macro_rules! first {
    ($first:expr $(, $rest:expr)*) => {
        $first
    };
}

/// The text of a template, as a constant.
macro_rules! text {
    ($template:expr, $parameters:expr) => {{
        const PARAMETERS: &[$crate::sql::Parameter] = $parameters;
        const LENGTH: usize = $crate::sql::expand($template, PARAMETERS, &mut []);
        const BYTES: [u8; LENGTH] = {
            let mut bytes = [0; LENGTH];
            $crate::sql::expand($template, PARAMETERS, &mut bytes);
            bytes
        };
        const TEXT: &str = match std::str::from_utf8(&BYTES) {
            Ok(text) => text,
            Err(_) => unreachable!(),
        };
        TEXT
    }};
}

pub(crate) use {first, named, query, statement, text};

/// The text of a template that is put together at run time, from constants.
pub(crate) fn dynamic(template: &str, parameters: &[Parameter]) -> String {
    let mut bytes = vec![0; expand(template, parameters, &mut [])];
    expand(template, parameters, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes `template` with its names replaced into `out`, as far as there is room. Returns the length of the whole.
///
/// # Panics
///
/// If the template has a name that is not in `parameters`. In a constant, that is an error of the compiler's.
pub(crate) const fn expand(template: &str, parameters: &[Parameter], out: &mut [u8]) -> usize {
    let (bytes, mut at) = (template.as_bytes(), 0);
    let mut text = Text { out, length: 0 };
    while at < bytes.len() {
        let from = at;
        at += 1;
        if bytes[from] != b'{' {
            text.byte(bytes[from]);
            continue;
        }
        while bytes[at] != b'}' {
            at += 1;
        }
        let (before, _) = bytes.split_at(at);
        let (_, name) = before.split_at(from + 1);
        at += 1;
        match name {
            b"rows" => text.rows(parameters),
            b"columns" => text.columns(parameters, "", false),
            b"values" => text.columns(parameters, "given.", true),
            b"count" => {
                text.push("cardinality(");
                text.parameter(parameters, 0);
                text.push(")");
            }
            _ => text.parameter(parameters, place(parameters, name)),
        }
    }
    text.length
}

const fn place(parameters: &[Parameter], name: &[u8]) -> usize {
    let mut place = 0;
    while place < parameters.len() {
        if are_equal(parameters[place].name.as_bytes(), name) {
            return place;
        }
        place += 1;
    }
    panic!("the text of a statement has a name that is not in its list");
}

const fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

struct Text<'o> {
    out: &'o mut [u8],
    length: usize,
}

impl Text<'_> {
    const fn byte(&mut self, byte: u8) {
        if self.length < self.out.len() {
            self.out[self.length] = byte;
        }
        self.length += 1;
    }

    const fn push(&mut self, text: &str) {
        let mut at = 0;
        while at < text.len() {
            self.byte(text.as_bytes()[at]);
            at += 1;
        }
    }

    const fn parameter(&mut self, parameters: &[Parameter], place: usize) {
        let number = place + 1;
        self.byte(b'$');
        if number >= 10 {
            self.byte(b'0' + (number / 10) as u8);
        }
        self.byte(b'0' + (number % 10) as u8);
        if let Some(column) = parameters[place].column {
            self.push("::");
            self.push(column);
            self.push("[]");
        }
    }

    /// The arrays are unnested in a list of what is selected: in `FROM` PostgreSQL writes each of them into a table in
    /// memory, and reads them back from there.
    const fn rows(&mut self, parameters: &[Parameter]) {
        self.push("(SELECT ");
        let mut place = 0;
        while place < parameters.len() && parameters[place].column.is_some() {
            self.push(if place == 0 { "unnest(" } else { ", unnest(" });
            self.parameter(parameters, place);
            self.push(") AS ");
            self.push(parameters[place].name);
            place += 1;
        }
        self.push(") AS given");
    }

    const fn columns(&mut self, parameters: &[Parameter], prefix: &str, is_cast: bool) {
        let mut place = 0;
        while place < parameters.len() && parameters[place].column.is_some() {
            self.push(if place == 0 { "" } else { ", " });
            self.push(prefix);
            self.push(parameters[place].name);
            if is_cast && let Some(stored_as) = parameters[place].stored_as {
                self.push("::");
                self.push(stored_as);
            }
            place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_positions_in_the_order_of_the_list() {
        const TEXT: &str = text!(
            "INSERT INTO t ({columns}, at) SELECT {values}, {now} FROM {rows} WHERE {count} > {b}",
            &[
                Parameter { name: "b", column: Some("uuid"), stored_as: None },
                Parameter { name: "a", column: Some("text"), stored_as: Some("state") },
                Parameter::scalar("now"),
            ]
        );
        assert_eq!(
            TEXT,
            "INSERT INTO t (b, a, at) SELECT given.b, given.a::state, $3 \
             FROM (SELECT unnest($1::uuid[]) AS b, unnest($2::text[]) AS a) AS given \
             WHERE cardinality($1::uuid[]) > $1::uuid[]"
        );
    }

    #[test]
    #[should_panic(expected = "not in its list")]
    fn a_name_that_is_not_in_the_list_is_refused() {
        expand("SELECT {b}", &[Parameter::scalar("a")], &mut []);
    }
}
