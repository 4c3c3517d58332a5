//! The stream to which daemons append their events, if they are told to.

use settled_testkit::servers::PrivateServers;
use uuid::Uuid;

use super::settings::Setting;

/// The port of RabbitMQ's stream plugin, unless it is set.
const PORT: u16 = 5552;

/// A stream of the run's own.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Stream {
    /// A stream with a name that is new, on the port of the servers of our own, or on the one in the settings.
    pub(super) fn new(private: Option<&PrivateServers>, settings: &[Setting]) -> Self {
        let set = Setting::of(settings, "stream", "port").and_then(|port| port.as_integer()?.try_into().ok());
        let port = private.map(|servers| servers.stream_port()).or(set).unwrap_or(PORT);
        Self { name: format!("loadtest.{}.events.log", Uuid::now_v7().simple()), port }
    }

    /// What makes daemons append to it, on another port if there is something in between.
    pub(super) fn settings(&self, port: Option<u16>) -> [Setting; 3] {
        [
            Setting::new("events", "transport", "stream"),
            Setting::new("stream", "name", self.name.as_str()),
            Setting::new("stream", "port", i64::from(port.unwrap_or(self.port))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::settings;

    #[test]
    fn daemons_append_to_the_stream_through_what_is_in_between() {
        let given: Setting = "stream.port=5600".parse().expect("a setting");
        let stream = Stream::new(None, &[given]);
        assert_eq!((stream.port, Stream::new(None, &[]).port), (5600, 5552));
        let text = settings::text(&stream.settings(Some(7)));
        assert!(text.contains("transport = \"stream\"") && text.contains("port = 7"), "{text}");
        assert!(settings::text(&stream.settings(None)).contains("port = 5600"));
    }
}
