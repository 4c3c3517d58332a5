//! Batches on a real PostgreSQL, without a broker around them.

mod columns;
mod growth;
mod outbox;
mod retention;
mod waiting;

use std::collections::HashMap;
use std::time::Duration;

use settled_core::contract::{AccountName, Currency, Message, PaymentState, Properties, Rejection};
use settled_core::ledger::{Account, AccountStatus, Arrival, NonePending, Rules};
use settled_pipeline::store::{Answer, BatchStore, Committed, StoreError, Submission};
use settled_store::queries::audit::audit;
use settled_store::{Client, Pool, PostgresGauges, PostgresSettings, PostgresStore};
use settled_testkit::harness::{self, Task, eventually, follow_up, open, transfer};
use settled_testkit::prepared::Prepared;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use uuid::Uuid;

/// A ledger with the open accounts `a` and `b`, and nothing else.
struct Ledger {
    url: String,
    settings: PostgresSettings,
    pool: Pool,
    store: PostgresStore,
}

impl Ledger {
    async fn new() -> Self {
        let database = harness::database(None).await;
        let (server, _) = harness::servers().await.postgres_url().rsplit_once('/').expect("a URL with a database");
        Self::on(&format!("{server}/{database}")).await
    }

    /// On a database that nobody else uses.
    async fn on(url: &str) -> Self {
        let mut settings = PostgresSettings::default();
        settings.use_url(url).expect("a PostgreSQL URL");
        let mut client = harness::connect_to(url).await;
        settled_store::migrate(&mut client).await.expect("migrated");
        let pool = settled_store::pool(&settings).expect("a pool");
        let store =
            PostgresStore::new(pool.clone(), &settings, Rules::default(), 10, "settled", Duration::from_secs(60));
        let ledger = Self { url: url.to_owned(), settings, pool, store };
        ledger.settle(&["a", "b"].map(opening)).await;
        ledger
    }

    fn gauges(&self) -> PostgresGauges {
        PostgresGauges::new(self.settings.clone()).expect("a pool")
    }

    async fn commit(&self, batch: &[Submission<'_>]) -> Result<Committed, StoreError> {
        // In a test's build the future is large.
        Box::pin(self.store.commit(batch, &[], &NonePending, true)).await
    }

    async fn answers(&self, batch: &[Submission<'_>]) -> Vec<Answer> {
        self.commit(batch).await.expect("committed").answers
    }

    async fn settle(&self, messages: &[Message]) {
        let answers = self.answers(&submissions(messages)).await;
        assert!(answers.iter().all(|answer| *answer == Answer::Settled), "{answers:?}");
    }

    /// The commit must be refused because the accounts have changed.
    async fn conflicts(&self, messages: &[Message]) {
        let refused = self.commit(&submissions(messages)).await.map(|committed| committed.answers);
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }

    /// The accounts as they are now.
    async fn accounts(&self) -> HashMap<AccountName, Account> {
        let query = "SELECT name, id, posted, version FROM account";
        let rows = self.client().await.query(query, &[]).await.expect("accounts");
        let account = |row: &tokio_postgres::Row| {
            let name = AccountName::parse(row.get(0)).expect("a name");
            let (status, currency) = (AccountStatus::Open, Currency::parse("USD"));
            let (posted, version) = (row.get(2), row.get(3));
            (name, Account { status, currency, posted, version, ..Account::unopened(row.get(1)) })
        };
        rows.iter().map(account).collect()
    }

    async fn client(&self) -> Client {
        harness::connect_to(&self.url).await
    }

    /// Waits until a session of this database waits for a lock.
    async fn waits_for_a_lock(&self) {
        let looking = self.client().await;
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        settled_testkit::harness::eventually("it waits for a lock", async || {
            looking.query_one(waits, &[]).await.expect("sessions").get::<_, i64>(0) == 1
        })
        .await;
    }

    /// Drops `work` when it waits for a lock, as its caller does when it is cancelled.
    async fn give_up_at_a_lock<T: std::fmt::Debug>(&self, work: impl Future<Output = T>) {
        // In a test's build the future is large.
        tokio::select! {
            done = Box::pin(work) => panic!("it didn't wait: {done:?}"),
            () = self.waits_for_a_lock() => {}
        }
    }

    async fn payments(&self) -> i64 {
        get(&self.client().await, "SELECT count(*) FROM payment WHERE type = 'transfer'", &[]).await
    }
}

/// Returns the only value that a query returns.
async fn get<T: FromSqlOwned>(client: &Client, query: &str, params: &[&(dyn ToSql + Sync)]) -> T {
    client.query_one(query, params).await.expect("a row").get(0)
}

/// A message as a publisher writes it.
fn message(task: &Task) -> Message {
    Message::read(task.body().into_bytes(), Properties::default(), jiff::Timestamp::now())
}

/// Opens an account without a limit.
fn opening(account: &str) -> Message {
    message(&open(account, "USD", None))
}

/// `a` pays `b`.
fn payment() -> Message {
    message(&transfer("a", "b", 100))
}

fn id_of(message: &Message) -> Uuid {
    message.content.as_ref().expect("a task").id
}

fn submissions(messages: &[Message]) -> Vec<Submission<'_>> {
    let arrivals = (0..).map(Arrival);
    arrivals.zip(messages).map(|(arrival, message)| Submission::of(arrival, message)).collect()
}

/// A task that has waited, and is looked at again.
fn resumed(message: &Message) -> Submission<'_> {
    Submission { resumes: true, ..Submission::of(Arrival(0), message) }
}

