//! What the daemon needs of its servers: `settled check --connect` names it before `settled run` ends because of it.

use serde_json::{Value, json};
use settled_testkit::harness::{Task, World, authorize, change, eventually, follow_up, own_servers, servers, transfer};
use uuid::Uuid;

/// What `check --connect` says is not as it should be.
async fn complaints(world: &World) -> Vec<Value> {
    let checked = world.run(&["check", "--connect", "--json"]).await;
    assert_eq!(checked.code, 78, "{checked:?}");
    let report = checked.json();
    assert_eq!(report["ok"], false, "{report}");
    let rows = report["preconditions"].as_array().expect("a list").iter();
    let unmet: Vec<Value> = rows.filter(|row| row["verdict"] != "ok").cloned().collect();
    assert!(unmet.iter().all(|row| row["remedy"].is_string()), "{report}");
    unmet
}

/// `settled run` ends with 78, and its last words contain `expected`.
async fn run_refuses(world: &World, expected: &[&str]) {
    let mut daemon = world.starting_daemon();
    daemon.exits(78).await;
    for part in expected {
        assert!(daemon.tail().contains(part), "{part:?} is not in\n{}", daemon.tail());
    }
}

fn role_name(world: &World) -> String {
    format!("role_{}", world.name)
}

/// Makes a role of its own by a script, and a configuration of a daemon that is this role and does not migrate.
async fn role(world: &World, script: &str) -> String {
    let role = role_name(world);
    let password = format!("ALTER ROLE {role} PASSWORD 'secret'");
    world.sql().await.batch_execute(&format!("{script}; {password}")).await.expect("a role");
    let (_, place) = world.postgres_url.split_once('@').expect("a user");
    let url = format!("postgres = {{ url = \"postgresql://{role}:secret@{place}\", migrate = false }}");
    world.configure(&[&url]);
    role
}

/// As [`role`], by the script that `settled migrate --grant --dry-run` prints.
async fn granted_role(world: &World) -> String {
    world.succeeds(&["migrate"]).await;
    let (owner, daemon, reader) = (format!("owner_{}", world.name), role_name(world), format!("reader_{}", world.name));
    let names = ["--owner-role", &owner, "--daemon-role", &daemon, "--read-role", &reader];
    role(world, &world.succeeds(&[&["migrate", "--grant", "--dry-run"], &names[..]].concat()).await).await
}

#[tokio::test]
async fn without_a_schema_that_it_may_make_it_ends_with_78_and_a_check_says_so_before() {
    let world = World::new(&["postgres.migrate = false"]).await;
    let unmet = complaints(&world).await;
    assert_eq!((unmet.len(), &unmet[0]["what"]), (1, &json!("schema")), "{unmet:?}");
    assert!(unmet[0]["remedy"].as_str().is_some_and(|remedy| remedy.contains("settled migrate")), "{unmet:?}");
    run_refuses(&world, &["settled migrate", "V1__ledger"]).await;
    world.configure(&["postgres.migrate = true"]);
    world.prints(&["check", "--connect"]).await;
}

#[tokio::test]
async fn a_role_that_lacks_a_right_is_told_which_and_with_all_of_them_every_task_is_processed() {
    let world = World::new(&[]).await;
    let role = granted_role(&world).await;
    let owner = world.sql().await;
    owner.batch_execute(&format!("REVOKE INSERT ON payment FROM {role}")).await.expect("revoked");
    let grant = format!("GRANT INSERT ON payment TO {role}");
    let unmet = complaints(&world).await;
    assert_eq!(unmet.len(), 1, "{unmet:?}");
    assert!(
        unmet[0].to_string().contains("lacks INSERT on payment") && unmet[0].to_string().contains(&grant),
        "{unmet:?}"
    );
    run_refuses(&world, &["lacks INSERT on payment", &grant]).await;

    owner.batch_execute(&grant).await.expect("granted");
    world.prints(&["check", "--connect"]).await;
    let (daemon, publisher) = (world.daemon().await, world.publisher().await);
    world.open(["world", "alice", "bob"]).await;
    let pay = transfer("world", "alice", 5);
    let (hold, void) = (authorize("world", "alice", 5), authorize("world", "alice", 5));
    let after = transfer("world", "bob", 1).with("after", pay.id.to_string());
    publisher.publish_all(&[pay.clone(), hold.clone(), void.clone(), after.clone()]).await;
    let follow: Vec<Task> = vec![
        follow_up("capture", &hold, Some(2)),
        follow_up("void", &void, None),
        follow_up("refund", &pay, Some(1)),
        change("close_account", "bob"),
    ];
    publisher.publish_all(&follow).await;
    world.becomes("voided", &void).await;
    world.becomes("partially_refunded", &pay).await;
    publisher.raw("task.transfer", b"nonsense", Default::default()).await;
    world.dead_letter(b"nonsense").await;
    daemon.stop().await;
    // The audit is its owner's.
    world.configure(&[]);
    world.audit().await;
}

