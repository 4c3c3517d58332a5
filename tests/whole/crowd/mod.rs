//! One odd message in a crowd: whatever it holds, it is settled, declined or set apart, and its
//! neighbours in the same batch settle.

mod edges;
mod neighbours;
mod odd;
mod refused;