#[tokio::test]
async fn a_ledger_that_was_empty_is_not_read_through_for_each_batch() {
    const BATCHES: i64 = 20;
    let ledger = Ledger::new().await;
    for _ in 0..BATCHES {
        ledger.settle(&[payment()]).await;
    }
    // Sessions report what they did when they end, if not before.
    ledger.pool.close();
    let client = ledger.client().await;
    let payments = async || {
        let query = "SELECT n_tup_ins, seq_tup_read FROM pg_stat_user_tables WHERE relname = 'payment'";
        let row = client.query_one(query, &[]).await.expect("statistics");
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    eventually("the statistics", async || payments().await.0 == BATCHES + 2).await;
    assert_eq!(payments().await.1, 0, "payments were read one after another");
}

#[tokio::test]
async fn batches_that_were_decided_beforehand_are_written_as_the_daemon_would() {
    let ledger = Ledger::new().await;
    let mut accounts = ledger.accounts().await;
    let batches = [vec![payment(), payment()], vec![payment()]];
    let prepared: Vec<_> = batches
        .iter()
        .map(|messages| Prepared::decide(&submissions(messages), &mut accounts, "settled").expect("decided"))
        .collect();
    for batch in &prepared {
        batch.commit(&ledger.pool).await.expect("committed");
    }
    assert_eq!(ledger.accounts().await, accounts);
    assert_eq!(ledger.payments().await, 3);
    let audit = audit(&mut ledger.client().await).await.expect("an audit");
    assert!(audit.passed, "{:?}", audit.checks);
}

#[tokio::test]
async fn a_batch_that_was_decided_on_other_balances_is_not_written() {
    let ledger = Ledger::new().await;
    let mut accounts = ledger.accounts().await;
    let messages = [payment()];
    let stale = Prepared::decide(&submissions(&messages), &mut accounts, "settled").expect("decided");
    ledger.settle(&[payment()]).await;
    let refused = stale.commit(&ledger.pool).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(ledger.payments().await, 1);
}

#[tokio::test]
async fn what_acts_on_a_payment_counts_also_beside_a_second_look_at_it_by_another_daemon() {
    let ledger = Ledger::new().await;
    let earlier = payment();
    let payment = transfer("a", "b", 100).with("after", id_of(&earlier).to_string());
    let (transfer, refund) = (message(&payment), message(&follow_up("refund", &payment, None)));
    let parked = ledger.answers(&[Submission::of(Arrival(0), &transfer)]).await;
    assert_eq!(parked, [Answer::Waiting(PaymentState::Parked)]);
    ledger.settle(&[earlier]).await;
    assert_eq!(ledger.answers(&[resumed(&transfer)]).await, [Answer::Settled]);
    let answers = ledger.answers(&[resumed(&transfer), Submission::of(Arrival(1), &refund)]).await;
    assert_eq!(answers, [Answer::Duplicate, Answer::Settled]);
    let query = "SELECT state::text, version, refunded FROM payment WHERE id = $1";
    let row = ledger.client().await.query_one(query, &[&payment.id]).await.expect("a payment");
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("refunded", 3, Some(100_i64)));
}

