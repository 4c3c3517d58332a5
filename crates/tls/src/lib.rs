//! TLS to the servers: whom a connection trusts, what it shows of itself, and what a failed handshake means.
//!
//! Both servers are verified in the same way, whatever their clients' libraries do by themselves: the certificate has to
//! be valid, of a trusted authority, and for the host that was asked for. There is no mode that encrypts without that.
//!
//! Must never know: SQL, AMQP, the pipeline.

mod certificate;
mod failure;
mod files;
mod opening;

pub use self::certificate::Certificate;
pub use self::files::{AUTHORITIES, CERTIFICATE, FileError, Files, KEY};
pub use self::opening::Opening;
pub use rustls::ClientConfig;
