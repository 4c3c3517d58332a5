//! Each column of each statement gets its own value, and none that belongs to another one.
//!
//! A scenario is written and read by the real store, and compared with a text in which every column stands by its name.
//! Then, for each statement with several parameters or results, any two of one type are mixed up on the wire: the
//! comparison has to notice each pair, or it would not notice the same mistake in the program.

mod proxy;
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use settled_store::{Client, Pool, PostgresGauges, PostgresSettings};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::config::Host;

use self::proxy::{Proxy, Side, Swap};
use self::scenario::Story;

/// What is in the tables after the scenario, and what is read of it, by name. After a change of the scenario,
/// `SETTLED_WRITE_COLUMNS=<path>` writes what was found to a file, to be read line by line.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/whole/store/columns/expected.txt");

struct Bench {
    proxy: Proxy,
    admin: Client,
    settings: PostgresSettings,
    pool: Mutex<Pool>,
    client: Mutex<Client>,
    began: jiff::Timestamp,
}

impl Bench {
    async fn new() -> Self {
        let database = settled_testkit::harness::database(None).await;
        let url = settled_testkit::harness::servers().await.postgres_url();
        let (user, _) = url.rsplit_once('@').expect("a user");
        let server: tokio_postgres::Config = url.parse().expect("a URL");
        let Some(Host::Tcp(host)) = server.get_hosts().first() else { panic!("no TCP") };
        let proxy = Proxy::start((host.clone(), server.get_ports()[0])).await;
        let mut settings = PostgresSettings::default();
        settings.use_url(&format!("{user}@127.0.0.1:{}/{database}", proxy.port)).expect("a URL");
        let admin = settled_testkit::harness::connect(Some(&database)).await;
        let pool = Mutex::new(settled_store::pool(&settings).expect("a pool"));
        let client = Mutex::new(settled_store::connect(&settings).await.expect("a connection"));
        Self { proxy, admin, settings, pool, client, began: jiff::Timestamp::now() }
    }

    async fn reset(&self) {
        // Without triggers. TRUNCATE would have every statement planned again.
        let reset = "SET session_replication_role = replica;
             DELETE FROM account; DELETE FROM payment; DELETE FROM entry; DELETE FROM leg; DELETE FROM hold;
             DELETE FROM transition; DELETE FROM agenda; DELETE FROM dead_letter; DELETE FROM outbox;
             DELETE FROM outbox_discarded; DELETE FROM waiting_count;
             SELECT setval(pg_get_serial_sequence(name, 'id'), 1, false)
               FROM unnest(ARRAY['account', 'outbox', 'dead_letter']) AS t (name);
             UPDATE ledger SET incarnation = '00000000-0000-0000-0000-000000000001'";
        self.admin.batch_execute(reset).await.expect("an empty ledger");
    }

    /// Plays a part of the scenario on what the parts before it have left. Returns what was found, or the error that
    /// ended it.
    async fn play(&self, part: Part, swap: Option<Swap>) -> anyhow::Result<String> {
        self.proxy.swap(swap);
        let pool = &self.pool.lock().await.clone();
        let store = scenario::store(pool, &self.settings);
        let gauges = PostgresGauges::new(self.settings.clone())?;
        let mut story = Story::new(self.began);
        match part {
            Part::Write => {
                self.reset().await;
                scenario::write(pool, &store, &mut story).await?;
            }
            Part::Look => scenario::look(&gauges, &mut *self.client().await?, &mut story).await?,
            Part::Audit => scenario::audit(&mut *self.client().await?, &mut story).await?,
            Part::Change => scenario::change(&gauges, pool, &*self.client().await?, &mut story).await?,
        }
        Ok(story.text)
    }

