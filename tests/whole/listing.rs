//! Lists of the command line: the newest first, filtered, in pages, and without reading everything.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use settled_store::Client;
use settled_store::queries::payment::{self, Cursor, PaymentFilter};
use settled_testkit::harness::{self, Task, World, open, transfer};
use settled_testkit::seed;
use uuid::Uuid;

/// A task whose id, of version 4, sorts behind all ids of version 7.
fn with_random_id(task: Task) -> Task {
    let id = u128::MAX << 96 | Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).as_u128() >> 32;
    task.identified(uuid::Builder::from_u128(id).with_version(uuid::Version::Random).into_uuid())
}

struct Listing {
    world: World,
    _daemon: harness::Daemon,
}

impl Listing {
    async fn new() -> Self {
        let (world, daemon) = World::with_daemon(&[]).await;
        let listing = Self { world, _daemon: daemon };
        listing.publish(&[open("a", "USD", None), open("b", "USD", None)]).await;
        listing
    }

    async fn publish(&self, tasks: &[Task]) {
        let publisher = self.world.publisher().await;
        for task in tasks {
            publisher.publish(task).await;
        }
        self.world.all_are("settled", tasks).await;
    }

    async fn list(&self, filter: &[&str]) -> Vec<Value> {
        let listed = self.world.prints(&[&["payment", "list"], filter].concat()).await;
        listed.as_array().expect("a list").clone()
    }
}

fn texts<'a>(payments: &'a [Value], field: &str) -> Vec<&'a str> {
    payments.iter().map(|payment| payment[field].as_str().unwrap_or("-")).collect()
}

#[tokio::test]
async fn payments_are_listed_by_time_whatever_their_ids() {
    let listing = Listing::new().await;
    for reference in ["first", "second", "third"] {
        let payment = transfer("a", "b", 1).with("reference", reference);
        listing.publish(&[if reference == "second" { with_random_id(payment) } else { payment }]).await;
    }
    let listed = listing.list(&["--limit", "3"]).await;
    assert_eq!(texts(&listed, "reference"), ["third", "second", "first"]);

    // An id is a place in the list, as before there were cursors; a time is one, too.
    let second = listed[1]["id"].as_str().expect("an id");
    assert_eq!(texts(&listing.list(&["--before", second, "--type", "transfer"]).await, "reference"), ["first"]);
    let time = listed[1]["settled_at"].as_str().expect("a time");
    for earlier in ["--before", "--until"] {
        assert_eq!(texts(&listing.list(&[earlier, time, "--type", "transfer"]).await, "reference"), ["first"]);
    }
    assert_eq!(texts(&listing.list(&["--since", time]).await, "reference"), ["third", "second"]);
    assert_eq!(texts(&listing.list(&["--reference", "second"]).await, "id"), [second]);
    assert_eq!(listing.list(&["--publisher", "nobody"]).await.len(), 0);
    let publisher = listed[0]["publisher"].as_str().expect("a publisher");
    assert_eq!(listing.list(&["--publisher", publisher, "--limit", "2"]).await, listed[..2]);
    assert_eq!(listing.list(&["--account", "unknown"]).await.len(), 0);

    let unknown = listing.world.run(&["payment", "list", "--before", &Uuid::now_v7().to_string()]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("--before: no payment"), "{unknown:?}");
    let wrong = listing.world.run(&["payment", "list", "--before", "yesterday"]).await;
    assert!(wrong.code == 2 && wrong.stderr.contains("expected a cursor"), "{wrong:?}");
}

