//! A line for every second of a run, from the times of every message.

use crate::report::model::{Quantiles, Sample, empty_histogram};
use crate::watch::{Seen, Tick};

use super::Times;

const SECOND: i64 = 1_000_000;

impl Times {
    /// The samples at the ends of all seconds up to the last outcome.
    pub(super) fn series(&self, seen: &Seen) -> Vec<Sample> {
        let seconds = (self.last() - self.origin) / SECOND + 1;
        let ends = |times: &[(i64, i64)]| times.iter().map(|(_, at)| *at).collect();
        let counts = [
            ends(&self.sent),
            ends(&self.confirmed),
            ends(&self.settled),
            ends(&self.rejected),
            self.dead.clone(),
            ends(&self.events),
        ];
        let counts = counts.map(|times| cumulative(times, self.origin, seconds));
        let committed: Vec<(i64, i64)> = self.settled.iter().chain(&self.rejected).copied().collect();
        let times = [&self.confirmed, &committed, &self.events];
        let latencies = times.map(|times| {
            let times = if self.scheduled { times.clone() } else { Vec::new() };
            latencies(times, self.origin, seconds)
        });
        let sample = |second: usize| {
            let [published, confirmed, settled, rejected, dead_lettered, events] =
                counts.each_ref().map(|all| all[second]);
            let [confirm, commit, event] = latencies.each_ref().map(|all| all[second]);
            let tick = nearest(&seen.ticks, self.origin + (second as i64 + 1) * SECOND);
            let [daemon, postgres, rabbitmq, generator] = tick.busy;
            Sample {
                at_s: (second + 1) as f64,
                published,
                confirmed,
                settled,
                rejected,
                dead_lettered,
                events,
                queue_depth: tick.queue_depth,
                outbox_events: tick.outbox_events,
                confirm_p50_ms: confirm.map(|times| times.p50),
                confirm_p99_ms: confirm.map(|times| times.p99),
                commit_p50_ms: commit.map(|times| times.p50),
                commit_p99_ms: commit.map(|times| times.p99),
                event_p50_ms: event.map(|times| times.p50),
                event_p99_ms: event.map(|times| times.p99),
                daemon_cpu_cores: daemon.cores,
                daemon_rss_bytes: daemon.rss_bytes,
                postgres_cpu_cores: postgres.cores,
                postgres_rss_bytes: postgres.rss_bytes,
                rabbitmq_cpu_cores: rabbitmq.cores,
                rabbitmq_rss_bytes: rabbitmq.rss_bytes,
                generator_cpu_cores: generator.cores,
            }
        };
        (0..seconds as usize).map(sample).collect()
    }
}

/// How many of the times lie before the end of each second.
fn cumulative(mut times: Vec<i64>, origin: i64, seconds: i64) -> Vec<u64> {
    times.sort_unstable();
    let until = |second: i64| times.partition_point(|at| *at < origin + second * SECOND) as u64;
    (1..=seconds).map(until).collect()
}

/// The quantiles of what ended in each second; `times` are pairs of begin and end.
fn latencies(mut times: Vec<(i64, i64)>, origin: i64, seconds: i64) -> Vec<Option<Quantiles>> {
    times.sort_unstable_by_key(|(_, at)| *at);
    let mut rest = times.as_slice();
    let mut micros = empty_histogram();
    let of_second = |second: i64| {
        let (ended, later) = rest.split_at(rest.partition_point(|(_, at)| *at < origin + second * SECOND));
        rest = later;
        micros.reset();
        super::record(&mut micros, ended);
        Quantiles::of(&micros)
    };
    (1..=seconds).map(of_second).collect()
}

/// What was seen next to that time, if anything was.
fn nearest(ticks: &[Tick], at: i64) -> Tick {
    ticks.iter().min_by_key(|tick| tick.at.abs_diff(at)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Busy;

    const ORIGIN: i64 = 1_790_000_000_000_000;

    fn at(millis: i64) -> i64 {
        ORIGIN + millis * 1000
    }

    fn times() -> Times {
        Times {
            origin: ORIGIN,
            sent: vec![(at(0), at(0)), (at(500), at(501)), (at(1500), at(1500))],
            confirmed: vec![(at(0), at(5)), (at(500), at(1010)), (at(1500), at(1502))],
            settled: vec![(at(0), at(10)), (at(500), at(2100))],
            rejected: vec![(at(1500), at(1600))],
            events: Vec::new(),
            dead: vec![at(1700)],
            scheduled: true,
        }
    }

    #[test]
    fn counters_grow_and_latencies_are_those_of_what_ended_in_the_second() {
        let series = times().series(&Seen::default());
        let counts: Vec<_> =
            series.iter().map(|s| (s.at_s, s.published, s.confirmed, s.settled, s.rejected, s.dead_lettered)).collect();
        assert_eq!(counts, [(1.0, 2, 1, 1, 0, 0), (2.0, 3, 3, 1, 1, 1), (3.0, 3, 3, 2, 1, 1)]);
        let near =
            |measured: Option<f64>, expected: f64| measured.is_some_and(|ms| (ms / expected - 1.0).abs() < 0.002);
        assert!(near(series[0].confirm_p99_ms, 5.0) && near(series[1].confirm_p99_ms, 510.0));
        assert!(near(series[1].commit_p50_ms, 100.0) && near(series[2].commit_p50_ms, 1600.0));
        assert_eq!((series[2].confirm_p50_ms, series[0].event_p50_ms), (None, None));
    }

    #[test]
    fn a_backlog_has_no_latencies() {
        let series = Times { scheduled: false, ..times() }.series(&Seen::default());
        assert!(series.iter().all(|sample| sample.commit_p50_ms.is_none()));
    }

    #[test]
    fn a_second_has_what_was_seen_at_its_end() {
        let tick = |millis, cores| Tick { at: at(millis), busy: [Busy { cores, rss_bytes: 7 }; 4], ..Tick::default() };
        let seen = Seen { ticks: vec![tick(900, 0.1), tick(1900, 0.2), tick(2900, 0.3)], ..Seen::default() };
        let cores: Vec<f64> = times().series(&seen).iter().map(|sample| sample.daemon_cpu_cores).collect();
        assert_eq!(cores, [0.1, 0.2, 0.3]);
    }
}
