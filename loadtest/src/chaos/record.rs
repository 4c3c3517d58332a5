//! What a strike did, and how soon all went on: the log of a run, from which it can be understood
//! and repeated.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::fault::Fault;
use super::schedule::Strike;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Struck {
    pub(super) fault: Fault,
    /// When it was to strike, in seconds from the begin of the load.
    pub(super) due_s: f64,
    pub(super) at_s: f64,
    pub(super) daemon: Option<usize>,
    pub(super) held_s: f64,
    /// Tasks in flight right before it, at the daemon or at all together.
    pub(super) in_flight: u64,
    pub(super) what: String,
    /// After which time it was noticed, where that was waited for.
    pub(super) found_s: Option<f64>,
    /// After which time a broker that was away answered a passive declaration of its queue: whoever
    /// wants to consume waits for longer.
    pub(super) served_s: Option<f64>,
    /// After which time all went on; `None` if it did not.
    pub(super) recovered_s: Option<f64>,
    /// How long a daemon took to end, and with which code, if it was asked to.
    pub(super) exit: Option<Exit>,
    /// Deliveries of what was committed before, until all went on; the planned ones too.
    pub(super) repeated: u64,
    /// Commits without an answer, whose outcome was looked up until all went on.
    pub(super) looked_up: u64,
    /// Resident memory of the daemons when it began, and the most until all went on, in bytes.
    pub(super) rss: [u64; 2],
    pub(super) failure: Option<String>,
}

/// The end of a daemon that was asked for it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Exit {
    pub(super) after_s: f64,
    /// Its code; `None` if a signal ended it.
    pub(super) code: Option<i32>,
}

impl Struck {
    pub(super) fn new(strike: &Strike, at: Duration, daemon: Option<usize>) -> Self {
        Self {
            fault: strike.fault,
            due_s: strike.at.as_secs_f64(),
            at_s: at.as_secs_f64(),
            daemon,
            held_s: 0.0,
            in_flight: 0,
            what: String::new(),
            found_s: None,
            served_s: None,
            recovered_s: None,
            exit: None,
            repeated: 0,
            looked_up: 0,
            rss: [0; 2],
            failure: None,
        }
    }

    /// Whether it really struck, under load, and all went on.
    pub(super) const fn counts(&self) -> bool {
        self.failure.is_none() && self.recovered_s.is_some()
    }
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, at_s, held_s, in_flight, what, .. } = self;
        write!(f, "{at_s:8.2} s  {fault:<18}")?;
        if let Some(daemon) = self.daemon {
            write!(f, " daemon {daemon},")?;
        }
        write!(f, " {in_flight} in flight")?;
        if *held_s > 0.0 {
            write!(f, ", for {held_s:.1} s")?;
        }
        if !what.is_empty() {
            write!(f, ": {what}")?;
        }
        if let Some(Exit { after_s, code }) = self.exit {
            let code = code.map_or("a signal".to_owned(), |code| code.to_string());
            write!(f, ", ended with {code} after {after_s:.2} s")?;
        }
        if let Some(found) = self.found_s {
            write!(f, ", found after {found:.2} s")?;
        }
        if let Some(served) = self.served_s {
            write!(f, ", the queue was there after {served:.2} s")?;
        }
        match (self.recovered_s, &self.failure) {
            (_, Some(failure)) => write!(f, "; {failure}"),
            (Some(recovered), None) => write!(f, "; went on after {recovered:.2} s"),
            (None, None) => write!(f, "; did not go on"),
        }
    }
}
