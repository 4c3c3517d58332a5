//! The guardian: a process whose only purpose is that no server and no directory is left
//! behind, however the process that wanted them ends.
//!
//! It holds both servers as children and ends when its standard input does, which the kernel
//! closes even for a parent that was killed. If the guardian itself is killed, the kernel kills
//! the servers (they are started with a parent-death signal); only the directory stays then.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::error::DevError;
use super::orphans;
use super::place::{Place, Ports};
use super::programs::Programs;
use super::rabbitmq::{RabbitMq, RabbitPorts};
use super::wire::{Answer, Order, Status};
use super::{ServersOptions, StopMode};

/// Runs the broker and the databases that `prepare` makes, for which it gets two free ports; the broker stays stopped
/// unless it is `with_broker`. It runs them until standard input ends or a signal asks for the end, then stops them
/// and removes their directory unless it is to be kept.
///
/// Standard output carries one JSON object a line: where the servers are, or why they could not
/// be started; then an answer to each order read from standard input. The exit code is a
/// failure if the servers could not be started or not be removed, and the reason was told.
///
/// To be run on the main thread, as by `#[tokio::main]`: the kernel kills the servers when the
/// thread that started them ends.
pub async fn run<D: Databases>(
    options: &ServersOptions,
    with_broker: bool,
    prepare: impl AsyncFnOnce(&Programs, &Place, [u16; 2]) -> Result<D, DevError>,
) -> ExitCode {
    let (lines, end_of_input) = listen();
    let asked = asked_to_end();
    let ended = async {
        tokio::select! {
            _ = end_of_input => {}
            () = asked => {}
        }
    };
    match guard((options, with_broker), prepare, lines, ended).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            answer(&Err(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

async fn guard<D: Databases>(
    (options, with_broker): (&ServersOptions, bool),
    prepare: impl AsyncFnOnce(&Programs, &Place, [u16; 2]) -> Result<D, DevError>,
    lines: mpsc::UnboundedReceiver<String>,
    ended: impl Future<Output = ()>,
) -> Result<(), DevError> {
    let programs = Programs::find()?;
    let child_ended = orphans::adopt()?;
    let place = Place::open(options)?;
    let served = match Servers::prepare(&programs, &place, prepare).await {
        Ok(mut servers) => {
            let served = tokio::select! {
                biased;
                () = ended => Ok(()),
                served = servers.serve(&place, with_broker, lines, child_ended) => served,
            };
            let stopped = servers.end(place.is_kept()).await;
            served.and(stopped)
        }
        Err(error) => Err(error),
    };
    served.and(orphans::all_ended().await).and(place.clear())
}

/// What the guardian keeps beside RabbitMQ: a PostgreSQL, or several that belong together.
#[expect(async_fn_in_trait, reason = "all of it happens on the guardian's one thread")]
pub trait Databases {
    /// Connection URL of the database `settled`.
    fn url(&self) -> String;

    /// Process id of the PostgreSQL that takes writes, if it runs.
    fn pid(&self) -> Option<u32>;

    /// Process ids of the others that run.
    fn other_pids(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Starts the one that takes writes, unless it runs, and waits until its database can be used.
    async fn start(&mut self) -> Result<(), DevError>;

    /// Starts all of them, and waits until they are ready.
    async fn start_all(&mut self) -> Result<(), DevError> {
        self.start().await
    }

    /// Stops the one that takes writes. Does nothing if it does not run.
    async fn stop(&mut self, mode: StopMode) -> Result<(), DevError>;

    /// Stops all of them.
    async fn stop_all(&mut self, mode: StopMode) -> Result<(), DevError> {
        self.stop(mode).await
    }

    /// Gives back the shared memory that killed servers have left.
    async fn free_shared_memory(&self);

    /// Carries out an order that no other database knows.
    async fn obey(&mut self, words: &str) -> Result<(), DevError> {
        Err(DevError::Guardian(format!("unknown order {words:?}")))
    }
}

struct Servers<D> {
    _ports: Ports<6>,
    postgres: D,
    rabbitmq: RabbitMq,
}

impl<D: Databases> Servers<D> {
    async fn prepare(
        programs: &Programs,
        place: &Place,
        prepare: impl AsyncFnOnce(&Programs, &Place, [u16; 2]) -> Result<D, DevError>,
    ) -> Result<Self, DevError> {
        let ports = Ports::claim()?;
        let [first, second, amqp, stream, distribution, epmd] = ports.numbers;
        let rabbit_ports = RabbitPorts { amqp, stream, distribution, epmd };
        Ok(Self {
            _ports: ports,
            postgres: prepare(programs, place, [first, second]).await?,
            rabbitmq: RabbitMq::prepare(programs, place.room("rabbitmq")?, rabbit_ports)?,
        })
    }

    /// Starts what is wanted, says where they are, and does as it is told until there are no more lines.
    async fn serve(
        &mut self,
        place: &Place,
        with_broker: bool,
        mut lines: mpsc::UnboundedReceiver<String>,
        mut child_ended: Signal,
    ) -> Result<(), DevError> {
        let broker = async { if with_broker { self.rabbitmq.start().await } else { Ok(()) } };
        // Joined, not spawned: every process has to be started by this thread.
        tokio::try_join!(self.postgres.start_all(), broker)?;
        answer(&Ok(self.status(place)));
        loop {
            // Between two orders, when the servers are our only own children.
            orphans::reap(&self.pids());
            let line = tokio::select! {
                biased;
                line = lines.recv() => line,
                _ = child_ended.recv() => continue,
            };
            let Some(line) = line else { return Ok(()) };
            let done = match serde_json::from_str(&line) {
                Ok(order) => self.obey(order).await,
                Err(error) => Err(DevError::Guardian(format!("no order {line:?}: {error}"))),
            };
            answer(&done.map(|()| self.status(place)).map_err(|error| error.to_string()));
        }
    }

    /// Process ids of all servers that were started and not waited for since.
    fn pids(&self) -> Vec<u32> {
        let databases = self.postgres.pid().into_iter().chain(self.postgres.other_pids());
        databases.chain(self.rabbitmq.pids()).collect()
    }

    async fn obey(&mut self, order: Order) -> Result<(), DevError> {
        match order {
            Order::StopPostgres(mode) => self.postgres.stop(mode).await,
            Order::StartPostgres => self.postgres.start().await,
            Order::StopRabbitmq => self.rabbitmq.stop().await,
            Order::KillRabbitmq => self.rabbitmq.kill().await,
            Order::StartRabbitmq => self.rabbitmq.start().await,
            Order::Databases(words) => self.postgres.obey(&words).await,
        }
    }

    /// Stops both: in order if their data is kept, else as fast as it goes without leaving
    /// anything outside the directory (which SIGKILL does to PostgreSQL's shared memory).
    async fn end(&mut self, kept: bool) -> Result<(), DevError> {
        let (postgres, rabbitmq) = if kept {
            tokio::join!(self.postgres.stop_all(StopMode::Fast), self.rabbitmq.stop())
        } else {
            tokio::join!(self.postgres.stop_all(StopMode::Immediate), self.rabbitmq.kill())
        };
        let epmd = self.rabbitmq.kill_epmd().await;
        if !kept {
            self.postgres.free_shared_memory().await;
        }
        postgres.and(rabbitmq).and(epmd)
    }

    fn status(&self, place: &Place) -> Status {
        Status {
            amqp_uri: self.rabbitmq.uri(),
            stream_port: self.rabbitmq.stream_port(),
            postgres_url: self.postgres.url(),
            dir: place.dir().to_owned(),
            postgres_pid: self.postgres.pid(),
            rabbitmq_pid: self.rabbitmq.pid(),
            other_pids: self.postgres.other_pids(),
        }
    }
}

/// The lines of standard input, and the news of its end, which must not wait behind a command.
///
/// A thread reads, because a read of tokio's standard input keeps the runtime from ending.
fn listen() -> (mpsc::UnboundedReceiver<String>, oneshot::Receiver<()>) {
    let (line_found, lines) = mpsc::unbounded_channel();
    let (end_found, end) = oneshot::channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let _ = line_found.send(line);
        }
        let _ = end_found.send(());
    });
    (lines, end)
}

/// Ends at the first signal that asks for it. The signals are caught from the call on, not from
/// the first poll. If they cannot be, standard input is left.
fn asked_to_end() -> impl Future<Output = ()> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let caught = kinds.map(signal);
    async move {
        let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = caught else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Writes one line. If nobody reads any more, standard input is about to end too.
fn answer(answer: &Answer) {
    let line = serde_json::to_string(answer).unwrap_or_else(|error| format!(r#"{{"Err":"cannot answer: {error}"}}"#));
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
