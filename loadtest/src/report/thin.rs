//! Long runs have more seconds than a chart has room for.

use super::model::Sample;

/// At most `limit` samples: neighbours become one. Counters are those of the last of them,
/// latencies, depths and memory those of the worst, processors the mean.
#[must_use]
pub(super) fn thin(series: &[Sample], limit: usize) -> Vec<Sample> {
    series.chunks(series.len().div_ceil(limit).max(1)).filter_map(merge).collect()
}

fn merge(samples: &[Sample]) -> Option<Sample> {
    let worst = |of: fn(&Sample) -> Option<f64>| samples.iter().filter_map(of).max_by(f64::total_cmp);
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or_default();
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len() as f64;
    Some(Sample {
        queue_depth: most(|sample| sample.queue_depth),
        outbox_events: most(|sample| sample.outbox_events),
        confirm_p50_ms: worst(|sample| sample.confirm_p50_ms),
        confirm_p99_ms: worst(|sample| sample.confirm_p99_ms),
        commit_p50_ms: worst(|sample| sample.commit_p50_ms),
        commit_p99_ms: worst(|sample| sample.commit_p99_ms),
        event_p50_ms: worst(|sample| sample.event_p50_ms),
        event_p99_ms: worst(|sample| sample.event_p99_ms),
        daemon_cpu_cores: mean(|sample| sample.daemon_cpu_cores),
        daemon_rss_bytes: most(|sample| sample.daemon_rss_bytes),
        postgres_cpu_cores: mean(|sample| sample.postgres_cpu_cores),
        postgres_rss_bytes: most(|sample| sample.postgres_rss_bytes),
        rabbitmq_cpu_cores: mean(|sample| sample.rabbitmq_cpu_cores),
        rabbitmq_rss_bytes: most(|sample| sample.rabbitmq_rss_bytes),
        generator_cpu_cores: mean(|sample| sample.generator_cpu_cores),
        ..samples.last()?.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(seconds: u32) -> Vec<Sample> {
        let sample = |second: u32| Sample {
            at_s: f64::from(second),
            published: u64::from(10 * second),
            commit_p99_ms: second.is_multiple_of(2).then_some(f64::from(second)),
            queue_depth: u64::from(100 - second),
            daemon_cpu_cores: f64::from(second),
            ..Sample::default()
        };
        (1..=seconds).map(sample).collect()
    }

    #[test]
    fn a_short_series_stays_as_it_is() {
        assert_eq!(thin(&series(3), 3), series(3));
        assert_eq!(thin(&[], 3), []);
    }

    #[test]
    fn neighbours_become_the_worst_of_them_and_the_last_of_what_is_counted() {
        let thinned = thin(&series(4), 3);
        let expected = Sample {
            at_s: 2.0,
            published: 20,
            commit_p99_ms: Some(2.0),
            queue_depth: 99,
            daemon_cpu_cores: 1.5,
            ..Sample::default()
        };
        assert_eq!(thinned.len(), 2);
        assert_eq!(thinned.first(), Some(&expected));
    }
}
