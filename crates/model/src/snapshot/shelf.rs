//! Two shapes of persistent index: a few objects under one key, best first; and many, by their own key.
//! Owns that an emptied key leaves nothing behind.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

/// A few objects under each key, ordered; made for keys that nearly always hold one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Shelf<K: Eq + Hash, T>(HashTrieMapSync<K, Vec<Arc<T>>>)
where
    T: PartialEq;

impl<K: Eq + Hash + Clone, T: PartialEq> Default for Shelf<K, T> {
    fn default() -> Self {
        Self(HashTrieMapSync::new_sync())
    }
}

impl<K: Eq + Hash + Clone, T: PartialEq> Shelf<K, T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn best(&self, key: &K) -> Option<&Arc<T>> {
        self.all(key).first()
    }

    pub(super) fn all<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> &[Arc<T>]
    where
        K: Borrow<Q>,
    {
        // Most are asked for each request and hold nothing: a key costs more to hash than that to see.
        if self.0.is_empty() {
            return &[];
        }
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Puts an item where its rank belongs. Put twice under one key (an address given twice), it is there once.
    pub(super) fn put<R: Ord>(&mut self, key: K, item: &Arc<T>, rank: impl Fn(&T) -> R) {
        let Some(row) = self.0.get_mut(&key) else {
            self.0.insert_mut(key, vec![Arc::clone(item)]);
            return;
        };
        if row.iter().any(|other| Arc::ptr_eq(other, item)) {
            return;
        }
        let wanted = rank(item);
        let at = row.partition_point(|other| rank(other) < wanted);
        row.insert(at, Arc::clone(item));
    }

    pub(super) fn take(&mut self, key: &K, is: impl Fn(&T) -> bool) {
        let Some(row) = self.0.get_mut(key) else { return };
        row.retain(|item| !is(item));
        if row.is_empty() {
            self.0.remove_mut(key);
        }
    }
}

/// Many objects under each key, each with a key of its own, in that key's order.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Family<K: Eq + Hash, M: Ord, T>(HashTrieMapSync<K, RedBlackTreeMapSync<M, Arc<T>>>)
where
    T: PartialEq;

impl<K: Eq + Hash + Clone, M: Ord, T: PartialEq> Default for Family<K, M, T> {
    fn default() -> Self {
        Self(HashTrieMapSync::new_sync())
    }
}

impl<K: Eq + Hash + Clone, M: Ord + Clone, T: PartialEq> Family<K, M, T> {
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    pub(super) fn members<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a Arc<T>> + use<'a, K, M, T> {
        self.0.get(key).into_iter().flat_map(RedBlackTreeMapSync::values)
    }

    pub(super) fn member(&self, key: &K, name: &M) -> Option<&Arc<T>> {
        self.0.get(key)?.get(name)
    }

    pub(super) fn put(&mut self, key: &K, name: M, item: &Arc<T>) {
        if let Some(members) = self.0.get_mut(key) {
            members.insert_mut(name, Arc::clone(item));
        } else {
            let mut members = RedBlackTreeMapSync::new_sync();
            members.insert_mut(name, Arc::clone(item));
            self.0.insert_mut(key.clone(), members);
        }
    }

    pub(super) fn take(&mut self, key: &K, name: &M) {
        let Some(members) = self.0.get_mut(key) else { return };
        members.remove_mut(name);
        if members.is_empty() {
            self.0.remove_mut(key);
        }
    }
}