#[tokio::test]
async fn an_account_that_has_another_id_in_this_ledger_is_asked_for_again() {
    let ledger = Ledger::new().await;
    ledger.settle(&[payment()]).await;
    // As after the loss of a server whose last names the standby has never heard of.
    let swap =
        "BEGIN; UPDATE account SET name = 'former_a' WHERE name = 'a'; UPDATE account SET name = 'a' WHERE name = 'b';
                UPDATE account SET name = 'b' WHERE name = 'former_a'; COMMIT";
    ledger.client().await.batch_execute(swap).await.expect("swapped");
    let again = [payment()];
    ledger.conflicts(&again).await;
    ledger.settle(&again).await;
    let query = "SELECT a.name FROM payment p JOIN account a ON a.id = p.debit_account WHERE p.id = $1";
    let debited: String = get(&ledger.client().await, query, &[&id_of(&again[0])]).await;
    assert_eq!(debited, "a");
}

#[tokio::test]
async fn a_name_that_has_the_id_of_another_one_is_asked_for_again() {
    let ledger = Ledger::new().await;
    ledger.settle(&[payment()]).await;
    let rename = "UPDATE account SET name = 'former_a' WHERE name = 'a'";
    ledger.client().await.batch_execute(rename).await.expect("renamed");
    // This one gets the id that `a` had, beside which it is remembered.
    ledger.settle(&[message(&transfer("former_a", "b", 1))]).await;
    let both = [message(&transfer("former_a", "b", 1)), payment()];
    ledger.conflicts(&both).await;
    assert_eq!(
        ledger.answers(&submissions(&both)).await,
        [Answer::Settled, Answer::Rejected(Rejection::AccountNotFound)]
    );
}

#[tokio::test]
async fn a_user_without_rights_of_its_own_can_wait_until_what_it_has_read_is_durable() {
    let ledger = Ledger::new().await;
    let admin = ledger.client().await;
    let role = format!("plain_{}", Uuid::now_v7().simple());
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN; SET ROLE {role}")).await.expect("a role");
    let before: String = get(&admin, "SELECT pg_current_wal_flush_lsn()::text", &[]).await;
    settled_store::durable(&admin).await.expect("durable");
    let behind = "SELECT pg_current_wal_flush_lsn() > $1::text::pg_lsn";
    assert!(get::<bool>(&admin, behind, &[&before]).await, "the log was not flushed");
    admin.batch_execute(&format!("RESET ROLE; DROP ROLE {role}")).await.expect("no role");
}

#[tokio::test]
async fn what_is_only_looked_up_is_behind_a_flush_of_the_log() {
    let ledger = Ledger::new().await;
    let messages = [payment()];
    ledger.settle(&messages).await;
    let client = ledger.client().await;
    // Written without being waited for: a flush is what brings it to the disk.
    client.batch_execute("SET synchronous_commit = off; CREATE TABLE later (n int)").await.expect("a table");
    client.batch_execute("INSERT INTO later VALUES (1)").await.expect("a row");
    let written: String = get(&client, "SELECT pg_current_wal_insert_lsn()::text", &[]).await;
    let again = ledger.commit(&submissions(&messages)).await.expect("committed");
    assert_eq!(again.answers, [Answer::Duplicate]);
    assert!(again.proof.is_some());
    let flushed = "SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn";
    assert!(get::<bool>(&client, flushed, &[&written]).await);
}