    /// A connection as the command line has it, which is not closed in between.
    async fn client(&self) -> anyhow::Result<MutexGuard<'_, Client>> {
        let mut client = self.client.lock().await;
        if client.is_closed() {
            *client = settled_store::connect(&self.settings).await?;
        }
        Ok(client)
    }

    /// Whether a part of the scenario finds something else, or fails, with these two columns mixed up.
    async fn notices(&self, part: Part, swap: &Swap) -> bool {
        if part == Part::Change {
            self.play(Part::Write, None).await.expect("the scenario");
        }
        // A value where there has to be another one, or none, can be a panic.
        let found = AssertUnwindSafe(self.play(part, Some(swap.clone()))).catch_unwind().await;
        if !matches!(found, Ok(Ok(_))) {
            // A connection may be in the middle of something.
            let mut pool = self.pool.lock().await;
            pool.close();
            *pool = settled_store::pool(&self.settings).expect("a pool");
        }
        let is_noticed = !matches!(&found, Ok(Ok(found)) if *found == part.expected());
        assert!(!is_noticed || self.proxy.made() > 0, "it is something else that was found: {swap:?}");
        is_noticed
    }
}

/// The parts of the scenario, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Write,
    Look,
    Audit,
    Change,
}

impl Part {
    const ALL: [Self; 4] = [Self::Write, Self::Look, Self::Audit, Self::Change];

    /// What it finds.
    fn expected(self) -> String {
        let expected = std::fs::read_to_string(EXPECTED).expect("a text");
        expected.split("====\n").nth(self as usize).unwrap_or_default().to_owned()
    }
}

/// Two columns of one type, each pair once.
fn pairs<T: PartialEq>(types: &[T]) -> Vec<(usize, usize)> {
    let places = 0..types.len();
    let others = places.clone().flat_map(|one| (one + 1..types.len()).map(move |other| (one, other)));
    others.filter(|(one, other)| types[*one] == types[*other]).collect()
}

#[tokio::test]
async fn no_two_columns_of_a_statement_can_be_mixed_up_without_being_noticed() {
    let bench = Bench::new().await;
    let (mut parts, mut used_in) = (Vec::new(), BTreeMap::<String, Vec<Part>>::new());
    for part in Part::ALL {
        parts.push(bench.play(part, None).await.expect("the scenario"));
        for statement in bench.proxy.executed() {
            used_in.entry(statement).or_default().push(part);
        }
    }
    if let Some(path) = std::env::var_os("SETTLED_WRITE_COLUMNS") {
        std::fs::write(path, parts.join("====\n")).expect("a file");
    }
    for (part, found) in Part::ALL.into_iter().zip(&parts) {
        let expected = part.expected();
        let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        assert!(*found == expected, "found and expected differ in {part:?}, first in {differs:?}");
    }

    let (mut statements, mut tried, mut open) = (BTreeSet::new(), [0, 0], Vec::new());
    for statement in used_in.keys() {
        let prepared = bench.admin.prepare(statement).await.expect("a statement");
        let parameters = pairs(prepared.params()).into_iter().map(|pair| (Side::Parameters, pair));
        let types: Vec<_> = prepared.columns().iter().map(|column| column.type_().clone()).collect();
        let results = pairs(&types).into_iter().map(|pair| (Side::Results, pair));
        for (side, pair) in parameters.chain(results) {
            statements.insert(statement);
            tried[side as usize] += 1;
            open.push(Swap { statement: statement.clone(), side, pair });
        }
    }
    // What only looks can do so again and again at what was written once.
    bench.play(Part::Write, None).await.expect("the scenario");
    for part in [Part::Look, Part::Audit, Part::Write, Part::Change] {
        let mut unnoticed = Vec::new();
        for swap in open {
            let is_used = used_in[&swap.statement].contains(&part);
            if !(is_used && bench.notices(part, &swap).await) {
                unnoticed.push(swap);
            }
        }
        open = unnoticed;
    }
    let [parameters, results] = tried;
    println!("{} statements, {parameters} pairs of parameters, {results} pairs of results", statements.len());
    let unnoticed: Vec<String> = open.iter().map(|swap| format!("{swap:?}")).collect();
    assert!(unnoticed.is_empty(), "{} swaps were not noticed:\n{}", unnoticed.len(), unnoticed.join("\n"));
}
