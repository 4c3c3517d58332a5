//! Daemons that share a queue with a single active consumer: one works, the next stands by.

use lapin::options::QueueDeclareOptions;
use lapin::types::AMQPValue;
use settled_testkit::harness::{Publisher, Task, World, amqp, open, transfer};

/// Accounts that are opened, funded and spent from without waiting.
fn back_to_back(name: &str) -> Vec<Task> {
    let accounts = || (0..100).map(|number| format!("{name}:{number}"));
    std::iter::once(open(&format!("{name}:world"), "USD", None))
        .chain(accounts().flat_map(|account| {
            [
                open(&account, "USD", Some(0)),
                transfer(&format!("{name}:world"), &account, 5),
                transfer(&account, &format!("{name}:world"), 5),
            ]
        }))
        .collect()
}

#[tokio::test]
async fn with_a_single_active_consumer_order_holds_and_the_next_daemon_takes_over() {
    let world = World::new(&[]).await;
    let publisher = Publisher::only(&world).await;
    let mut arguments = amqp::table(&[
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", 20.into()),
        ("x-dead-letter-exchange", world.dead_letter_exchange.as_str().into()),
    ]);
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let declared =
        publisher.channel.queue_declare(world.queue.as_str().into(), QueueDeclareOptions::durable(), arguments);
    declared.await.expect("a queue");
    let mut first = world.daemon().await;
    let mut second = world.daemon().await;

    let tasks = back_to_back("a");
    world.settle(&tasks).await;
    assert_eq!(first.metric("settled_tasks_received_total", &[]).await, tasks.len() as f64);
    assert_eq!(second.metric("settled_tasks_received_total", &[]).await, 0.0);

    first.stop().await;
    let tasks = back_to_back("b");
    world.settle(&tasks).await;
    second.counts("settled_tasks_received_total", &[], tasks.len()).await;
    second.stop().await;
    world.audit().await;
}
