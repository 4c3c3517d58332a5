//! SIGHUP: rules and passwords that change while the daemon works.

use rustix::process::Signal;
use settled_testkit::harness::{Daemon, Publisher, Task, World, eventually, follow_up, open, servers, transfer};

async fn reload(daemon: &mut Daemon, count: usize) {
    daemon.signal(Signal::HUP);
    daemon.counts("settled_config_reloads_total", &[("result", "success")], count).await;
}

/// Rules in which `shop` may pay these accounts.
fn rules(credit: &str) -> String {
    format!(
        "publisher = [{{ name = 'till', types = ['*'], debit = ['*'], credit = ['*'], accounts = ['*'] }}, \
         {{ name = 'shop', types = ['transfer', 'refund'], debit = ['world'], credit = [{credit}] }}]"
    )
}

#[tokio::test]
async fn publishers_rules_change_for_the_next_delivery_and_for_follow_ups_that_wait() {
    let (narrow, wide) = (rules("'shop:*'"), rules("'shop:*', 'alice'"));
    let unverified = "authority.verified = false";
    let (world, mut daemon, publisher) = World::at_work(&[unverified, &narrow]).await;
    let publish = async |task: &Task, name: &str| {
        publisher.publish_with(task, Publisher::properties(task).with_app_id(name.into())).await;
    };
    for name in ["world", "alice", "shop:1"] {
        let opening = open(name, "USD", None);
        publish(&opening, "till").await;
        world.becomes("settled", &opening).await;
    }
    let (before, after, later) =
        (transfer("world", "alice", 1), transfer("world", "alice", 1), transfer("world", "alice", 1));
    publish(&before, "shop").await;
    assert_eq!(world.dead_letter_of(&before).await["reason"], "forbidden");
    daemon.counts("settled_forbidden_total", &[("publisher", "shop")], 1).await;
    // They wait for payments of somebody else that `shop` may not act on, yet.
    let payments = [transfer("world", "alice", 5), transfer("world", "alice", 5)];
    let refunds = [follow_up("refund", &payments[0], Some(1)), follow_up("refund", &payments[1], Some(1))];
    for refund in &refunds {
        publish(refund, "shop").await;
        world.becomes("parked", refund).await;
    }
    publish(&payments[0], "till").await;
    assert_eq!(world.becomes("rejected", &refunds[0]).await["reason"], "forbidden");

    world.configure(&[unverified, &wide]);
    reload(&mut daemon, 1).await;
    publish(&after, "shop").await;
    world.becomes("settled", &after).await;
    publish(&payments[1], "till").await;
    world.becomes("settled", &refunds[1]).await;

    // And back, with another publisher, who gets a counter of its own.
    world.configure(&[unverified, &narrow.replace("'shop'", "'kiosk'")]);
    reload(&mut daemon, 2).await;
    publish(&later, "shop").await;
    assert_eq!(world.dead_letter_of(&later).await["reason"], "forbidden");
    let of_kiosk = transfer("world", "alice", 2);
    publish(&of_kiosk, "kiosk").await;
    assert_eq!(world.dead_letter_of(&of_kiosk).await["reason"], "forbidden");
    daemon.counts("settled_forbidden_total", &[("publisher", "kiosk")], 1).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn rules_of_the_ledger_change_for_the_next_batch() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    let coin = || open("miner", "BTC", None);
    let (before, after) = (coin(), coin());
    publisher.publish(&before).await;
    assert_eq!(world.becomes("rejected", &before).await["reason"], "unknown_currency");
    world.configure(&["payments.currencies = ['BTC:8']"]);
    reload(&mut daemon, 1).await;
    publisher.publish(&after).await;
    world.becomes("settled", &after).await;
    world.end(daemon).await;
}

/// Waits until a payment that needs new connections settles, and the daemon is ready.
async fn goes_on(world: &World, daemon: &mut Daemon) {
    world.settle(&[transfer("world", "alice", 1)]).await;
    eventually("it is ready", async || daemon.readiness().await.0 == 200).await;
}

#[tokio::test]
async fn a_new_password_of_postgres_is_used_by_the_next_connection() {
    let world = World::new(&[]).await;
    let (admin, role) = (world.sql().await, format!("reload_{}", world.name));
    let owned = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'first'; ALTER DATABASE {} OWNER TO {role};
         GRANT ALL ON SCHEMA public TO {role}",
        world.name
    );
    admin.batch_execute(&owned).await.expect("a role");
    let (_, place) = world.postgres_url.split_once('@').expect("a user");
    let url = |password: &str| format!("postgres.url = 'postgresql://{role}:{password}@{place}'");
    world.configure(&[&url("first")]);
    let mut daemon = world.daemon().await;
    world.open_world_and_alice().await;
    admin.batch_execute(&format!("ALTER ROLE {role} PASSWORD 'chang3d'")).await.expect("changed");
    world.configure(&[&url("chang3d")]);
    reload(&mut daemon, 1).await;
    assert!(!daemon.log().contains("chang3d"), "{}", daemon.tail());
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename LIKE 'reload_%'";
    admin.query(terminate, &[]).await.expect("terminated");
    goes_on(&world, &mut daemon).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_new_password_of_the_broker_is_used_by_the_next_connection() {
    let world = World::new(&[]).await;
    let (broker, user) = (servers().await, format!("reload_{}", world.name));
    let rabbitmqctl = async |arguments: &[&str]| broker.rabbitmqctl(arguments).await.expect("done");
    rabbitmqctl(&["add_user", &user, "first"]).await;
    rabbitmqctl(&["set_permissions", &user, ".*", ".*", ".*"]).await;
    let (_, place) = world.amqp_uri.split_once('@').expect("a user");
    let uris = |password: &str| format!("broker.uris = ['amqp://{user}:{password}@{place}']");
    world.configure(&[&uris("first")]);
    let mut daemon = world.daemon().await;
    world.open_world_and_alice().await;
    rabbitmqctl(&["change_password", &user, "second"]).await;
    world.configure(&[&uris("second")]);
    reload(&mut daemon, 1).await;
    let close = format!("rabbit_networking:close_all_user_connections(<<\"{user}\">>, \"the password has changed\").");
    rabbitmqctl(&["eval", &close]).await;
    goes_on(&world, &mut daemon).await;
    assert!(daemon.metric("settled_reconnects_total", &[("connection", "intake")]).await >= 1.0);
    // And one that moves into a file.
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "third\n").expect("the password");
    rabbitmqctl(&["change_password", &user, "third"]).await;
    world.configure(&[&uris("second").replace(":second", ""), &format!("broker.password_file = {file:?}")]);
    reload(&mut daemon, 2).await;
    rabbitmqctl(&["eval", &close]).await;
    goes_on(&world, &mut daemon).await;
    world.end(daemon).await;
}
