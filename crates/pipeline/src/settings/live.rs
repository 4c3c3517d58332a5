//! Settings that a reload replaces while the daemon runs.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

/// A value that a reload may replace. Clones share it.
///
/// Whoever decides several things by one version keeps what [`get`](Self::get) returns.
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Live<T> {
    /// Returns the present version. It stays as it is when a reload puts another one in its place.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Puts `value` in place of the present version, for all clones at once.
    pub fn set(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_a_new_version_and_what_was_taken_before_stays() {
        let live = Live::from(1);
        let (clone, before) = (live.clone(), live.get());
        live.set(2);
        assert_eq!((*clone.get(), *before), (2, 1));
    }
}
