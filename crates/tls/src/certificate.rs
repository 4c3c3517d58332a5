//! What a certificate says of itself, for messages. Nothing is decided by it: rustls verifies.

use std::fmt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Version;
use x509_cert::der::Decode;
use x509_cert::time::Time;

/// Names and dates of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for, such as `CN=settled`.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// It is not valid before this time.
    pub not_before: Timestamp,
    /// It is not valid after this time.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads the first certificate of a PEM file. Returns `None` if that is not possible.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&CertificateDer::from_pem_file(path).ok()?)
    }

    pub(crate) fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let parsed = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
        Some(Self {
            subject: parsed.subject.to_string(),
            issuer: parsed.issuer.to_string(),
            not_before: timestamp(parsed.validity.not_before)?,
            not_after: timestamp(parsed.validity.not_after)?,
        })
    }

    /// Returns true for a certificate without extensions. rustls does not take one as a client's or a server's.
    pub(crate) fn is_version_1(der: &CertificateDer<'_>) -> bool {
        x509_cert::Certificate::from_der(der).is_ok_and(|parsed| parsed.tbs_certificate.version == Version::V1)
    }

    /// Returns what a person should know about its validity: that it has expired, is not valid yet, or expires within
    /// `soon`.
    pub fn complaint(&self, now: Timestamp, soon: SignedDuration) -> Option<String> {
        if now > self.not_after {
            Some(format!("expired at {}", self.not_after))
        } else if now < self.not_before {
            Some(format!("is not valid before {}", self.not_before))
        } else if self.not_after.duration_since(now) < soon {
            Some(format!("expires at {}", self.not_after))
        } else {
            None
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, issued by {}, valid until {}", self.subject, self.issuer, self.not_after)
    }
}

fn timestamp(time: Time) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
}