#[tokio::test]
async fn pages_have_every_payment_once_also_those_of_one_moment() {
    let listing = Listing::new().await;
    let payments: Vec<Task> = (0..60).map(|_| with_random_id(transfer("a", "b", 1))).collect();
    // Published together, so that many are committed together, at one time.
    let lines: Vec<String> = payments.iter().map(Task::body).collect();
    assert_eq!(listing.world.run_with(&["publish"], &lines.join("\n")).await.code, 0);
    listing.world.all_are("settled", &payments).await;

    for account in [&[][..], &["--account", "a", "--timeout", "0s"], &["--account", "a"]] {
        let mut paged = Vec::new();
        loop {
            let cursor = paged.last().map(|last: &Value| last["cursor"].as_str().expect("a cursor").to_owned());
            let before = cursor.iter().flat_map(|cursor| ["--before", cursor.as_str()]);
            let arguments = [account, &["--limit", "7", "--type", "transfer"]].concat();
            let page = listing.list(&arguments.into_iter().chain(before).collect::<Vec<_>>()).await;
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        let mut sorted = paged.clone();
        let key = |payment: &Value| {
            let settled_at: Timestamp = payment["settled_at"].as_str().expect("a time").parse().expect("a time");
            (settled_at, payment["id"].to_string())
        };
        sorted.sort_by_key(|payment| std::cmp::Reverse(key(payment)));
        sorted.dedup();
        assert_eq!(paged.len(), 60, "{account:?}");
        assert_eq!(texts(&sorted, "id"), texts(&paged, "id"), "{account:?}");
    }

    let page = listing.world.run(&["payment", "list", "--limit", "7"]).await;
    let last = &listing.list(&["--limit", "7"]).await[6]["cursor"];
    assert!(page.stdout.ends_with(&format!("more: --before {}\n", last.as_str().expect("a cursor"))), "{page:?}");
}

#[tokio::test]
async fn a_search_that_takes_too_long_says_how_far_it_has_come() {
    let listing = Listing::new().await;
    let rejected = transfer("c", "b", 1);
    listing.world.publisher().await.publish(&rejected).await;
    listing.world.outcome(&rejected).await;
    listing.publish(&[transfer("a", "b", 1)]).await;

    let none = listing.world.run(&["payment", "list", "--reference", "none", "--timeout", "0s"]).await;
    assert!(none.code == 0 && none.stdout == "no payments\n", "{none:?}");
    for said in ["back to 20", "earlier payments are not listed", "--before 20"] {
        assert!(none.stderr.contains(said), "{said}: {none:?}");
    }
    let moved =
        listing.world.run(&["payment", "list", "--account", "b", "--type", "transfer", "--timeout", "0s"]).await;
    assert!(moved.stderr.contains("only those that moved the balance of b are listed"), "{moved:?}");
    assert!(moved.stdout.contains("settled"), "{moved:?}");
    let all = listing.world.run(&["payment", "list", "--account", "b", "--type", "transfer", "--quiet"]).await;
    assert!(all.stderr.is_empty() && all.stdout.contains("account_not_found"), "{all:?}");
}

/// The number of payments in a large ledger.
const MANY: usize = 100_000;

/// Buffers of `payment`, of its data and of its indexes, that `search` reads.
async fn buffers(client: &Client, search: impl AsyncFnOnce()) -> i64 {
    let read = async || -> i64 {
        client.batch_execute("SELECT pg_stat_force_next_flush()").await.expect("flushed");
        let read = "SELECT (heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))::bigint
                      FROM pg_statio_user_tables WHERE relname = 'payment'";
        client.query_one(read, &[]).await.expect("statistics").get(0)
    };
    let before = read().await;
    search().await;
    read().await - before
}

#[tokio::test]
async fn a_page_of_a_large_ledger_reads_little_of_it() {
    let database = harness::database(None).await;
    let mut client = harness::connect(Some(&database)).await;
    // What autovacuum reads of it would count as read by a search that it runs beside. And rows that are deleted would
    // stay as long as it looks at another table, which is why they are not.
    client.batch_execute("ALTER TABLE payment SET (autovacuum_enabled = false)").await.expect("left alone");
    seed::accounts(&client, 1_000).await.expect("accounts");
    seed::payments(&mut client, MANY).await.expect("payments");
    // One payment in ten seconds, then nothing for a day. With smaller ranges, so that there are as many of them as
    // in a ledger that is far larger. Ids that say nothing of the time.
    let spread = "SET session_replication_role = replica;
        CREATE TEMP TABLE spread AS SELECT *, row_number() OVER (ORDER BY id) AS nth FROM payment;
        TRUNCATE payment;
        UPDATE spread SET settled_at = now() - interval '1 day' - (101000 - nth) * interval '10 s';
        ALTER TABLE spread DROP COLUMN nth;
        INSERT INTO payment SELECT * FROM spread ORDER BY settled_at;
        ALTER INDEX payment_settled_at SET (pages_per_range = 4);
        VACUUM FULL ANALYZE payment";
    for statement in spread.split(';') {
        client.batch_execute(statement).await.expect("a large ledger");
    }
    let pages: i64 = client
        .query_one("SELECT pg_relation_size('payment') / current_setting('block_size')::bigint", &[])
        .await
        .expect("a size")
        .get(0);
    let newest: Timestamp =
        client.query_one("SELECT max(settled_at) FROM payment", &[]).await.expect("payments").get(0);

    let page = PaymentFilter { limit: 50, ..PaymentFilter::default() };
    let earlier = |hours| Some(Cursor::at(newest - SignedDuration::from_hours(hours)));
    for (what, filter) in [
        ("the newest", page),
        ("a page in the middle", PaymentFilter { before: earlier(140), ..page }),
        ("an hour", PaymentFilter { before: earlier(100), since: earlier(101).map(|at| at.settled_at), ..page }),
        (
            "a filter in an hour",
            PaymentFilter {
                publisher: Some("nobody"),
                before: earlier(100),
                since: earlier(101).map(|at| at.settled_at),
                ..page
            },
        ),
        ("the oldest", PaymentFilter { before: earlier(277), ..page }),
        ("follow-ups", PaymentFilter { payment: Some(Uuid::now_v7()), ..page }),
        ("parked", PaymentFilter { state: Some("parked"), ..page }),
    ] {
        let read = buffers(&client, async || {
            let found = payment::list(&client, &filter, Duration::from_secs(60)).await.expect("a page");
            let full = filter.publisher.is_none() && filter.payment.is_none() && filter.state.is_none();
            assert_eq!((found.payments.len(), found.searched_back_to), (if full { 50 } else { 0 }, None), "{what}");
        })
        .await;
        println!("{what}: {read} of {pages} pages");
        assert!(read < pages / 2, "{what}: {read} buffers of {pages} pages");
    }
    // From the index of its entries. It has 200, for which the planner may read more than a page of them.
    let of_account = PaymentFilter { account: Some("account:7"), ..page };
    let read = buffers(&client, async || {
        let found = payment::list(&client, &of_account, Duration::ZERO).await.expect("a page");
        assert_eq!((found.payments.len(), found.searched_back_to.is_some()), (50, true));
    })
    .await;
    assert!(read < pages * 3 / 4, "the payments of an account: {read} buffers of {pages} pages");
}
