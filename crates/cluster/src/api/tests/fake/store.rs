//! What the fake API server holds: objects with versions, their history, and the rules of reading and writing them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use http::Method;
use serde_json::{Value, json};

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    collection: String,
    namespace: String,
    name: String,
}

impl Place {
    /// The place of this name.
    pub fn new(collection: &str, namespace: &str, name: &str) -> Self {
        Self { collection: collection.into(), namespace: namespace.into(), name: name.into() }
    }
}

/// A request's path and query, taken apart.
pub(super) struct Query {
    place: Place,
    is_status: bool,
    values: HashMap<String, String>,
    meta_only: bool,
    content: String,
}

impl Query {
    pub(super) fn new(path: &str, query: &str, accept: &str, content: &str) -> Self {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let (root, rest) = parts.split_at(if parts[0] == "api" { 2 } else { 3 }.min(parts.len()));
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let at = |nth: usize| rest.get(nth).copied().unwrap_or_default();
        let collection = format!("/{}/{}", root.join("/"), at(0));
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            place: Place::new(&collection, namespace, at(1)),
            is_status: at(2) == "status",
            values: values.map(|(key, value)| (key.to_owned(), value.replace("%3D", "="))).collect(),
            meta_only: accept.contains("as=PartialObjectMetadata"),
            content: content.into(),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn covers(&self, place: &Place, object: &Value) -> bool {
        let selected =
            self.get("fieldSelector").and_then(|it| it.split_once('=')).is_none_or(|(key, value)| {
                object.pointer(&format!("/{}", key.replace('.', "/"))).and_then(Value::as_str) == Some(value)
            });
        let namespace = &self.place.namespace;
        selected
            && place.collection == self.place.collection
            && (namespace.is_empty() || *namespace == place.namespace)
    }

    fn cut(&self, object: &Value) -> Value {
        if self.meta_only { json!({"metadata": object["metadata"]}) } else { object.clone() }
    }
}

/// What is answered.
pub(super) enum Answer {
    Object(Value),
    Refusal(u16, Value),
    NoSuchPath,
}

/// Everything that is there.
#[derive(Default)]
pub(super) struct Store {
    version: u64,
    /// Changes up to here are forgotten.
    forgotten: u64,
    objects: BTreeMap<Place, Value>,
    log: Vec<(u64, &'static str, Place, Value)>,
    unserved: BTreeSet<String>,
    pub(super) tokens: HashMap<String, Value>,
}

impl Store {
    pub(super) fn put(&mut self, collection: &str, mut object: Value) -> Value {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let place = Place::new(collection, &text("/metadata/namespace"), &text("/metadata/name"));
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let before = self.objects.insert(place.clone(), object.clone());
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push((self.version, what, place, object.clone()));
        object
    }

    pub(super) fn remove(&mut self, place: &Place) {
        if let Some(mut object) = self.objects.remove(place) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.log.push((self.version, "DELETED", place.clone(), object));
        }
    }

    pub(super) fn object(&self, place: &Place) -> Option<Value> {
        self.objects.get(place).cloned()
    }

