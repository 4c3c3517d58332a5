//! Maintenance: an operator has the daemon take no more work, finish what it has, and wait.
//!
//! Whatever takes work (intake, the collector, the scheduler) enters first, and is at work until it leaves. Nobody can
//! enter during maintenance, so a daemon in which nobody is at work commits nothing until the maintenance ends.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The switch between work and maintenance. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Maintenance(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    is_on: bool,
    at_work: usize,
}

/// Somebody is at work until this is dropped.
#[derive(Debug)]
pub struct AtWork(Maintenance);

impl Maintenance {
    /// Begins or ends maintenance. Returns false if nothing has changed.
    pub fn set(&self, is_on: bool) -> bool {
        self.0.send_if_modified(|state| std::mem::replace(&mut state.is_on, is_on) != is_on)
    }

    /// Whether nobody may begin to work.
    pub fn is_on(&self) -> bool {
        self.0.borrow().is_on
    }

    /// Whether it is on and everybody has finished their work.
    pub fn is_idle(&self) -> bool {
        let state = self.0.borrow();
        state.is_on && state.at_work == 0
    }

    /// Begins to work. Returns `None` during maintenance.
    pub fn enter(&self) -> Option<AtWork> {
        let mut entered = None;
        self.0.send_if_modified(|state| {
            if !state.is_on {
                state.at_work += 1;
                entered = Some(AtWork(self.clone()));
            }
            // Nobody waits for that.
            false
        });
        entered
    }

    /// Waits until it may begin to work, and begins. Returns `None` if `stop` is cancelled before.
    pub async fn entered(&self, stop: &CancellationToken) -> Option<AtWork> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            if let Some(at_work) = self.enter() {
                return Some(at_work);
            }
            stop.run_until_cancelled(self.becomes(false)).await?;
        }
    }

    /// Waits until maintenance begins.
    pub async fn begins(&self) {
        self.becomes(true).await;
    }

    async fn becomes(&self, is_on: bool) {
        // The sender can't be dropped: `self` owns it.
        let _ = self.0.subscribe().wait_for(|state| state.is_on == is_on).await;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|state| {
            state.at_work -= 1;
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_idle_when_everybody_has_finished_and_nobody_begins_until_it_ends() {
        let (maintenance, stop) = (Maintenance::default(), CancellationToken::new());
        let at_work = maintenance.entered(&stop).await.expect("it may work");
        assert!(maintenance.set(true) && !maintenance.set(true));
        maintenance.begins().await;
        assert!(maintenance.is_on() && !maintenance.is_idle() && maintenance.enter().is_none());
        drop(at_work);
        assert!(maintenance.is_idle());
        let waiting = tokio::spawn({
            let (maintenance, stop) = (maintenance.clone(), stop.clone());
            async move { maintenance.entered(&stop).await }
        });
        tokio::task::yield_now().await;
        maintenance.set(false);
        let at_work = waiting.await.expect("no panic").expect("it may work again");
        assert!(!maintenance.is_idle() && maintenance.set(true) && !maintenance.is_idle());
        drop(at_work);
        stop.cancel();
        assert!(maintenance.is_idle() && maintenance.entered(&stop).await.is_none());
    }
}
