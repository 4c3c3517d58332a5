//! What a failed handshake means.

use std::error::Error;
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::files::{AUTHORITIES, CERTIFICATE, KEY};
use super::{Certificate, Files};

impl Files {
    /// Returns what is wrong with the handshake that ended with `error`, and with which file. Returns `None` if the error
    /// is not about TLS, or may pass by itself.
    pub fn explain(&self, error: &(dyn Error + 'static)) -> Option<String> {
        match of_rustls(error)? {
            rustls::Error::InvalidCertificate(reason) => Some(self.server_refused(reason)),
            rustls::Error::AlertReceived(alert) => self.client_refused(*alert),
            rustls::Error::InvalidMessage(_) => Some("the server does not speak TLS at this port".to_owned()),
            other => Some(format!("the TLS handshake failed: {other}")),
        }
    }

    /// Returns why the server's certificate is not accepted.
    fn server_refused(&self, reason: &CertificateError) -> String {
        match reason {
            // Bad: another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => match &self.authorities {
                Some(path) => format!(
                    "the server's certificate is of no authority in {} ({AUTHORITIES}), or comes without those between",
                    path.display()
                ),
                None => format!(
                    "the server's certificate is of no authority that the system trusts; {AUTHORITIES} names others"
                ),
            },
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the server's certificate expired at {}, or the clock here is wrong", time(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!(
                    "the server's certificate is not valid before {}, or the clock here is wrong",
                    time(*not_before)
                )
            }
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "the server's certificate is for {}, and not for {}, as the server is called in the URL",
                names(presented),
                expected.to_str(),
            ),
            CertificateError::Other(other) => format!("the server's certificate is refused: {other}"),
            other => format!("the server's certificate is refused: {other}"),
        }
    }

    /// Returns why the server does not accept the client's certificate, as far as it says so.
    fn client_refused(&self, alert: AlertDescription) -> Option<String> {
        let Some(path) = &self.certificate else { return without_certificate(alert) };
        let reason = match alert {
            AlertDescription::CertificateExpired => "it has expired, for the server's clock".to_owned(),
            AlertDescription::UnknownCA => "it does not trust the authority that issued it".to_owned(),
            AlertDescription::CertificateRevoked => "it was revoked".to_owned(),
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::HandshakeFailure
            | AlertDescription::CertificateRequired => format!("it says {alert:?}"),
            other => return without_certificate(other),
        };
        Some(format!(
            "the server refuses the client's certificate {} ({CERTIFICATE}): {reason}{}",
            path.display(),
            said(path)
        ))
    }
}

/// Returns what a server refuses to which nothing was shown.
fn without_certificate(alert: AlertDescription) -> Option<String> {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => Some(format!(
            "the server refuses the handshake ({alert:?}); if it asks for a client's certificate, set {CERTIFICATE} and {KEY}"
        )),
        // The server stops, or has a fault of its own.
        AlertDescription::CloseNotify | AlertDescription::InternalError | AlertDescription::UserCanceled => None,
        other => Some(format!("the server refuses the handshake: {other:?}")),
    }
}

/// Returns what the certificate in a file says of itself, to follow a reason.
fn said(path: &Path) -> String {
    let Some(certificate) = Certificate::read(path) else { return String::new() };
    match certificate.complaint(Timestamp::now(), SignedDuration::ZERO) {
        Some(complaint) => format!(". The certificate of {} {complaint}", certificate.subject),
        None => format!(". The certificate is of {certificate}"),
    }
}

/// Returns the names in a certificate, of which rustls gives the `Debug` text, such as `DnsName("db-1")`.
fn names(presented: &[String]) -> String {
    let name = |text: &String| {
        let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(text).trim_matches('"').to_owned()
    };
    if presented.is_empty() { "no host".to_owned() } else { presented.iter().map(name).collect::<Vec<_>>().join(", ") }
}

fn time(time: UnixTime) -> String {
    let second = i64::try_from(time.as_secs()).ok().and_then(|second| Timestamp::from_second(second).ok());
    second.map_or_else(|| "an unknown time".to_owned(), |second| second.to_string())
}

/// Returns rustls's error among an error and its causes.
fn of_rustls<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // The source of such an error is the source of what it wraps.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => of_rustls(wrapped),
        None => of_rustls(error.source()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(files: &Files, error: rustls::Error) -> Option<String> {
        // As it comes from a stream.
        files.explain(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        let files = Files { authorities: Some("/ca.pem".into()), certificate: Some("/me.pem".into()), key: None };
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(explained(&files, unknown.clone()).unwrap().contains("/ca.pem (tls_ca_file)"));
        assert!(explained(&Files::default(), unknown).unwrap().contains("the system trusts"));
        let refused = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        assert!(explained(&files, refused).unwrap().contains("/me.pem (tls_cert_file)"));
        let required = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(explained(&Files::default(), required).unwrap().contains("set tls_cert_file and tls_key_file"));
    }

    #[test]
    fn names_in_a_certificate_are_said_without_their_kind() {
        let name = |text: &str| CertificateError::NotValidForNameContext {
            expected: "db-1".try_into().unwrap(),
            presented: vec![text.to_owned(), "IpAddress(10.0.0.1)".to_owned()],
        };
        let error = rustls::Error::InvalidCertificate(name("DnsName(\"db.example\")"));
        let said = explained(&Files::default(), error).unwrap();
        assert!(said.contains("is for db.example, 10.0.0.1, and not for db-1"), "{said}");
    }

    #[test]
    fn what_is_not_about_certificates_or_passes_is_left_to_others() {
        let stopping = rustls::Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(explained(&Files::default(), stopping), None);
        assert_eq!(Files::default().explain(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }
}
