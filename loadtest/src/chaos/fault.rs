//! The faults there are: their names, how long they last, and how soon all has to go on after them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::values;

/// What is done to a process, a server or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// SIGKILL of a daemon, and another one at once.
    Kill,
    /// SIGSTOP of a daemon, and SIGCONT a while later.
    Freeze,
    /// SIGTERM of a daemon, and another one when it has ended.
    Term,
    /// SIGKILL of the broker, and its restart.
    BrokerKill,
    /// The broker stopped in order, and started again.
    BrokerRestart,
    /// All connections closed by the broker.
    BrokerClose,
    /// A memory alarm: the broker blocks whoever publishes.
    BrokerAlarm,
    /// The queue of the tasks deleted, with whatever is in it.
    QueueDelete,
    /// No queue takes events.
    EventsUnbind,
    /// The exchange of the events deleted.
    EventsDelete,
    /// PostgreSQL stopped at once, and started again.
    DbStop,
    /// The daemons' sessions ended by PostgreSQL.
    DbTerminate,
    /// All connections to PostgreSQL reset.
    DbCut,
    /// No room on PostgreSQL's disk.
    DbFull,
    /// PostgreSQL takes no writes.
    DbReadOnly,
    /// Another session holds a lock on the accounts.
    DbLock,
    /// Every insertion of payments takes its time.
    DbSlow,
    /// PostgreSQL stopped at once, and its synchronous standby promoted.
    DbPromote,
    /// A connection cut with a COMMIT on its way to PostgreSQL.
    CutBeforeCommit,
    /// A connection cut when PostgreSQL has committed, before it can say so.
    CutAfterCommit,
    /// A connection cut with an acknowledgement on its way to the broker.
    CutBeforeAck,
    /// A connection cut when the broker has the acknowledgement.
    CutAfterAck,
    /// A connection cut with a confirm on its way to the daemon.
    CutBeforeConfirm,
    /// A connection cut with a confirm of the stream on its way to the daemon.
    CutBeforeStreamConfirm,
    /// A connection cut when the daemon has a confirm of the stream.
    CutAfterStreamConfirm,
    /// The stream of the events deleted.
    StreamDelete,
    /// Everything to and from a server takes longer.
    Delay,
    /// Nothing goes to or from a server, and nobody says so.
    HalfOpen,
}

impl Fault {
    pub(super) fn name(self) -> String {
        values::name(self)
    }

    /// Whether the servers have to be our own for it: their processes, their disks, and what holds for
    /// all who use them.
    const fn is_of_own_servers(self) -> bool {
        matches!(
            self,
            Self::BrokerKill
                | Self::BrokerRestart
                | Self::BrokerClose
                | Self::BrokerAlarm
                | Self::DbStop
                | Self::DbFull
                | Self::DbReadOnly
                | Self::DbPromote
        )
    }

    /// Whether it is one of the stream, if events go to one, or of the exchange; `None` if it is of neither.
    const fn is_of_a_stream(self) -> Option<bool> {
        match self {
            Self::CutBeforeStreamConfirm | Self::CutAfterStreamConfirm | Self::StreamDelete => Some(true),
            Self::EventsUnbind | Self::EventsDelete | Self::CutBeforeConfirm => Some(false),
            _ => None,
        }
    }

    /// How long it lasts, in milliseconds; `None` if it is over at once.
    pub(super) const fn lasts(self) -> Option<RangeInclusive<u64>> {
        Some(match self {
            Self::Freeze | Self::Delay => 500..=3000,
            Self::BrokerKill | Self::BrokerRestart | Self::DbStop => 0..=2000,
            Self::BrokerAlarm | Self::DbFull => 2000..=5000,
            Self::EventsUnbind | Self::EventsDelete => 500..=2000,
            // Longer than the daemon's own limit for a lock now and then.
            Self::DbLock => 500..=8000,
            Self::DbReadOnly | Self::DbSlow => 1000..=5000,
            _ => return None,
        })
    }

    /// How soon all has to go on, as the project promises it; `None` where nothing is promised.
    pub(super) const fn goal(self) -> Option<Duration> {
        Some(Duration::from_secs(match self {
            Self::Kill => 2,
            Self::DbPromote => 10,
            Self::BrokerAlarm => 1,
            Self::BrokerKill | Self::BrokerRestart | Self::DbStop | Self::DbFull | Self::HalfOpen => 5,
            _ => return None,
        }))
    }

    /// Whether all goes on when events come again, and not when every daemon commits again.
    pub(super) const fn is_told_by_events(self) -> bool {
        matches!(self, Self::BrokerAlarm | Self::EventsUnbind | Self::EventsDelete | Self::StreamDelete)
    }

