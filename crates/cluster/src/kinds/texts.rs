//! Few texts by name, as labels and annotations are: sorted, side by side, and no larger than they must be. A map of
//! the standard library takes half a kilobyte for the first of them, for each of a hundred thousand objects. Copies
//! share their texts (`pool`) until one of them changes.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// Text by text, ordered by name; of several with one name the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Texts(Option<Arc<Vec<(String, String)>>>); // none: there are none

impl Texts {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&String> {
        let at = self.find(name).ok()?;
        self.all().get(at).map(|(_, text)| text)
    }

    /// Whether there is a text of this name.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// All, by name.
    pub fn iter(&self) -> Iter<'_> {
        self.into_iter()
    }

    /// All names.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.all().iter().map(|(name, _)| name)
    }

    /// All texts.
    pub fn values(&self) -> impl Iterator<Item = &String> {
        self.all().iter().map(|(_, text)| text)
    }

    /// Sets a text; the former one of this name.
    pub fn insert(&mut self, name: String, text: String) -> Option<String> {
        let found = self.find(&name);
        let all = Arc::make_mut(self.0.get_or_insert_default());
        match found {
            Ok(at) => all.get_mut(at).map(|(_, before)| std::mem::replace(before, text)),
            Err(at) => {
                all.insert(at, (name, text));
                None
            }
        }
    }

    /// Takes a text out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.find(name).ok()?;
        let all = Arc::make_mut(self.0.as_mut()?);
        let (_, text) = all.remove(at);
        if all.is_empty() {
            self.0 = None;
        }
        Some(text)
    }

    /// Whether a copy shares these texts. Where there are none, there is nothing to share.
    pub(super) fn is_shared(&self) -> bool {
        self.0.as_ref().is_some_and(|all| Arc::strong_count(all) > 1)
    }

    fn all(&self) -> &[(String, String)] {
        self.0.as_ref().map(|all| all.as_slice()).unwrap_or_default()
    }

    /// Gives back the room that reading left.
    fn snug(mut self) -> Self {
        if let Some(all) = &mut self.0 {
            Arc::make_mut(all).shrink_to_fit();
        }
        self
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.all().binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

/// Texts by name, one after the other.
pub type Iter<'a> =
    std::iter::Map<std::slice::Iter<'a, (String, String)>, fn(&(String, String)) -> (&String, &String)>;

impl<'a> IntoIterator for &'a Texts {
    type Item = (&'a String, &'a String);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.all().iter().map(|(name, text)| (name, text))
    }
}

impl IntoIterator for Texts {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.map(Arc::unwrap_or_clone).unwrap_or_default().into_iter()
    }
}

impl Extend<(String, String)> for Texts {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, more: I) {
        for (name, text) in more {
            self.insert(name, text);
        }
    }
}

impl FromIterator<(String, String)> for Texts {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(all: I) -> Self {
        let mut texts = Self::new();
        texts.extend(all);
        texts.snug()
    }
}

impl<const N: usize> From<[(String, String); N]> for Texts {
    fn from(all: [(String, String); N]) -> Self {
        all.into_iter().collect()
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As the standard library's map says it.
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Texts, A::Error> {
        let mut texts = Texts::new();
        while let Some((name, text)) = input.next_entry()? {
            texts.insert(name, text);
        }
        Ok(texts.snug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_name_ordered_and_the_last_of_a_name_counts() {
        let texts: Texts = serde_json::from_str(r#"{"b": "1", "a": "2", "c": "3", "b": "4"}"#).unwrap();
        let all: Vec<_> = texts.iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(all, ["a=2", "b=4", "c=3"]);
        assert_eq!((texts.get("b").map(String::as_str), texts.get("x")), (Some("4"), None));
        assert_eq!(texts.0.as_ref().unwrap().capacity(), 3, "no larger than it must be");
        let mut other = texts.clone();
        assert_eq!(other.remove("a").as_deref(), Some("2"));
        assert_ne!(texts, other);
        assert_eq!(other.insert("a".into(), "2".into()), None);
        assert_eq!(texts, other);
    }
    #[test]
    fn copies_share_their_texts_until_one_changes_and_none_is_none_however_it_came_to_be() {
        let texts = Texts::from([("a".to_owned(), "1".to_owned())]);
        assert!(!texts.is_shared());
        let mut copy = texts.clone();
        assert!(texts.is_shared() && copy.is_shared());
        assert_eq!(copy.remove("a").as_deref(), Some("1"));
        assert!(!texts.is_shared() && texts.contains_key("a"));
        assert_eq!(copy, Texts::new());
        assert_eq!(serde_json::from_str::<Texts>("{}").unwrap(), Texts::new());
    }
}