/// Has the next commit come with a warning of this code, as PostgreSQL gives it when a wait for a
/// synchronous standby ends without one.
async fn commit_with_warning(code: &str) -> Result<Vec<Answer>, StoreError> {
    let ledger = Ledger::new().await;
    let warn = format!(
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE WARNING 'committed here only' USING ERRCODE = '{code}'; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON payment DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION warn()"
    );
    ledger.client().await.batch_execute(&warn).await.expect("a trigger");
    let committed = ledger.commit(&submissions(&[payment()])).await;
    assert_eq!(ledger.payments().await, 1, "it is committed here");
    committed.map(|committed| committed.answers)
}

#[tokio::test]
async fn a_commit_that_a_warning_takes_back_is_of_unknown_outcome() {
    for code in ["57P01", "25P01"] {
        let committed = commit_with_warning(code).await;
        let told = matches!(&committed, Err(StoreError::OutcomeUnknown(why)) if why.contains("committed here only"));
        assert!(told, "{code}: {committed:?}");
    }
}

#[tokio::test]
async fn a_warning_that_says_nothing_about_the_commit_is_no_error() {
    assert_eq!(commit_with_warning("01000").await.expect("committed"), [Answer::Settled]);
}

/// Parks a refund, and has a daemon look at it that has read the agenda before `meanwhile` is done
/// to it, and writes after that; answers another session.
async fn looked_at_while(meanwhile: &str) -> (Ledger, Client) {
    let ledger = Ledger::new().await;
    let orphan = message(&follow_up("refund", &transfer("a", "b", 100), None));
    let parked = ledger.answers(&[Submission::of(Arrival(0), &orphan)]).await;
    assert_eq!(parked, [Answer::Waiting(PaymentState::Parked)]);
    let other = ledger.client().await;
    other.batch_execute("BEGIN; LOCK TABLE agenda IN SHARE ROW EXCLUSIVE MODE").await.expect("locked");
    let look = [resumed(&orphan)];
    let looking = ledger.answers(&look);
    let meanwhile = async {
        ledger.waits_for_a_lock().await;
        other.batch_execute(&format!("{meanwhile}; COMMIT")).await.expect("meanwhile");
    };
    let (looked, ()) = tokio::join!(looking, meanwhile);
    assert_eq!(looked, [Answer::StillWaiting]);
    (ledger, other)
}

#[tokio::test]
async fn a_task_that_another_daemon_has_applied_meanwhile_is_not_put_on_the_agenda_again() {
    let (_ledger, other) = looked_at_while("DELETE FROM agenda").await;
    assert_eq!(get::<i64>(&other, "SELECT count(*) FROM agenda", &[]).await, 0);
}

#[tokio::test]
async fn a_task_that_was_woken_after_it_was_looked_at_is_looked_at_again_at_once() {
    let woken = "UPDATE agenda SET due_at = clock_timestamp(), woken = woken + 1";
    let (ledger, _other) = looked_at_while(woken).await;
    assert_eq!(ledger.store.due(10).await.expect("what is due").tasks.len(), 1);
}

