//! `chaos`: which faults strike, and under which load.

use std::io;

use clap::Args;

use super::load::LoadArgs;
use super::place::{ServersArgs, refuse_partitions};
use super::refuse;
use crate::chaos::{Job, Options};
use crate::load::Pace;
use crate::load::schedule::Limit;
use crate::plan::Mix;
use crate::rig::{Blueprint, Place};

#[derive(Clone, Debug, Args)]
pub(crate) struct ChaosArgs {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    servers: ServersArgs,
}

impl ChaosArgs {
    /// Returns what it asks for; ends the program with a message where that makes no sense.
    pub(crate) fn job(&self) -> io::Result<Job> {
        let options = self.options.clone();
        let pace = (Pace::constant(options.tempo.rate), Limit::Time(options.duration), 0);
        let order = self.load.order(Mix::FAULTY, pace).unwrap_or_else(|error| refuse(&error));
        if !order.subscriber.is_live() {
            refuse("--subscriber: receives events while things break, expected live or stream");
        }
        if order.publishers != 1 {
            refuse("--publishers: one system publishes here, expected 1");
        }
        let blueprint = Blueprint { streams: order.subscriber.reads_a_stream(), ..self.servers.blueprint()? };
        refuse_partitions(&blueprint);
        let struck = options.faults.iter().find_map(|wanted| wanted.is_of_own_servers());
        if let Some(fault) = struck.filter(|_| blueprint.place != Place::Private) {
            refuse(&format!("--faults {fault}: strikes servers that are somebody else's, expected no --amqp-uri"));
        }
        if let Some(fault) = options.faults.iter().find_map(|wanted| wanted.misses(blueprint.streams)) {
            let (found, expected) = if blueprint.streams { ("a stream", "live") } else { ("the exchange", "stream") };
            refuse(&format!("--faults {fault}: events go to {found}, expected --subscriber {expected}"));
        }
        Ok(Job { options, order, blueprint })
    }
}