#[tokio::test]
async fn a_broker_user_that_lacks_a_permission_is_told_which_and_how_to_get_it() {
    let servers = servers().await;
    for (permissions, needed) in
        [(["^$", ".*", ".*"], "exchange"), ([".*", "^$", ".*"], "binding"), ([".*", ".*", "^$"], "consume")]
    {
        let user = format!("u_{}", Uuid::now_v7().simple());
        servers.rabbitmqctl(&["add_user", &user, "secret"]).await.expect("a user");
        let [configure, write, read] = permissions;
        servers.rabbitmqctl(&["set_permissions", &user, configure, write, read]).await.expect("permissions");
        let mut world = World::on(servers, &[]).await;
        world.amqp_uri = servers.amqp_uri().replace("guest:guest", &format!("{user}:secret"));
        world.configure(&[]);
        let unmet = complaints(&world).await;
        let is_named = unmet.iter().any(|row| row["what"].as_str().is_some_and(|what| what.starts_with(needed)));
        assert!(is_named, "{needed}: {unmet:?}");
        assert!(unmet[0]["remedy"].as_str().is_some_and(|remedy| remedy.contains("set_permissions")), "{unmet:?}");
        run_refuses(&world, &["rabbitmqctl set_permissions", &user]).await;

        // What the remedy says is enough.
        let remedy = unmet[0]["remedy"].as_str().expect("a remedy");
        let granted: Vec<&str> = remedy.split('\'').skip(5).step_by(2).collect();
        servers.rabbitmqctl(&["set_permissions", &user, granted[0], granted[1], granted[2]]).await.expect("granted");
        world.prints(&["check", "--connect"]).await;
        let daemon = world.daemon().await;
        assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
        world.prints(&["check", "--connect"]).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_unreachable_and_is_waited_for() {
    let servers = own_servers().await;
    let world = World::on(&servers, &[]).await;
    let role = role(&world, &format!("CREATE USER {}", role_name(&world))).await;
    let owner = world.sql().await;
    owner
        .batch_execute(&format!("ALTER DATABASE {} OWNER TO {role}; GRANT ALL ON SCHEMA public TO {role}", world.name))
        .await
        .expect("owned");
    let (_, place) = world.postgres_url.split_once('@').expect("a user");
    let postgres = format!("postgres.url = \"postgresql://{role}:wrong@{place}\"");
    let broker = format!("broker.uris = [{:?}]", world.amqp_uri.replace("guest:guest", "guest:wrong"));
    world.configure(&[&postgres, &broker]);

    let checked = world.run(&["check", "--connect", "--json"]).await;
    assert_eq!(checked.code, 78, "{checked:?}");
    for server in checked.json()["servers"].as_array().expect("a list") {
        assert_eq!(server["state"], "refused", "{checked:?}");
        assert!(server["detail"].as_str().is_some_and(|text| text.contains("refuses the login")), "{server}");
    }
    for command in [&["audit"][..], &["publish"]] {
        let task = transfer("world", "alice", 1).body();
        let ended = world.run_with(command, &task).await;
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.stderr.contains("refuses the login") && !ended.stderr.contains("wrong@"), "{ended:?}");
    }

    let mut daemon = world.starting_daemon();
    let refused = async |daemon: &mut settled_testkit::harness::Daemon, place: usize| {
        eventually("it says who refuses it", async || {
            let Some((503, body)) = daemon.try_get("/readyz").await else { return false };
            let report: Value = serde_json::from_str(&body).expect("JSON");
            report["status"] == "refused" && report["dependencies"][place]["refused"] == true
        })
        .await;
    };
    refused(&mut daemon, 0).await;
    assert!(daemon.log().contains("refuses access: somebody has to act"), "{}", daemon.tail());
    owner.batch_execute(&format!("ALTER ROLE {role} PASSWORD 'wrong'")).await.expect("changed");
    refused(&mut daemon, 1).await;
    servers.rabbitmqctl(&["change_password", "guest", "wrong"]).await.expect("changed");
    daemon.ready().await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("admin.listen = \"{}\"", taken.local_addr().expect("an address"));
    let world = World::new(&[&listen]).await;
    let ended = world.run(&["run"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stderr.matches("can't listen there").count(), 1, "{ended:?}");
    assert_eq!(ended.stderr.matches("in use").count(), 1, "{ended:?}");
}
