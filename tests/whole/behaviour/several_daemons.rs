//! Daemons may share a queue, also one with a single active consumer: one works, the next stands by.

use std::collections::HashMap;

use lapin::options::QueueDeclareOptions;
use lapin::types::AMQPValue;
use settled_testkit::harness::{Publisher, Task, World, amqp, declare_queue, eventually, open, transfer};

#[tokio::test]
async fn two_daemons_on_a_queue_apply_each_id_once() {
    let world = World::new(&["pipeline.max_batch = 40", "broker.prefetch = 160"]).await;
    let publisher = world.publisher().await;
    let opened: Vec<Task> = std::iter::once(open("hot", "USD", None))
        .chain((0..50).map(|number| open(&format!("account:{number}"), "USD", None)))
        .collect();
    let mut daemons = [world.daemon().await, world.daemon().await];
    world.settle(&opened).await;

    let tasks: Vec<Task> = (0..3000_usize)
        .map(|number| match number % 3 {
            0 => transfer("hot", &format!("account:{}", number % 50), 1),
            1 => transfer(&format!("account:{}", number % 50), "hot", 2),
            _ => transfer(&format!("account:{}", number % 50), &format!("account:{}", (number * 7 + 1) % 50), 3),
        })
        .map(|task| {
            let is_own = task.json["debit_account"] == task.json["credit_account"];
            if is_own { task.with("credit_account", "hot") } else { task }
        })
        .collect();
    // Every second one comes again, some at once and some much later; every tenth altered.
    let altered: Vec<Task> = tasks.iter().step_by(10).map(|task| task.clone().with("amount", 999)).collect();
    let mut all: Vec<&Task> = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        all.push(task);
        if number % 4 == 0 {
            all.push(task);
        }
        if number % 4 == 2 && number >= 500 {
            all.push(&tasks[number - 500]);
        }
    }
    let duplicates = all.len() - tasks.len();
    publisher.publish_all(all).await;
    world.all_are("settled", &tasks).await;
    // Not before: between two daemons it is anybody's which of two tasks with one id is the first.
    publisher.publish_all(&altered).await;

    let mut outcomes: HashMap<&str, f64> = HashMap::new();
    eventually("every delivery has had its answer", async || {
        for outcome in ["settled", "duplicate", "dead_lettered"] {
            let mut sum = 0.0;
            for daemon in &mut daemons {
                sum += daemon.metric("settled_outcomes_total", &[("outcome", outcome)]).await;
            }
            outcomes.insert(outcome, sum);
        }
        outcomes.values().sum::<f64>() >= (opened.len() + tasks.len() + duplicates + altered.len()) as f64
    })
    .await;
    assert_eq!(outcomes["settled"], (opened.len() + tasks.len()) as f64);
    assert_eq!(outcomes["duplicate"], duplicates as f64);
    assert_eq!(outcomes["dead_lettered"], altered.len() as f64);
    for daemon in &mut daemons {
        assert!(daemon.metric("settled_tasks_received_total", &[]).await > 100.0, "both take their share");
    }
    for daemon in daemons {
        daemon.stop().await;
    }
    assert_eq!(world.waiting().await, 0);
    world.audit().await;
}

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
    declare_queue(&publisher.channel, &world.queue, QueueDeclareOptions::durable(), arguments).await;
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
