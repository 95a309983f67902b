//! A persistent index from a text to the names of resources.

use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use super::Name;

/// From a text to names. The empty text leads nowhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(HashTrieMapSync<Box<str>, RedBlackTreeSetSync<Name>>);

impl Index {
    pub(super) fn names(&self, text: &str) -> impl Iterator<Item = &Name> {
        self.0.get(text).into_iter().flatten()
    }

    pub(super) fn link(&mut self, text: &str, name: &Name) {
        if text.is_empty() {
            return;
        }
        let names = self.0.get(text).cloned().unwrap_or_default();
        self.0.insert_mut(text.into(), names.insert(Arc::clone(name)));
    }

    pub(super) fn unlink(&mut self, text: &str, name: &Name) {
        let Some(names) = self.0.get(text).map(|names| names.remove(name)) else { return };
        if names.is_empty() {
            self.0.remove_mut(text);
        } else {
            self.0.insert_mut(text.into(), names);
        }
    }

    pub(super) fn link_all(&mut self, texts: &[String], name: &Name) {
        texts.iter().for_each(|text| self.link(text, name));
    }

    pub(super) fn unlink_all(&mut self, texts: &[String], name: &Name) {
        texts.iter().for_each(|text| self.unlink(text, name));
    }
}
