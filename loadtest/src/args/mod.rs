//! The command line.

mod chaos;
mod load;
mod place;
mod speed;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::load::Pace;
use crate::load::schedule::Limit;
use crate::plan::Mix;
use crate::scenario::{Job, Output, SearchRange, Subscriber};
use crate::values;
use chaos::ChaosArgs;
use load::{LoadArgs, PaceArgs};
use place::PlaceArgs;
pub(crate) use place::settled_path;
pub(crate) use speed::{FloorArgs, SpeedArgs};

/// Puts the real settled under load, and judges what came of every message
#[derive(Debug, Parser)]
#[command(name = "settled-loadtest", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 passed, 1 failed, 2 usage, 130 interrupted.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A run, under load.
    #[command(flatten)]
    Load(Verb),
    /// Break servers, daemons and connections under load, and check that nothing is lost or doubled
    Chaos(Box<ChaosArgs>),
    /// Measure what PostgreSQL alone takes for the daemon's batches: no daemon can be faster
    Floor(FloorArgs),
    /// Measure the speed of settled against references, in turns, and say which targets hold
    Speed(SpeedArgs),
    /// Show the results of two runs side by side, with ratios
    Compare {
        /// The results folder of the first run
        #[arg(value_name = "A")]
        a: PathBuf,
        /// The results folder of the second run
        #[arg(value_name = "B")]
        b: PathBuf,
        /// Print the comparison as JSON
        #[arg(long)]
        json: bool,
    },
    /// The consumer that runs in the daemon's place with --subject baseline
    #[command(hide = true)]
    BaselineConsumer {
        #[command(subcommand)]
        verb: ConsumerVerb,
    },
}

/// As the daemon is started, so is what runs in its place.
#[derive(Debug, Subcommand)]
pub(crate) enum ConsumerVerb {
    /// Consume until SIGTERM
    Run {
        /// The daemon's configuration, of which only what it needs is read
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Publish tasks at a rate to running daemons, and check what came of each
    Run(Box<RunArgs>),
    /// Publish a backlog while no daemon runs, then measure how fast one catches up
    Drain(Box<DrainArgs>),
    /// Find the highest rate that keeps an objective
    FindMax(Box<FindMaxArgs>),
    /// Publish tasks of every kind as fast as can be, and check what came of each
    Demo(Box<DemoArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// How many messages to publish
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = values::messages)]
    count: usize,
    /// Payments that the accounts have made before, at least; they are written at once. Even with 0
    /// the ledger is vacuumed and written to disk before the load
    #[arg(long, value_name = "N", conflicts_with = "amqp_uri")]
    ledger: Option<usize>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many messages to publish
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = values::messages)]
    count: usize,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FindMaxArgs {
    #[command(flatten)]
    range: SearchRange,
    /// How long each rate is held
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    step_duration: Duration,
    #[command(flatten)]
    common: CommonArgs,
}

/// What all runs have in common.
#[derive(Debug, Args)]
struct CommonArgs {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    output: Output,
}

impl Verb {
    /// What it asks for; ends the program with a message where that makes no sense.
    pub(crate) fn job(&self) -> Result<Job> {
        let (verb, common, usual, pace, search) = match self {
            Self::Run(args) => ("run", &args.common, Mix::default(), args.pace.resolve(), None),
            Self::Drain(args) => ("drain", &args.common, Mix::default(), at_once(args.count), None),
            Self::Demo(args) => ("demo", &args.common, Mix::FAULTY, at_once(args.count), None),
            Self::FindMax(args) => {
                let range = args.range;
                if range.to < range.from {
                    refuse("--to: expected at least what --from is");
                }
                let first = (Pace::constant(range.from), Limit::Time(args.step_duration), 0);
                ("find-max", &args.common, Mix::default(), first, Some(range))
            }
        };
        let CommonArgs { load, place, output } = common;
        let mut order = load.order(usual, pace).unwrap_or_else(|error| refuse(&error));
        if !place.keeps_the_contract() {
            order.subscriber = Subscriber::None;
        }
        place.refuse_what_it_cannot(verb, &order, search.is_some());
        if search.is_some() && output.slo.is_none() {
            refuse("--slo is missing: expected what has to hold, such as p99<25ms");
        }
        let mut measured = vec!["commit", "confirm"];
        if order.subscriber.is_live() {
            measured.push("event");
        }
        if verb == "drain" {
            measured.clear();
        }
        if let Some(term) = output.slo.as_ref().and_then(|slo| slo.needs_other_than(&measured)) {
            refuse(&format!("--slo: term `{term}` is about a latency that this run does not measure"));
        }
        if let Self::Drain(args) = self {
            order.ledger = args.ledger;
        }
        let blueprint = place.blueprint(order.subscriber)?;
        place::refuse_partitions(&blueprint);
        Ok(Job { verb, order, blueprint, output: output.clone(), search })
    }
}

/// So many messages, as fast as the broker confirms.
fn at_once(count: usize) -> (Pace, Limit, u32) {
    (Pace::Closed { window: WINDOW }, Limit::Count(count), 0)
}

const WINDOW: usize = 2000;

