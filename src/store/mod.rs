//! All the SQL: nothing outside this directory speaks to PostgreSQL.

pub mod queries;
