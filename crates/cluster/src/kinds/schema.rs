//! What the types look like to Kubernetes: a structural schema of each, made from the type itself.
//! Owns the schemas of values with rules of their own, and the form that API servers demand. Which kinds are defined,
//! and under which names, is `definition`'s.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::kinds::meta::Texts;
use crate::kinds::policy::PolicyCondition;
use crate::kinds::scalar::{AccountName, Cidr, Ip, Port, PortText, Word};

/// Fields that this type does not name are kept in the store: a mistyped condition that is pruned would widen its
/// policy without a word, one that is kept is told of.
const KEEP: &str = "x-kubernetes-preserve-unknown-fields";

/// What JSON Schema has and Kubernetes has not, or means otherwise: a default would be written into every object.
const NOT_THERE: [&str; 3] = ["$schema", "title", "default"];

/// The structural schema of a type.
#[must_use]
pub(crate) fn of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    structural(schema.to_value())
}

/// Conditions, which are told apart by their type.
pub(crate) fn conditions(from: &mut SchemaGenerator) -> Schema {
    list_by::<PolicyCondition>(from, "type")
}

/// A list whose items are told apart by their names.
pub(crate) fn by_name<T: JsonSchema>(from: &mut SchemaGenerator) -> Schema {
    list_by::<T>(from, "name")
}

fn list_by<T: JsonSchema>(from: &mut SchemaGenerator, key: &str) -> Schema {
    let items = from.subschema_for::<T>();
    json_schema!({
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
    })
}

/// A number, or one written as text.
pub(crate) fn number_or_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true })
}

/// Brings a schema into the form that API servers demand.
fn structural(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return schema };
    schema.retain(|key, value| {
        let width = key == "format" && value.as_str().is_some_and(|it| it.contains("int"));
        !NOT_THERE.contains(&key.as_str()) && !width && !value.is_null()
    });
    if let Some(either) = schema.remove("anyOf") {
        one_or_nothing(&mut schema, either);
    }
    if schema.remove("nullable").is_some() {
        // To us, null and nothing are the same; API servers drop null by themselves.
        if let Some(all) = schema.remove("allOf") {
            absorb(&mut schema, all);
        }
    }
    if let Some(words) = schema.remove("oneOf") {
        choice(&mut schema, &words);
    }
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    if schema.contains_key("properties") {
        schema.insert(KEEP.into(), true.into());
    }
    for (key, value) in &mut schema {
        match key.as_str() {
            "properties" => {
                value.as_object_mut().into_iter().flatten().for_each(|(_, it)| *it = structural(it.take()));
            }
            "items" | "additionalProperties" => *value = structural(value.take()),
            _ => {}
        }
    }
    Value::Object(schema)
}

/// What may be left out, or be one of several words, is written as one or null; API servers take no such choice.
fn one_or_nothing(schema: &mut Map<String, Value>, either: Value) {
    let Value::Array(either) = either else { return };
    let is_null = |it: &Value| it.get("enum").is_some_and(|it| *it == Value::Array(vec![Value::Null]));
    let some: Vec<Value> = either.into_iter().filter(|it| !is_null(it)).collect();
    if let [_] = some.as_slice() {
        absorb(schema, some.into());
    } else {
        schema.insert("anyOf".into(), some.into());
    }
}

/// Members of the one schema in a list of schemas.
fn absorb(schema: &mut Map<String, Value>, all: Value) {
    let Value::Array(all) = all else { return };
    for member in all.into_iter().filter_map(|it| if let Value::Object(it) = it { Some(it) } else { None }) {
        for (key, value) in member {
            schema.entry(key).or_insert(value);
        }
    }
}

/// Words of which one is given, each with what it means.
fn choice(schema: &mut Map<String, Value>, words: &Value) {
    let words: Vec<&Value> = words.as_array().into_iter().flatten().collect();
    let word = |it: &Value| it.pointer("/enum/0").or_else(|| it.get("const"))?.as_str().map(str::to_owned);
    let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let meanings =
        words.iter().filter_map(|it| Some(format!("{}: {}", word(it)?, it.get("description")?.as_str()?)));
    let about = std::iter::once(about.to_owned()).chain(meanings).collect::<Vec<_>>().join(" ");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), words.iter().filter_map(|it| word(it)).collect::<Vec<_>>().into());
    schema.insert("description".into(), about.into());
}