/// Has `a` pay `b` after a payment between two other accounts, which is committed while the first
/// waits for the locks of its own.
async fn overtaken_by_what_it_waits_for(resumes: bool) {
    let ledger = Ledger::new().await;
    ledger.settle(&["c", "d"].map(opening)).await;
    let awaited = transfer("c", "d", 100);
    let waiting = message(&transfer("a", "b", 100).with("after", awaited.id.to_string()));
    let commit = async |resumes| ledger.answers(&[Submission { resumes, ..resumed(&waiting) }]).await;
    if resumes {
        assert_eq!(commit(false).await, [Answer::Waiting(PaymentState::Parked)]);
    }
    let other = ledger.client().await;
    other.batch_execute("BEGIN; SELECT FROM account WHERE name = 'a' FOR UPDATE").await.expect("locked");
    let overtaking = async {
        ledger.waits_for_a_lock().await;
        ledger.settle(&[message(&awaited)]).await;
        other.batch_execute("COMMIT").await.expect("unlocked");
    };
    let (answers, ()) = tokio::join!(Box::pin(commit(resumes)), Box::pin(overtaking));
    assert!(matches!(answers[..], [Answer::Waiting(PaymentState::Parked) | Answer::StillWaiting]), "{answers:?}");
    assert_eq!(ledger.store.due(10).await.expect("what is due").tasks.len(), 1, "it is to be looked at at once");
    assert_eq!(commit(true).await, [Answer::Settled]);
}

#[tokio::test]
async fn a_task_that_is_parked_while_what_it_waits_for_is_committed_is_looked_at_again_at_once() {
    overtaken_by_what_it_waits_for(false).await;
}

#[tokio::test]
async fn a_parked_task_that_is_looked_at_while_what_it_waits_for_is_committed_is_looked_at_again_at_once() {
    overtaken_by_what_it_waits_for(true).await;
}

#[tokio::test]
async fn a_scheduled_task_that_is_looked_at_too_early_goes_on_waiting_and_tells_nobody() {
    let ledger = Ledger::new().await;
    let payment = transfer("a", "b", 100).with("execute_at", "2999-01-01T00:00:00Z");
    let later = message(&payment);
    let scheduled = ledger.answers(&[Submission::of(Arrival(0), &later)]).await;
    assert_eq!(scheduled, [Answer::Waiting(PaymentState::Scheduled)]);
    let looked = ledger.commit(&[resumed(&later)]).await.expect("committed");
    assert_eq!(looked.answers, [Answer::StillWaiting]);
    assert!(looked.event_batch.is_none(), "it was told already");
    let query = "SELECT version, (SELECT count(*) FROM transition) FROM payment WHERE id = $1";
    let row = ledger.client().await.query_one(query, &[&payment.id]).await.expect("a payment");
    assert_eq!((row.get(0), row.get(1)), (1, 0_i64));
}

#[tokio::test]
async fn a_session_that_has_lost_its_settings_commits_nothing_and_is_not_used_again() {
    let ledger = Ledger::new().await;
    for (count, loses) in
        (1..).zip(["RESET ALL", "SET synchronous_commit = off", "SET settled.session = 'another'", "DISCARD ALL"])
    {
        // The only one there is.
        ledger.pool.get().await.expect("a session").batch_execute(loses).await.expect("lost");
        let messages = [payment()];
        let refused = ledger.commit(&submissions(&messages)).await;
        let Err(StoreError::Unavailable(reason)) = refused else { panic!("{loses}: {refused:?}") };
        assert!(reason.contains("the session's settings were lost"), "{reason}");
        assert_eq!(ledger.payments().await, count - 1, "after {loses}");
        ledger.settle(&messages).await;
    }
}

#[tokio::test]
async fn a_connection_on_which_a_commit_was_given_up_is_not_used_again() {
    let ledger = Ledger::new().await;
    let other = ledger.client().await;
    other.batch_execute("BEGIN; SELECT FROM account WHERE name = 'a' FOR UPDATE").await.expect("locked");
    let (messages, before) = ([payment()], ledger.pool.status().size);
    ledger.give_up_at_a_lock(ledger.store.commit(&submissions(&messages), &[], &NonePending, true)).await;
    assert_eq!(ledger.pool.status().size, before - 1, "it is in the middle of a transaction");
    other.batch_execute("COMMIT").await.expect("unlocked");
    ledger.settle(&messages).await;
    assert_eq!(ledger.payments().await, 1);
}