    pub(super) fn all(&self, collection: &str) -> Vec<Value> {
        let of_it = |(place, _): &(&Place, &Value)| place.collection == collection;
        self.objects.iter().filter(of_it).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn serve(&mut self, collection: &str, is_served: bool) {
        if is_served {
            self.unserved.remove(collection);
        } else {
            self.unserved.insert(collection.into());
        }
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.log.clear();
    }

    pub(super) fn bookmark(&mut self) {
        self.version += 1;
        let object = json!({"metadata": {"resourceVersion": self.version.to_string()}});
        self.log.push((self.version, "BOOKMARK", Place::new("", "", ""), object));
    }

    pub(super) fn refuses_watch(&self, query: &Query, since: u64) -> Option<Answer> {
        if self.unserved.contains(&query.place.collection) {
            return Some(Answer::NoSuchPath);
        }
        (since < self.forgotten).then(|| Answer::Refusal(410, status(410, "Expired", "")))
    }

    /// What a watch is told of since a version, and up to which.
    pub(super) fn lines(&self, query: &Query, since: u64) -> Option<(String, u64)> {
        if since < self.forgotten {
            let error = json!({"type": "ERROR", "object": status(410, "Expired", "")});
            return Some((format!("{error}\n"), u64::MAX));
        }
        let mut text = String::new();
        for (_, what, place, object) in self.log.iter().filter(|(version, ..)| *version > since) {
            if *what == "BOOKMARK" || query.covers(place, object) {
                text += &format!("{}\n", json!({"type": what, "object": query.cut(object)}));
            }
        }
        (!text.is_empty()).then_some((text, self.version))
    }

    pub(super) fn answer(&mut self, method: &Method, query: &Query, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let place = &query.place;
        if self.unserved.contains(&place.collection) {
            return Answer::NoSuchPath;
        }
        if place.collection.ends_with("/tokenreviews") {
            return self.review(body);
        }
        match (method.as_str(), place.name.is_empty()) {
            ("GET", true) => self.list(query),
            ("GET", false) => self.object(place).map_or_else(|| missing(place), Answer::Object),
            ("POST", true) => self.create(query, body),
            ("PUT", false) => self.replace(query, body),
            ("PATCH", false) => self.patch(query, body),
            ("DELETE", false) => {
                self.remove(place);
                Answer::Object(json!({}))
            }
            _ => Answer::Refusal(405, status(405, "MethodNotAllowed", "")),
        }
    }

    fn list(&self, query: &Query) -> Answer {
        let limit = query.get("limit").and_then(|it| it.parse().ok()).unwrap_or(usize::MAX);
        let (version, from) = match query.get("continue").and_then(|it| it.split_once('.')) {
            Some((version, from)) => (version.parse().unwrap(), from.parse().unwrap()),
            None => (self.version, 0),
        };
        if version < self.forgotten {
            return Answer::Refusal(410, status(410, "Expired", ""));
        }
        let all: Vec<_> = self.objects.iter().filter(|(place, it)| query.covers(place, it)).collect();
        let items: Vec<_> = all.iter().skip(from).take(limit).map(|(_, it)| query.cut(it)).collect();
        let to = from + items.len();
        let next = if to < all.len() { format!("{version}.{to}") } else { String::new() };
        Answer::Object(json!({
            "metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items,
        }))
    }

    fn create(&mut self, query: &Query, mut body: Value) -> Answer {
        body["metadata"]["namespace"] = query.place.namespace.clone().into();
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let place = Place { name, ..query.place.clone() };
        if self.objects.contains_key(&place) {
            return Answer::Refusal(409, status(409, "AlreadyExists", &place.name));
        }
        Answer::Object(self.put(&place.collection, body))
    }

    fn replace(&mut self, query: &Query, body: Value) -> Answer {
        let Some(before) = self.object(&query.place) else { return missing(&query.place) };
        let (asked, now) = (&body["metadata"]["resourceVersion"], &before["metadata"]["resourceVersion"]);
        if !asked.is_null() && asked != now {
            return Answer::Refusal(409, status(409, "Conflict", &query.place.name));
        }
        Answer::Object(self.put(&query.place.collection, body))
    }

    fn patch(&mut self, query: &Query, body: Value) -> Answer {
        let is_apply = query.content == "application/apply-patch+yaml";
        if is_apply && query.get("fieldManager").is_none() {
            return Answer::Refusal(400, status(400, "BadRequest", ""));
        }
        let Some(mut object) = self.object(&query.place).or_else(|| {
            // As the real one: what is applied is made, but for its status.
            (is_apply && !query.is_status).then(|| json!({"metadata": {"uid": "made"}}))
        }) else {
            return missing(&query.place);
        };
        let asked = &body["metadata"]["uid"];
        if !asked.is_null() && *asked != object["metadata"]["uid"] {
            let why = "metadata.uid: Invalid value: field is immutable:";
            return Answer::Refusal(422, status(422, why, &query.place.name));
        }
        if query.is_status && is_apply {
            // A manager owns one member of status; what it does not say of it any more is removed.
            let member = query.get("fieldManager").and_then(|it| it.rsplit_once('-')).unwrap().1.to_owned();
            match body["status"].get(&member) {
                Some(value) => object["status"][&member] = value.clone(),
                None => drop(object["status"].as_object_mut().and_then(|it| it.remove(&member))),
            }
        } else if query.content == "application/strategic-merge-patch+json" {
            let mut body = body;
            let conditions = body
                .pointer_mut("/status")
                .and_then(Value::as_object_mut)
                .and_then(|it| it.remove("conditions"));
            merged(&mut object, body);
            if let Some(conditions) = conditions {
                by_type(&mut object["status"], conditions);
            }
        } else {
            merged(&mut object, body);
        }
        let before = self.object(&query.place);
        if before.as_ref() == Some(&object) {
            return Answer::Object(object);
        }
        Answer::Object(self.put(&query.place.collection, object))
    }

    fn review(&self, mut body: Value) -> Answer {
        let token = body["spec"]["token"].as_str().unwrap_or_default();
        let status = self.tokens.get(token).cloned();
        body["status"] = status.unwrap_or_else(|| json!({"authenticated": false, "error": "unknown token"}));
        Answer::Object(body)
    }
}

fn missing(place: &Place) -> Answer {
    Answer::Refusal(404, status(404, "NotFound", &place.name))
}

/// A refusal as the API server words it.
pub(super) fn status(code: u16, reason: &str, name: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("{reason} {name}"), "details": {"name": name},
    })
}

/// What a strategic merge patch does to conditions: each is told by its type.
fn by_type(status: &mut Value, patch: Value) {
    let Value::Array(patch) = patch else { return };
    let mut all = status["conditions"].as_array().cloned().unwrap_or_default();
    for one in patch {
        let place = all.iter().position(|it| it["type"] == one["type"]);
        match (place, one["$patch"] == "delete") {
            (Some(place), true) => drop(all.remove(place)),
            (Some(place), false) => merged(&mut all[place], one),
            (None, true) => {}
            (None, false) => all.push(one),
        }
    }
    status["conditions"] = Value::Array(all);
}

/// RFC 7396, written anew: the tests do not lean on what they test.
fn merged(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (key, value) in patch {
                if value.is_null() {
                    target.as_object_mut().unwrap().remove(&key);
                } else {
                    merged(&mut target[&key], value);
                }
            }
        }
        patch => *target = patch,
    }
}
