//! The way of a task through the process: the register of what is in flight, the lanes between
//! intake and workers, and the window of what may be acknowledged.

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use settled_amqp::MAX_PREFETCH;
use settled_core::contract::Task;
use settled_pipeline::intake::AckWindow;
use settled_pipeline::lanes::{InFlight, Lanes};
use settled_pipeline::worker::PipelineSettings;
use tokio::runtime::Runtime;

use support::{Random, payment};

/// A batch in and out of the register.
fn in_flight(criterion: &mut Criterion) {
    const BATCH: u64 = 1000;
    let mut random = Random::new();
    let mut pay = |_| {
        let (debit, credit) = random.pair(1000);
        payment(debit, credit)
    };
    let tasks: Vec<Task> = (0..BATCH).map(&mut pay).collect();
    let register = InFlight::new(PipelineSettings::default().lanes, 0);
    let mut group = criterion.benchmark_group("in_flight");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("arrive and done", |bencher| {
        bencher.iter(|| {
            let arrived: Vec<_> =
                tasks.iter().map(|task| (support::enter(&register, black_box(task)).1, Some(task))).collect();
            register.done(arrived.into_iter())
        });
    });
    group.finish();
}

/// From one side of the lanes to the other, on threads of their own; a lane for each worker. Intake
/// is one producer, several are what intake on several channels would be.
fn lanes(criterion: &mut Criterion) {
    let tasks: usize = if support::measuring() { 100_000 } else { 1_000 };
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("lanes");
    group.throughput(Throughput::Elements(tasks as u64)).sample_size(10);
    for producers in [1, 2, 4] {
        for workers in [1, 2, 4] {
            let id = BenchmarkId::from_parameter(format!("{producers} producers, {workers} workers"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|times| {
                    (0..times).map(|_| runtime.block_on(pass_through(producers, workers, tasks))).sum()
                });
            });
        }
    }
    group.finish();
}

/// How long it takes until every task has come out of its lane.
async fn pass_through(producers: usize, workers: usize, tasks: usize) -> Duration {
    let settings = PipelineSettings::default();
    let lanes = Arc::new(Lanes::new(workers, settings.lane_capacity));
    let began = Instant::now();
    let producing: Vec<_> = (0..producers)
        .map(|producer| {
            let lanes = Arc::clone(&lanes);
            tokio::spawn(async move {
                for task in (producer..tasks).step_by(producers) {
                    let lane = task % workers;
                    lanes.reserve(lane).await.fill(task);
                    lanes.wake(lane);
                }
            })
        })
        .collect();
    let working: Vec<_> = (0..workers)
        .map(|_| {
            let lanes = Arc::clone(&lanes);
            tokio::spawn(async move {
                let (mut taken, mut batch) = (0, Vec::with_capacity(settings.max_batch));
                while let Some(lane) = lanes.next().await {
                    lane.take(settings.max_batch, usize::MAX, |_| 0, &mut batch);
                    lane.release(batch.len());
                    taken += batch.len();
                    batch.clear();
                }
                taken
            })
        })
        .collect();
    for producer in producing {
        producer.await.expect("a producer ends");
    }
    while (0..workers).any(|lane| lanes.depth(lane) > 0) {
        tokio::task::yield_now().await;
    }
    let took = began.elapsed();
    // Whoever has a batch in hand still counts it.
    lanes.close();
    let mut taken = 0;
    for worker in working {
        taken += worker.await.expect("a worker ends");
    }
    assert_eq!(taken, tasks);
    took
}

/// A full prefetch, settled in some order, with a flush for every hundred.
fn ack_window(criterion: &mut Criterion) {
    const FLUSHED_TOGETHER: usize = 100;
    let tags = || 1..=u64::from(MAX_PREFETCH);
    let in_order: Vec<u64> = tags().collect();
    let mut random = in_order.clone();
    Random::new().shuffle(&mut random);
    // The first delivery is the last to be settled.
    let straggler: Vec<u64> = tags().skip(1).chain([1]).collect();
    let mut group = criterion.benchmark_group("ack_window");
    group.throughput(Throughput::Elements(MAX_PREFETCH.into()));
    for (name, order) in [("in order", in_order), ("random order", random), ("one straggler", straggler)] {
        let delivered = || {
            let mut window = AckWindow::new(usize::from(MAX_PREFETCH) / 4 * 3);
            tags().for_each(|tag| window.deliver(tag));
            (window, Vec::with_capacity(MAX_PREFETCH.into()))
        };
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                delivered,
                |(window, acks)| {
                    for settled in order.chunks(FLUSHED_TOGETHER) {
                        settled.iter().for_each(|tag| window.settle(*tag));
                        window.flush(acks);
                    }
                    assert_eq!(window.lag(), 0);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn main() {
    support::run(|criterion| {
        in_flight(criterion);
        lanes(criterion);
        ack_window(criterion);
    });
}