/// Ends the program as clap does for what it finds itself.
pub(crate) fn refuse(message: &str) -> ! {
    Cli::command().error(ErrorKind::ArgumentConflict, message).exit()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::plan::Scheduled;

    fn job(line: &str) -> Job {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let cli = Cli::try_parse_from(std::iter::once("settled-loadtest").chain(words)).expect(line);
        match cli.command {
            Command::Load(verb) => verb.job().expect(line),
            _ => panic!("{line} is no run"),
        }
    }

    fn refused(line: &str) -> String {
        Cli::try_parse_from(std::iter::once("settled-loadtest").chain(line.split(' '))).expect_err(line).to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_is_open_unless_its_rate_is_the_most_there_is() {
        use crate::load::schedule::{Arrival, Curve};
        let open = |curve, arrival| Pace::Open { curve, arrival };
        let order = job("run --rate 300 --arrival poisson --duration 3s").order;
        assert_eq!(order.pace, open(Curve::Constant(300.0), Arrival::Poisson));
        assert_eq!(order.limit, Limit::Time(Duration::from_secs(3)));
        let order = job("run --ramp 0..500/4s").order;
        assert_eq!(order.pace, open(Curve::Ramp { from: 0.0, to: 500.0, over: 4.0 }, Arrival::Constant));
        assert_eq!(order.limit, Limit::Time(Duration::from_secs(4)));
        let order = job("run --rate max --window 50 --count 10").order;
        assert_eq!((order.pace, order.limit), (Pace::Closed { window: 50 }, Limit::Count(10)));
    }

    #[test]
    fn a_demo_has_some_of_everything_unless_told_otherwise() {
        assert_eq!(job("demo").order.shape.mix, Mix::FAULTY);
        assert_eq!(job("demo --duplicates 5%").order.shape.mix, Mix { duplicate: Some(0.05), ..Mix::FAULTY });
        assert_eq!(job("run").order.shape.mix, Mix::default());
    }

    #[test]
    fn payments_are_transfers_for_at_once_unless_they_are_given_a_life() {
        assert!(job("run").order.shape.life.is_plain() && job("drain --out-of-order 10%").order.shape.life.is_plain());
        let life = job("drain --mix transfer:3,legs:4:1 --out-of-order 10% --scheduled 5%:30s").order.shape.life;
        assert_eq!(life.kinds.by_name(), [("legs:4".to_owned(), 0.25), ("transfer".to_owned(), 0.75)].into());
        let Scheduled { share, within } = life.scheduled;
        assert_eq!((life.out_of_order, share, within), (0.1, 0.05, Duration::from_secs(30)));
        assert!(!job("run --scheduled 5%").order.shape.life.is_plain());
    }

    #[test]
    fn a_subject_without_events_has_no_subscriber() {
        assert_eq!(job("run --subject baseline").order.subscriber, Subscriber::None);
        assert_eq!(job("drain --subscriber late").order.subscriber, Subscriber::Late);
    }

    #[test]
    fn daemons_stream_their_events_to_a_subscriber_that_reads_a_stream() {
        for (line, streams, late) in [
            ("drain --subscriber stream-late", true, true),
            ("run --subscriber stream", true, false),
            ("drain --subscriber late", false, true),
            ("drain --subject baseline --subscriber stream", false, false),
        ] {
            let Job { order, blueprint, .. } = job(line);
            assert_eq!((blueprint.streams, order.subscriber.is_late()), (streams, late), "{line}");
        }
    }

    #[test]
    fn a_subscriber_reads_one_stream() {
        let mut blueprint = job("run --subscriber stream --set events.partitions=1").blueprint;
        assert!(!place::has_partitions(&blueprint));
        blueprint.settings.push("events.partitions=3".parse().expect("a setting"));
        assert!(place::has_partitions(&blueprint));
        assert!(!place::has_partitions(&job("run --set events.partitions=3").blueprint));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, expected) in [
            ("run --rate 5 --ramp 0..5/1s", "cannot be used with"),
            ("run --duration 3s --count 5", "cannot be used with"),
            ("run --amqp-uri amqp://a", "--postgres-url"),
            ("run --no-spawn", "--amqp-uri"),
            ("run --admin 127.0.0.1:1", "--no-spawn"),
            ("drain --ledger 5 --amqp-uri amqp://a --postgres-url postgresql://b", "cannot be used with"),
            ("run --duplicates 200%", "such as 1% or 0.01"),
            ("run --mix transfer:1,capture:1", "authorize-capture-parts"),
            ("run --out-of-order 2", "such as 1% or 0.01"),
            ("run --scheduled 5%:5", "10%:30s"),
            ("run --slo p95<3ms", "unknown measure `p95`"),
            ("run --payload-bytes 70000", "25000"),
        ] {
            assert!(refused(line).contains(expected), "{line}: {}", refused(line));
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

        #[test]
        fn any_value_of_any_option_is_read_or_refused(
            place in 0..1000_usize,
            value in "[0-9a-z%:.,/<>=+_-]{0,16}|([0-9]{1,20}(ms|s|m|%|/s|[.]{1,2}|:|e)?){1,3}|\\PC{0,16}",
        ) {
            let run = Cli::command();
            let run = run.find_subcommand("run").expect("a verb");
            // A host's name would be looked up.
            let takes_one = |option: &&clap::Arg| option.get_action().takes_values() && option.get_id() != "admin";
            let options: Vec<&str> = run.get_opts().filter(takes_one).filter_map(|option| option.get_long()).collect();
            let option = options[place % options.len()];
            if let Err(error) = Cli::try_parse_from(["settled-loadtest", "run", &format!("--{option}={value}")]) {
                proptest::prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
