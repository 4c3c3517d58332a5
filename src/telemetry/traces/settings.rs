//! `[traces]`: where spans of sampled tasks are exported to.

use std::time::Duration;

use hyper::Uri;
use settled_pipeline::section;
use settled_pipeline::settings::{Parsed, Rule};

section! {
    pub struct TraceSettings in "traces", "Spans of tasks whose traceparent is sampled, for a collector of OpenTelemetry.";

    /// Where the collector takes OTLP over HTTP, such as "http://127.0.0.1:4318"; /v1/traces follows. Without it there
    /// are no traces. It is not waited for: what a slow collector does not take is dropped and counted.
    pub endpoint: Endpoint = Endpoint::default() => Parsed();
    /// How long the collector may take for a request, connecting included.
    pub timeout: Duration = Duration::from_secs(10) => Span(Duration::from_millis(100)..=Duration::from_secs(60));
    /// The service.name of the spans.
    pub service_name: String = "settled".to_owned() => Text(&SERVICE_NAME);
}

const SERVICE_NAME: Rule = Rule {
    expected: "1 to 255 bytes without control characters",
    check: |text| match text {
        "" => Err("it is empty".to_owned()),
        text if text.len() > 255 => Err(format!("it has {} bytes", text.len())),
        text if text.chars().any(char::is_control) => Err("it has control characters".to_owned()),
        _ => Ok(()),
    },
};

/// The URL of a collector, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint(Option<Target>);

/// Where requests with spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The URL as it was written.
    url: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// The path of the requests.
    pub(super) path: String,
}

impl Endpoint {
    pub(super) fn target(&self) -> Option<&Target> {
        self.0.as_ref()
    }
}

impl Target {
    fn of(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                let why =
                    "the daemon does not encrypt traces; write http:// and the address of a collector on this host";
                return Err(format!("{why}, which passes them on"));
            }
            _ => return Err("it does not begin with http://".to_owned()),
        }
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it has a user, which OTLP has not".to_owned());
        }
        if uri.query().is_some() {
            return Err("it has a query".to_owned());
        }
        let path = uri.path().trim_end_matches('/');
        if let Some(before) = path.strip_suffix("/v1/traces") {
            return Err(format!("/v1/traces is added to it; write \"http://{authority}{before}\""));
        }
        // In a URL an IPv6 address has brackets.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { url: text.to_owned(), host, port, path: format!("{path}/v1/traces") })
    }

    /// Returns the header `Host`.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Parsed for Endpoint {
    fn expected(&self) -> String {
        "the URL of a collector such as \"http://127.0.0.1:4318\", or \"\" for no traces".to_owned()
    }

    fn parse(&mut self, text: &str) -> Result<(), String> {
        self.0 = if text.is_empty() { None } else { Some(Target::of(text)?) };
        Ok(())
    }

    fn show(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |target| target.url.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Endpoint, String> {
        let mut endpoint = Endpoint::default();
        endpoint.parse(text).map(|()| endpoint)
    }

    #[test]
    fn a_url_is_that_of_the_collector_without_the_path_of_the_signal() {
        for (url, authority, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318", "/v1/traces"),
            ("http://collector/", "collector:80", "/v1/traces"),
            ("http://[::1]:4318/otlp/", "[::1]:4318", "/otlp/v1/traces"),
        ] {
            let endpoint = parsed(url).expect(url);
            assert_eq!(endpoint.show(), url);
            let target = endpoint.target().expect("a target");
            assert_eq!((target.authority().as_str(), target.path.as_str()), (authority, path));
        }
        assert_eq!(parsed(""), Ok(Endpoint::default()));
    }

    #[test]
    fn what_is_no_url_of_a_collector_is_refused_with_what_to_write() {
        for (text, why) in [
            ("127.0.0.1:4318", "it does not begin with http://"),
            ("/v1/traces", "it does not begin with http://"),
            ("grpc://127.0.0.1:4317", "it does not begin with http://"),
            ("https://collector:4318", "does not encrypt"),
            ("http://user:secret@collector:4318", "it has a user"),
            ("http://collector:4318/?a=b", "it has a query"),
            ("http://collector:4318/v1/traces", "; write \"http://collector:4318\""),
            ("http://collector:4318/a b", "invalid"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
