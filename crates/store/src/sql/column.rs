//! One column of many rows as a PostgreSQL array, written straight from the rows: set-based
//! statements without a vector per column.

use std::error::Error;
use std::fmt;

use postgres_protocol::IsNull as WireNull;
use postgres_protocol::types::{ArrayDimension, array_to_sql};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

/// The values of `get` over `rows`.
pub(crate) struct Column<'a, R, F> {
    rows: &'a [R],
    get: F,
}

impl<'a, R, F> Column<'a, R, F> {
    pub(crate) fn new<T>(rows: &'a [R], get: F) -> Self
    where
        F: Fn(&'a R) -> T,
    {
        Self { rows, get }
    }
}

impl<R, F> fmt::Debug for Column<'_, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a column of {} rows", self.rows.len())
    }
}

impl<'a, R, T: ToSql, F: Fn(&'a R) -> T> ToSql for Column<'a, R, F> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Kind::Array(member) = ty.kind() else { return Err(format!("{ty} is not an array").into()) };
        let length = i32::try_from(self.rows.len())?;
        let dimension = ArrayDimension { len: length, lower_bound: 1 };
        let values = self.rows.iter().map(&self.get);
        let write = |value: T, out: &mut BytesMut| {
            Ok(match value.to_sql(member, out)? {
                IsNull::Yes => WireNull::Yes,
                IsNull::No => WireNull::No,
            })
        };
        array_to_sql(Some(dimension), member.oid(), values, write, out)?;
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Array(member) if T::accepts(member))
    }

    to_sql_checked!();
}
