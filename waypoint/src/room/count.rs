//! How many of something are under way in one thread. Owns that whatever was counted in is counted out again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

/// One of them, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct One(Arc<AtomicUsize>);

impl Count {
    /// How many there are now.
    pub(crate) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub(crate) fn add(&self) -> One {
        self.0.fetch_add(1, Ordering::Relaxed);
        One(Arc::clone(&self.0))
    }

    /// One more, unless there are as many as there may be. Only one thread counts up, so nobody comes between.
    pub(crate) fn add_below(&self, most: usize) -> Option<One> {
        (self.now() < most).then(|| self.add())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_may_be_and_what_is_over_makes_room() {
        let count = Count::default();
        let mut all: Vec<One> = std::iter::from_fn(|| count.add_below(3)).take(10).collect();
        assert_eq!((all.len(), count.now()), (3, 3));
        all.pop();
        assert!(count.add_below(3).is_some());
        all.push(count.add());
        all.push(count.add());
        assert_eq!(count.now(), 4);
        drop(all);
        assert_eq!(count.now(), 0);
    }
}