    /// What it needs and is not there on this machine.
    fn lacks(self) -> Option<&'static str> {
        (self == Self::DbFull && !rustix::process::geteuid().is_root()).then_some("root, for a disk of its own")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// A fault, or all of them, and how often: an item of `--faults`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `None` for all that this machine can do.
    fault: Option<Fault>,
    count: Option<usize>,
}

impl Wanted {
    /// Its name, if somebody else's servers are not to be struck by it.
    pub(crate) fn is_of_own_servers(self) -> Option<String> {
        self.fault.filter(|fault| fault.is_of_own_servers()).map(Fault::name)
    }

    /// Its name, if events go where it does not strike.
    pub(crate) fn misses(self, streams: bool) -> Option<String> {
        self.fault.filter(|fault| fault.is_of_a_stream().is_some_and(|stream| stream != streams)).map(Fault::name)
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
        let count = match count.map(str::parse::<usize>) {
            None => None,
            Some(Ok(count @ 1..=100_000)) => Some(count),
            Some(_) => return Err(format!("`{text}`: expected how often behind the colon, such as kill:25")),
        };
        if name == "all" {
            return Ok(Self { fault: None, count });
        }
        let fault = Fault::from_str(name, false).map_err(|_| {
            let names: Vec<_> = Fault::value_variants().iter().map(|fault| fault.name()).collect();
            format!("`{name}` is no fault, expected all, or {}", names.join(", "))
        })?;
        if let Some(lack) = fault.lacks() {
            return Err(format!("{name} needs {lack}"));
        }
        Ok(Self { fault: Some(fault), count })
    }
}

/// Each fault once, with how often it is wanted; what is said of one fault goes before what is said
/// of all. All are those that can be, on servers of our own or on somebody else's, and where events go.
pub(super) fn wanted(items: &[Wanted], on_own_servers: bool, streams: bool) -> Vec<(Fault, Option<usize>)> {
    let of = |fault: Fault| {
        let named = items.iter().rev().find(|item| item.fault == Some(fault));
        let is_there = fault.is_of_a_stream().is_none_or(|stream| stream == streams);
        let can_be = fault.lacks().is_none() && is_there && (on_own_servers || !fault.is_of_own_servers());
        let all = items.iter().rev().find(|item| item.fault.is_none() && can_be);
        named.or(all).map(|item| (fault, item.count))
    };
    Fault::value_variants().iter().filter_map(|fault| of(*fault)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Vec<Wanted> {
        text.split(',').map(|item| item.parse().expect(text)).collect()
    }

    #[test]
    fn faults_are_named_with_or_without_how_often() {
        let found = wanted(&items("db-stop:3,kill,cut-before-commit:200"), true, false);
        assert_eq!(found, [(Fault::Kill, None), (Fault::DbStop, Some(3)), (Fault::CutBeforeCommit, Some(200))]);
        let all = wanted(&items("all:2,kill:5"), true, false);
        assert!(all.len() >= Fault::value_variants().len() - 4);
        assert!(all.iter().all(|(fault, count)| *count == Some(if *fault == Fault::Kill { 5 } else { 2 })));
    }

    #[test]
    fn all_faults_on_the_servers_of_somebody_else_are_those_that_leave_them_to_others() {
        let all = wanted(&items("all:2"), false, false);
        assert!(all.iter().all(|(fault, _)| !fault.is_of_own_servers()), "{all:?}");
        assert_eq!(all.len(), Fault::value_variants().len() - 8 - 3);
        assert_eq!(items("all,kill,db-stop:3").into_iter().find_map(Wanted::is_of_own_servers), Some("db-stop".into()));
    }

    #[test]
    fn all_faults_are_those_of_the_place_where_events_go() {
        let all =
            |streams| wanted(&items("all"), false, streams).into_iter().map(|(fault, _)| fault).collect::<Vec<_>>();
        let (exchange, stream) = (all(false), all(true));
        assert!(exchange.contains(&Fault::EventsDelete) && !exchange.contains(&Fault::StreamDelete));
        assert!(stream.contains(&Fault::StreamDelete) && !stream.contains(&Fault::CutBeforeConfirm));
        let [deleted] = items("stream-delete")[..] else { panic!("one") };
        assert_eq!((deleted.misses(false), deleted.misses(true)), (Some("stream-delete".to_owned()), None));
        assert_eq!(items("events-unbind")[0].misses(true), Some("events-unbind".to_owned()));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_names_there_are() {
        assert!("kil".parse::<Wanted>().is_err_and(|error| error.contains("half-open")));
        assert!("kill:0".parse::<Wanted>().is_err_and(|error| error.contains("kill:25")));
    }
}
