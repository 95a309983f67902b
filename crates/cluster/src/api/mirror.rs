//! What is known of one kind: pages and changes go in, events come out. A pure state, without a connection.
//! Owns which objects are there, their last good versions, and what is gone after everything was listed anew.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fault::{Fault, Wrong};
use crate::files::Keep;
use crate::kinds;
use crate::kinds::pool::Pool;
use crate::object::{Body, Kind, Object, ObjectRef};

/// What a mirror tells.
#[derive(Debug)]
pub(crate) enum Change {
    /// New or different.
    Applied(Object),
    /// Not there any more.
    Gone(ObjectRef),
    /// It does not read; its last good version stays.
    Bad(ObjectRef, Fault),
    /// Nothing is wrong with it any more.
    Good(ObjectRef),
}

/// The objects of one kind.
pub(crate) struct Mirror {
    kind: Kind,
    keep: Keep,
    known: HashMap<ObjectRef, Known>,
    /// Namespaces' names, shared by their objects.
    namespaces: HashSet<Arc<str>>,
    /// What they say alike.
    pool: Pool,
    /// Counted up with each list.
    round: u32,
}

/// One object.
struct Known {
    /// As last handed out; none: it never was good.
    body: Option<Body>,
    is_bad: bool,
    /// The last list that had it.
    round: u32,
}

/// One page of a list.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(default)]
    pub(crate) metadata: PageMeta,
    #[serde(borrow, default)]
    pub(crate) items: Option<Vec<&'a RawValue>>,
}

/// What a page says of its list.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct PageMeta {
    #[serde(rename = "resourceVersion")]
    pub(crate) version: String,
    #[serde(rename = "continue")]
    pub(crate) next: String,
}

/// One line of a watch.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) what: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) object: &'a RawValue,
}

/// Which object this is, and at which version of the cluster.
#[derive(Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(borrow)]
    pub(crate) metadata: HeadMeta<'a>,
}

/// The least of metadata.
#[derive(Deserialize)]
pub(crate) struct HeadMeta<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) namespace: Cow<'a, str>,
    #[serde(borrow, default, rename = "resourceVersion")]
    pub(crate) version: Cow<'a, str>,
}

impl Mirror {
    pub(crate) fn new(kind: Kind, keep: Keep) -> Self {
        Self {
            kind,
            keep,
            known: HashMap::new(),
            namespaces: HashSet::new(),
            pool: Pool::default(),
            round: 0,
        }
    }

    /// A list begins: what it does not have will be gone at its end.
    pub(crate) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// An object is there, from a list or a change.
    pub(crate) fn apply(&mut self, object: &RawValue, changes: &mut Vec<Change>) {
        let (kind, keep, round) = (self.kind, self.keep, self.round);
        let Some(reference) = self.reference(object) else { return };
        let known = self.known.entry(reference.clone()).or_insert(Known { body: None, is_bad: false, round });
        known.round = round;
        match kinds::read_text(kind, object.get()) {
            Ok(mut body) => {
                if std::mem::take(&mut known.is_bad) {
                    changes.push(Change::Good(reference.clone()));
                }
                if known.body.as_ref() == Some(&body) && keep == Keep::Slim {
                    return;
                }
                self.pool.share(&mut body);
                known.body = Some(body.clone());
                let raw = (keep == Keep::Whole).then(|| Arc::new(whole(kind, object)));
                changes.push(Change::Applied(Object { reference, body, raw }));
            }
            Err(wrong) => {
                known.is_bad = true;
                let fault = Fault::of_object(reference.clone(), wrong);
                changes.push(Change::Bad(reference, fault));
            }
        }
    }

    /// An object was deleted.
    pub(crate) fn remove(&mut self, object: &RawValue, changes: &mut Vec<Change>) {
        let Some(reference) = self.reference(object) else { return };
        if let Some(known) = self.known.remove(&reference) {
            forget(reference, &known, changes);
        }
    }

    /// The list ends: what it did not have is gone.
    pub(crate) fn finish(&mut self, changes: &mut Vec<Change>) {
        let round = self.round;
        let gone: Vec<_> =
            self.known.iter().filter(|(_, known)| known.round != round).map(|(it, _)| it.clone()).collect();
        for reference in gone {
            if let Some(known) = self.known.remove(&reference) {
                forget(reference, &known, changes);
            }
        }
        // Only those without objects are held by nobody else.
        self.namespaces.retain(|name| Arc::strong_count(name) > 1);
        self.pool.sweep();
        self.known.shrink_to_fit();
    }

    /// The kind itself is not there any more, and so is none of its objects.
    pub(crate) fn clear(&mut self, changes: &mut Vec<Change>) {
        self.begin();
        self.finish(changes);
    }

    fn reference(&mut self, object: &RawValue) -> Option<ObjectRef> {
        // The server hands out no object without a name; nothing could be said of one.
        let head: Head<'_> = serde_json::from_str(object.get()).ok()?;
        let HeadMeta { name, namespace, .. } = head.metadata;
        if name.is_empty() {
            return None;
        }
        let namespace = if self.kind.namespaced() { namespace.as_ref() } else { "" };
        let shared = self.namespaces.get(namespace).cloned().unwrap_or_else(|| {
            let fresh: Arc<str> = namespace.into();
            self.namespaces.insert(Arc::clone(&fresh));
            fresh
        });
        let probe = ObjectRef { kind: self.kind, namespace: shared, name: name.as_ref().into() };
        Some(self.known.get_key_value(&probe).map(|(it, _)| it.clone()).unwrap_or(probe))
    }
}

fn forget(reference: ObjectRef, known: &Known, changes: &mut Vec<Change>) {
    if known.is_bad {
        changes.push(Change::Good(reference.clone()));
    }
    if known.body.is_some() {
        changes.push(Change::Gone(reference));
    }
}

/// The object as a value, with what lists leave out of their items.
fn whole(kind: Kind, object: &RawValue) -> Value {
    let mut value: Value = serde_json::from_str(object.get()).unwrap_or_default();
    kinds::without_nulls(&mut value);
    if let Value::Object(members) = &mut value {
        members.entry("kind").or_insert_with(|| kind.name().into());
        members.entry("apiVersion").or_insert_with(|| kind.api_version().into());
    }
    value
}

/// What is wrong with a version that a watch was told.
pub(crate) fn version(object: &RawValue) -> Option<String> {
    let head: Head<'_> = serde_json::from_str(object.get()).ok()?;
    Some(head.metadata.version.into_owned()).filter(|version| !version.is_empty())
}

impl Wrong {
    /// What an object that is no JSON would be: the server never sends one.
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        Self::document(error.to_string(), "the API server sent what is no JSON; look at what stands between")
    }
}
