//! What settled is measured against: from above by the consumer that everyone writes first, from
//! below by what the database alone takes.

pub(crate) mod baseline;
pub(crate) mod floor;
