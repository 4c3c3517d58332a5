//! The `settled-loadtest` binary.

mod books;
mod broker;
mod plan;
mod progress;
mod publisher;
mod rig;
mod scenario;
mod sink;

use clap::Parser;
use std::path::PathBuf;

#[derive(Debug, Parser)]
struct Args {
    what: String,
    #[arg(long, default_value_t = 200_000)]
    count: usize,
    #[arg(long, default_value_t = 1000)]
    accounts: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value = "uniform")]
    skew: plan::Skew,
    #[arg(long)]
    mix: Option<plan::Mix>,
    #[arg(long, default_value = "classic")]
    event_queue: sink::EventQueue,
    #[arg(long)]
    daemon: Option<PathBuf>,
    #[arg(long = "set")]
    set: Vec<rig::Setting>,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let demo = args.what == "demo";
    let mix = args.mix.unwrap_or(if demo { plan::Mix::Faulty } else { plan::Mix::Plain });
    let plan = plan::Plan::generate(&plan::Shape {
        count: args.count,
        customers: args.accounts,
        skew: args.skew,
        mix,
        seed: args.seed,
    });
    let binary = args.daemon.unwrap_or(std::env::current_exe()?.with_file_name("settled"));
    let rig = rig::Rig::start(&binary, &args.set).await?;
    let evidence = if demo {
        scenario::demo(&rig, &plan, args.event_queue).await
    } else {
        scenario::drain(&rig, &plan, args.event_queue).await
    };
    if evidence.is_err() {
        println!("{}", rig.log_tail());
    }
    let ended = rig.end().await;
    let evidence = evidence?;
    ended?;
    let (first, last) = evidence.committed(&plan.load).unwrap_or_default();
    let n = plan.load.iter().filter(|m| m.is_decided()).count() as f64;
    println!("committed {:.0}/s", n / ((last - first) as f64 / 1e6));
    println!("events    {:.0}/s", n / ((evidence.received.last_at - first) as f64 / 1e6));
    println!("expected  {:?}", plan.expected() == evidence.counted);
    for e in &evidence.daemons {
        println!("daemon {} cpu {:.2} s rss {} MB", e.status, e.usage.cpu_seconds, e.usage.max_rss_bytes / 1_000_000);
    }
    println!(
        "audit {:?} waiting {} dead {} events {}/{}",
        evidence.audit.map(|a| a["passed"].clone()),
        evidence.waiting,
        evidence.given_up,
        evidence.received.kinds.len(),
        evidence.received.total
    );
    Ok(())
}
