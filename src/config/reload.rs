//! What a new configuration changes in a running daemon.

use settled_pipeline::intake::PublisherSettings;
use settled_pipeline::settings::Section;

use super::problem::ConfigError;
use super::{Config, checks, read};

/// The keys whose values differ between two configurations, such as `log.level` or `publisher "shop"`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that a reload changes.
    pub applied: Vec<String>,
    /// Keys that keep their value until a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// Returns this configuration with the values of `new` for all keys that a reload can change, and what differs.
    ///
    /// # Errors
    ///
    /// If values of `new` contradict values that stay as they are until a restart.
    pub fn reloaded(&self, new: &Self) -> Result<(Self, Changes), ConfigError> {
        let (mut reloaded, mut changes) = (self.clone(), Changes::default());
        // Nothing is left out, so that a new section is not forgotten.
        let Self {
            broker,
            authority,
            publishers,
            postgres,
            pipeline,
            payments,
            retry,
            events,
            stream,
            retention,
            reflexes,
            admin,
            log,
            traces,
            file,
            // As it was asked for at the start.
            env_file: _,
            origins,
        } = &mut reloaded;
        changes.take(broker, &new.broker);
        changes.take(authority, &new.authority);
        changes.take(postgres, &new.postgres);
        changes.take(pipeline, &new.pipeline);
        changes.take(payments, &new.payments);
        changes.take(retry, &new.retry);
        changes.take(events, &new.events);
        changes.take(stream, &new.stream);
        changes.take(retention, &new.retention);
        changes.take(reflexes, &new.reflexes);
        changes.take(admin, &new.admin);
        changes.take(log, &new.log);
        changes.take(traces, &new.traces);
        changes.take_publishers(publishers, &new.publishers);
        file.clone_from(&new.file);
        origins.clone_from(&new.origins);
        if !changes.restart.is_empty() {
            reloaded.check_again()?;
        }
        Ok((reloaded, changes))
    }

    /// Runs the checks across keys on a configuration that is made of two.
    fn check_again(&self) -> Result<(), ConfigError> {
        let mut reader = read::Reader { origins: self.origins.clone(), ..read::Reader::default() };
        checks::run(self, &mut reader);
        let mut problems = reader.problems;
        for problem in &mut problems {
            problem.message += "; keys that need a restart still have the values of before";
            problem.remedy = "restart the daemon, which takes all of it: systemctl restart settled".to_owned();
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems)) }
    }
}

impl Changes {
    fn take<S: Section>(&mut self, running: &mut S, new: &S) {
        for change in running.reload(new) {
            let list = if change.applied { &mut self.applied } else { &mut self.restart };
            list.push(format!("{}.{}", S::NAME, change.key));
        }
    }

    /// Takes the tables of all publishers, which are told apart by their names.
    fn take_publishers(&mut self, running: &mut Vec<PublisherSettings>, new: &[PublisherSettings]) {
        let differs = |publisher: &PublisherSettings| {
            let other = new.iter().find(|other| other.name == publisher.name);
            other.is_none_or(|other| !publisher.clone().reload(other).is_empty())
        };
        let is_new = |publisher: &&PublisherSettings| running.iter().all(|other| other.name != publisher.name);
        let changed = running.iter().filter(|publisher| differs(publisher)).chain(new.iter().filter(is_new));
        let names = changed.map(|publisher| format!("{} {:?}", PublisherSettings::NAME, publisher.name));
        self.applied.extend(names.collect::<Vec<_>>());
        *running = new.to_vec();
    }
}
