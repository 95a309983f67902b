//! What the subscription needs to know of us: node, headers, the way to the control plane (`ztunnel.md` 8.1, 8.2).
//! Owns those values. Subscribing is `xds`'s.

use std::collections::BTreeMap;

use ambit_wire::pb::discovery::Node;
use ambit_xds::backoff::Ending;
use ambit_xds::pump::{AnyError, Dial, Headers, Settings};
use ambit_xds::subscriber::Mode;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use crate::control::{Control, NodeFacts};

/// Settings of the subscription; none when discovery is switched off.
#[must_use]
pub fn settings(control: &Control) -> Option<Settings> {
    let plane = control.xds.clone()?;
    let dial: Dial = Box::new(move || {
        let plane = plane.clone();
        Box::pin(async move { plane.connect().await.map_err(AnyError::from) })
    });
    let (token, extra) = (control.token.clone(), control.xds_headers.clone());
    let cluster = control.node.cluster.clone();
    let headers: Headers = Box::new(move || {
        let mut all = HeaderMap::new();
        if let Some(bearer) = token.bearer()? {
            all.insert(http::header::AUTHORIZATION, bearer);
        }
        all.insert("clusterid", HeaderValue::try_from(&cluster)?);
        for (name, value) in &extra {
            all.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let mut metadata = Default::default();
        *AsMut::<HeaderMap>::as_mut(&mut metadata) = all;
        Ok(metadata)
    });
    Some(Settings { node: node(&control.node), mode: Mode::Wildcard, dial, headers })
}

/// The label of an ending.
#[must_use]
pub fn reason(ending: &Ending) -> &'static str {
    match ending {
        Ending::Unreachable(_) => "ConnectionError",
        Ending::Lost(_) => "Reconnect",
        Ending::Refused(_) => "Error",
        Ending::Closed => "Complete",
    }
}

fn node(facts: &NodeFacts) -> Node {
    let text = |value: &String| Value { kind: Some(Kind::StringValue(value.clone())) };
    let mut fields: BTreeMap<String, Value> =
        facts.metadata.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    fields.extend(facts.json.iter().map(|(key, value)| (key.clone(), from_json(value))));
    Node { id: facts.id.clone(), metadata: Some(Struct { fields }), ..Node::default() }
}

fn from_json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(*flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(from_json).collect() }),
        Json::Object(entries) => Kind::StructValue(Struct {
            fields: entries.iter().map(|(key, value)| (key.clone(), from_json(value))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_given_as_json_keeps_its_shape() {
        let json = serde_json::json!({ "a": [1, "two", null], "b": { "c": true } });
        let facts = NodeFacts { json: vec![("LABELS".into(), json)], ..NodeFacts::default() };
        let fields = node(&facts).metadata.unwrap().fields;
        let Some(Kind::StructValue(labels)) = &fields["LABELS"].kind else { panic!("{fields:?}") };
        assert!(matches!(&labels.fields["a"].kind, Some(Kind::ListValue(list)) if list.values.len() == 3));
    }
}
