//! The files of a connection, read for each one, so that the next connection uses what was put in their place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Certificate;

/// The keys of the configuration that name the files.
pub const AUTHORITIES: &str = "tls_ca_file";
/// The client's certificate.
pub const CERTIFICATE: &str = "tls_cert_file";
/// The key of the client's certificate.
pub const KEY: &str = "tls_key_file";

/// The files of the connections to one server. Their names are read, not their contents.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The authorities to trust; without them, those of the system.
    pub authorities: Option<PathBuf>,
    /// The client's certificate, and those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// The client's private key.
    pub key: Option<PathBuf>,
}

/// Why the files cannot be used. Each message is complete and names the key and the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened or is not PEM.
    #[error("{key}: cannot read {}: {reason}", .path.display())]
    Unreadable {
        /// The key that names the file.
        key: &'static str,
        /// The path of the file that the key names.
        path: PathBuf,
        /// What the system or the parser says.
        reason: pem::Error,
    },
    /// The file has nothing of what it is for.
    #[error("{key}: {} has no {expected}", .path.display())]
    Empty {
        /// The key that names the file.
        key: &'static str,
        /// The path of the file that the key names.
        path: PathBuf,
        /// What it should have.
        expected: &'static str,
    },
    /// A certificate or a key in the file is broken, or of a kind that is not supported.
    #[error("{key}: {} cannot be used: {reason}", .path.display())]
    Unusable {
        /// The key that names the file.
        key: &'static str,
        /// The path of the file that the key names.
        path: PathBuf,
        /// Why rustls takes none of it.
        reason: rustls::Error,
    },
    /// A certificate without the extensions of version 3, as `openssl x509 -req` makes it if it is given none.
    #[error("{key}: {} has a certificate of X.509 version 1; have it issued again as version 3, with extensions", .path.display())]
    Version1 {
        /// The key that names the file.
        key: &'static str,
        /// The path of the file that the key names.
        path: PathBuf,
    },
    /// The key is another one than the certificate's.
    #[error("{KEY}: {} is not the key of the certificate in {CERTIFICATE}, {}", .key.display(), .certificate.display())]
    NotItsKey {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// A certificate without a key, or a key without a certificate.
    #[error("{0} is set, expected {1}, too")]
    Half(&'static str, &'static str),
    /// The system trusts nobody.
    #[error("{AUTHORITIES} is not set, and the system has no certificate authorities")]
    NoSystemAuthorities,
    /// rustls refuses to be set up.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

impl Files {
    /// Reads the files. Returns a client that verifies the server against the authorities.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub fn client_config(&self) -> Result<ClientConfig, FileError> {
        let roots = match &self.authorities {
            Some(path) => authorities(path)?,
            None => system_authorities()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let (certificate, key) = match (&self.certificate, &self.key) {
            (None, None) => return Ok(builder.with_no_client_auth()),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => return Err(FileError::Half(CERTIFICATE, KEY)),
            (None, Some(_)) => return Err(FileError::Half(KEY, CERTIFICATE)),
        };
        builder.with_client_auth_cert(chain(certificate)?, private_key(key)?).map_err(|reason| {
            match reason {
                rustls::Error::InconsistentKeys(_) => {
                    FileError::NotItsKey { certificate: certificate.clone(), key: key.clone() }
                }
                // The certificates were parsed before.
                reason => FileError::Unusable { key: KEY, path: key.clone(), reason },
            }
        })
    }

    /// Checks the file that a key of the configuration names.
    ///
    /// # Errors
    ///
    /// If it cannot be used. A key that is none of the three has no such file.
    pub fn check(key: &str, path: &Path) -> Result<(), FileError> {
        match key {
            AUTHORITIES => authorities(path).map(drop),
            CERTIFICATE => chain(path).map(drop),
            KEY => private_key(path).map(drop),
            _ => Ok(()),
        }
    }
}

fn system_authorities() -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    // The system often has a few certificates that rustls does not like. Those that it does are enough.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(FileError::NoSystemAuthorities) } else { Ok(roots) }
}

