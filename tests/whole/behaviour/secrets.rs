//! A password that is replaced while the daemon runs.

use std::path::Path;

use settled_testkit::harness::{World, eventually, servers, transfer};

/// A role of its own that owns the world's database, and a configuration with its password file.
async fn with_password_file(world: &World, file: &Path) -> String {
    let (admin, role) = (world.sql().await, format!("role_{}", world.name));
    let owned = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'first'; ALTER DATABASE {} OWNER TO {role};
         GRANT ALL ON SCHEMA public TO {role}",
        world.name
    );
    admin.batch_execute(&owned).await.expect("a role");
    std::fs::write(file, "first\n").expect("the password");
    let (_, place) = world.postgres_url.split_once('@').expect("a user");
    let postgres = format!("postgres = {{ url = \"postgresql://{role}@{place}\", password_file = {file:?} }}");
    world.configure(&[&postgres]);
    role
}

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename LIKE 'role_%'";

#[tokio::test]
async fn a_password_that_is_replaced_in_its_file_is_used_by_the_next_connection() {
    let world = World::new(&[]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    let role = with_password_file(&world, &file).await;
    let mut daemon = world.daemon().await;
    let publisher = world.publisher().await;
    world.open_world_and_alice().await;

    let admin = world.sql().await;
    let rotate = format!("ALTER ROLE {role} PASSWORD 'second'");
    admin.batch_execute(&rotate).await.expect("rotated");
    // Whoever replaces a file may take a moment over it.
    std::fs::remove_file(&file).expect("removed");
    admin.query(TERMINATE, &[]).await.expect("terminated");
    let payments: Vec<_> = (0..20).map(|_| transfer("world", "alice", 1)).collect();
    publisher.publish_all(&payments).await;
    eventually("it says that the file is gone", async || {
        let (status, report) = daemon.readiness().await;
        let reason = report.to_string();
        status == 503 && reason.contains("password_file") && reason.contains(&*file.to_string_lossy())
    })
    .await;
    std::fs::write(&file, "second\n").expect("the password");
    world.all_are("settled", &payments).await;
    eventually("it is ready", async || daemon.readiness().await.0 == 200).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_password_of_the_broker_that_is_replaced_in_its_file_is_used_by_the_next_connection() {
    let world = World::new(&[]).await;
    let (broker, user) = (servers().await, format!("user_{}", world.name));
    let rabbitmqctl = async |arguments: &[&str]| broker.rabbitmqctl(arguments).await.expect("done");
    rabbitmqctl(&["add_user", &user, "first"]).await;
    rabbitmqctl(&["set_permissions", &user, ".*", ".*", ".*"]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    std::fs::write(&file, "first\n").expect("the password");
    let (_, place) = world.amqp_uri.split_once('@').expect("a user");
    world.configure(&[&format!("broker = {{ uris = ['amqp://{user}@{place}'], password_file = {file:?} }}")]);
    let mut daemon = world.daemon().await;
    world.open_world_and_alice().await;
    rabbitmqctl(&["change_password", &user, "second"]).await;
    std::fs::remove_file(&file).expect("removed");
    let close = format!("rabbit_networking:close_all_user_connections(<<\"{user}\">>, \"the password has changed\").");
    rabbitmqctl(&["eval", &close]).await;
    eventually("it says that the file is gone", async || {
        let (status, report) = daemon.readiness().await;
        let reason = report.to_string();
        status == 503 && reason.contains("broker.password_file") && reason.contains(&*file.to_string_lossy())
    })
    .await;
    std::fs::write(&file, "second\n").expect("the password");
    eventually("it is ready", async || daemon.readiness().await.0 == 200).await;
    world.settle(&[transfer("world", "alice", 1)]).await;
    world.end(daemon).await;
}
