//! Whom a TLS connection to PostgreSQL trusts. (lapin brings its own, see `BrokerSettings::tls`.)

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not there, not ours to read, or not PEM.
    #[error("cannot read certificates from {}: {reason}", .path.display())]
    File { path: PathBuf, reason: pem::Error },
    /// No certificate authority was found.
    #[error("{0} has no certificate authority")]
    Empty(String),
    /// The TLS library refused what it was given.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// A client that verifies servers against the authorities in `ca_file` (PEM), or those of
/// the system.
///
/// # Errors
/// When there are none, or the file cannot be read.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let unreadable = |reason| TlsError::File { path: path.to_owned(), reason };
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                roots.add(certificate.map_err(unreadable)?)?;
            }
        }
        // A system store often has a few certificates that rustls does not like: those that it
        // does are enough.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        let whose = ca_file.map_or("the system".to_owned(), |path| path.display().to_string());
        return Err(TlsError::Empty(whose));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Checks that a PEM file has certificate authorities to trust, and nothing else.
///
/// # Errors
/// Why it cannot be used.
pub fn check_authorities(ca_file: &Path) -> Result<(), String> {
    client_config(Some(ca_file)).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = client_config(Some(file.path())).unwrap_err().to_string();
        assert!(error.contains("no certificate authority") && error.contains(&*file.path().to_string_lossy()));
        assert!(matches!(client_config(Some(Path::new("/nowhere"))), Err(TlsError::File { .. })));
    }
}