fn authorities(path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(AUTHORITIES, path)? {
        let unusable = |reason| FileError::Unusable { key: AUTHORITIES, path: path.to_owned(), reason };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let unreadable = |reason| FileError::Unreadable { key, path: path.to_owned(), reason };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(FileError::Empty { key, path: path.to_owned(), expected: "certificate in PEM" });
    }
    Ok(found)
}

/// Reads the client's certificate, and those behind it.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let chain = certificates(CERTIFICATE, path)?;
    if chain.iter().any(Certificate::is_version_1) {
        return Err(FileError::Version1 { key: CERTIFICATE, path: path.to_owned() });
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|reason| match reason {
        pem::Error::NoItemsFound => {
            let expected = "private key in PEM without a passphrase";
            FileError::Empty { key: KEY, path: path.to_owned(), expected }
        }
        reason => FileError::Unreadable { key: KEY, path: path.to_owned(), reason },
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tempfile::NamedTempFile;

    use super::*;

    /// Of `openssl x509 -req -signkey old.key -in old.csr`. rcgen makes none of this version.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBGDCBvwIUejpbFejw8B7PSa4Fs73CdCzCQIcwCgYIKoZIzj0EAwIwDjEMMAoG\n\
        A1UEAwwDb2xkMCAXDTI2MTEzMDA5MjI0OFoYDzIxMjYxMTA2MDkyMjQ4WjAOMQww\n\
        CgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASwLPEafBuAt75H\n\
        ACP2tsxKz/frezoyX9t1879h4CGkm9q7LNJdD3te1CdA/JT2LzgwNvajaBIXRhnX\n\
        RWiNa36hMAoGCCqGSM49BAMCA0gAMEUCIQDtvAb45eYnCDDFso+fPEWYyn7TmXoj\n\
        ffjUSZCyprI2ZAIgNwQGVg3FcPLt7E3uJPMxRk8yrl/pmJWjqCAyL7fZBfo=\n\
        -----END CERTIFICATE-----\n";

    fn file(content: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn refused(files: &Files) -> String {
        files.client_config().unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_by_its_key_and_its_name() {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let other = generate_simple_self_signed(vec!["a".to_owned()]).unwrap().signing_key;
        let (good, key, other) = (file(&cert.pem()), file(&signing_key.serialize_pem()), file(&other.serialize_pem()));
        let (empty, encrypted) = (
            file("nothing\n"),
            file("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        );
        let old = file(VERSION_1);
        let of = |authorities: &Path, certificate: &Path, key: &Path| Files {
            authorities: Some(authorities.to_owned()),
            certificate: Some(certificate.to_owned()),
            key: Some(key.to_owned()),
        };
        let (good, key, other) = (good.path(), key.path(), other.path());
        assert!(of(good, good, key).client_config().is_ok());
        let nowhere = Path::new("/nowhere");
        for (files, name, path, reason) in [
            (of(nowhere, good, key), AUTHORITIES, nowhere, "cannot read"),
            (of(empty.path(), good, key), AUTHORITIES, empty.path(), "has no certificate"),
            (of(good, nowhere, key), CERTIFICATE, nowhere, "cannot read"),
            (of(good, empty.path(), key), CERTIFICATE, empty.path(), "has no certificate"),
            (of(good, good, nowhere), KEY, nowhere, "cannot read"),
            (of(good, good, empty.path()), KEY, empty.path(), "without a passphrase"),
            (of(good, good, encrypted.path()), KEY, encrypted.path(), "without a passphrase"),
            (of(good, good, other), KEY, other, "is not the key of"),
            (of(good, old.path(), key), CERTIFICATE, old.path(), "X.509 version 1"),
        ] {
            let said = refused(&files);
            assert!(said.starts_with(name) && said.contains(&path.display().to_string()), "{said}");
            assert!(said.contains(reason), "{said}");
        }
        let half = Files { certificate: Some(good.to_owned()), ..Files::default() };
        assert!(refused(&Files { authorities: Some(good.to_owned()), ..half }).contains(KEY));
    }
}