/// Gives a value that reads itself the schema of what it reads.
macro_rules! written_as {
    ($($kind:ident: $schema:tt),+ $(,)?) => {$(
        impl JsonSchema for $kind {
            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

written_as! {
    AccountName: { "type": "string", "minLength": 1, "maxLength": 320 },
    Cidr: { "type": "string", "minLength": 1, "maxLength": 64 },
    Ip: { "type": "string", "minLength": 1, "maxLength": 64 },
    Port: { "type": "integer", "minimum": 1, "maximum": 65535 },
    // Numbers are read too, although Istio has texts here.
    PortText: { "x-kubernetes-int-or-string": true },
    Word: { "type": "string", "minLength": 1 },
    Texts: { "type": "object", "additionalProperties": { "type": "string", "maxLength": 63 } },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::policy::{AuthorizationSpec, PeerSpec, PolicyStatus};

    #[test]
    fn a_type_becomes_a_structural_schema_with_its_limits_words_and_meanings() {
        let schema = of::<AuthorizationSpec>();
        let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("no {path} in {schema:#}"));
        let words = json!(["ALLOW", "DENY", "AUDIT", "CUSTOM"]);
        assert_eq!(
            (at("/properties/action/enum"), at("/properties/action/type")),
            (&words, &json!("string"))
        );
        assert!(at("/properties/action/description").as_str().unwrap().contains("DENY: Keep it out."));
        assert_eq!(at("/properties/targetRefs/maxItems"), 16);
        assert_eq!(at("/properties/targetRefs/items/required"), &json!(["kind", "name"]));
        assert_eq!(at("/properties/selector/type"), "object");
        let source = "/properties/rules/items/properties/from/items/properties/source/properties";
        assert_eq!(at(&format!("{source}/notIpBlocks/items/maxLength")), 64);
        assert_eq!(at(&format!("{source}/notIpBlocks/description")), "Peer addresses that must not match.");
    }

    #[test]
    fn a_word_that_may_be_left_out_is_one_of_its_words() {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "its schema is looked at, and nothing else")]
        struct Asked {
            /// Which.
            word: Option<Which>,
        }
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "as above")]
        enum Which {
            /// The first.
            One,
            /// The second.
            Other,
        }
        let schema = of::<Asked>();
        let word = &schema["properties"]["word"];
        assert_eq!((&word["type"], &word["enum"]), (&json!("string"), &json!(["One", "Other"])), "{word:#}");
        assert!(word["description"].as_str().unwrap().contains("Which. One: The first."), "{word:#}");
        assert!(word.get("anyOf").is_none() && word.get("oneOf").is_none(), "{word:#}");
    }

    #[test]
    fn no_level_loses_what_it_does_not_name() {
        fn look(at: &str, schema: &Value, seen: &mut usize) {
            for word in ["$ref", "nullable", "default", "title", "anyOf", "oneOf", "allOf", "not"] {
                assert!(schema.get(word).is_none(), "{at} has {word}");
            }
            if let Some(members) = schema.get("properties").and_then(Value::as_object) {
                assert_eq!(schema[KEEP], true, "{at} prunes");
                *seen += 1;
                members.iter().for_each(|(name, it)| look(&format!("{at}.{name}"), it, seen));
            }
            schema.get("items").into_iter().for_each(|it| look(&format!("{at}[]"), it, seen));
            let more = schema.get("additionalProperties");
            more.into_iter().for_each(|it| look(&format!("{at}.*"), it, seen));
        }
        let mut seen = 0;
        look("spec", &of::<AuthorizationSpec>(), &mut seen);
        look("spec", &of::<PeerSpec>(), &mut seen);
        look("status", &of::<PolicyStatus>(), &mut seen);
        assert!(seen > 12, "{seen} objects were looked at");
    }

    #[test]
    fn conditions_are_told_apart_by_type_and_name_the_generation_as_number_or_text() {
        let schema = of::<PolicyStatus>();
        let conditions = &schema["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
        assert_eq!(conditions["items"]["required"], json!(["type", "status"]));
        let generation = &conditions["items"]["properties"]["observedGeneration"];
        assert_eq!(generation["x-kubernetes-int-or-string"], true);
        assert!(generation.get("type").is_none(), "{generation}");
    }
}
