//! What texts of a config map make of what is made.

use serde_json::json;

use super::*;

fn read(key: &str, text: &str) -> Result<Overlay, OverlayError> {
    Overlay::read([(key, text)])
}

fn laid(key: &str, text: &str, mut object: Value) -> Value {
    let part = Part::of_key(key).unwrap();
    read(key, text).unwrap().lay_over(part, &mut object);
    object
}

#[test]
fn fields_are_laid_over_fields_and_named_entries_over_entries_of_their_name() {
    let pod = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let base = || {
        pod(
            json!([{"name": "istio-proxy", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 15008, "name": "mesh"}]}]),
        )
    };
    let spec = "spec: {replicas: 2, template: {spec: {";
    for (text, wanted) in [
        ("resources: {limits: {cpu: '1'}}", json!({"resources": {"limits": {"cpu": "1"}}})),
        (
            "env: [{name: B, value: '3'}, {name: C, value: '4'}]",
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}),
        ),
        ("env: [{name: A, $patch: delete}]", json!({"env": [{"name": "B", "value": "2"}]})),
        ("env: [{$patch: replace}, {name: D, value: '5'}]", json!({"env": [{"name": "D", "value": "5"}]})),
        ("image: null", json!({"image": null})),
        ("args: [a, b]", json!({"args": ["a", "b"]})),
        (
            "ports: [{containerPort: 15008, name: other}, {containerPort: 1, name: mesh}]",
            json!({"ports": [{"containerPort": 15008, "name": "other"}, {"containerPort": 1, "name": "mesh"}]}),
        ),
    ] {
        let text =
            format!("{spec}containers: [{{name: istio-proxy, {text}}}, {{name: more, image: x}}]}}}}}}");
        let now = laid("deployment", &text, base());
        assert_eq!(now["spec"]["replicas"], 2);
        let containers = &now["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[1], json!({"name": "more", "image": "x"}), "{text}");
        for (field, value) in wanted.as_object().unwrap() {
            assert_eq!(&containers[0][field], value, "{text}");
        }
    }
}

#[test]
fn a_services_ports_are_known_by_their_numbers_and_what_is_not_a_list_of_names_is_one_value() {
    let base = json!({"spec": {"ports": [{"port": 15008, "name": "mesh"}], "externalIPs": ["10.0.0.1"], "selector": {"a": "b"}}});
    let text = "spec: {type: LoadBalancer, externalIPs: [10.0.0.2], selector: {$patch: replace, c: d}, \
                ports: [{port: 15008, nodePort: 30000}]}";
    let wanted = json!({"spec": {"type": "LoadBalancer", "externalIPs": ["10.0.0.2"], "selector": {"c": "d"},
                                 "ports": [{"port": 15008, "name": "mesh", "nodePort": 30000}]}});
    assert_eq!(laid("service", text, base), wanted);
}

#[test]
fn what_is_not_an_authors_to_say_or_is_not_known_is_refused_when_it_is_read() {
    let fixed = |what: &str| OverlayError::Fixed("deployment".into(), what.into());
    for (text, wanted) in [
        ("metadata: {name: x}", fixed("metadata.name")),
        ("metadata: {ownerReferences: []}", fixed("metadata.ownerReferences")),
        ("metadata: {labels: {gateway.istio.io/managed: x}}", fixed("label gateway.istio.io/managed")),
        ("metadata: {$patch: replace}", fixed("metadata as a whole")),
        ("kind: Secret", fixed("kind")),
        ("status: {}", fixed("status")),
    ] {
        assert_eq!(read("deployment", text), Err(wanted), "{text}");
    }
    let unknown = read("service", "spec: {ports: [{$patch: upsert}]}");
    assert!(matches!(unknown, Err(OverlayError::Directive(..))), "{unknown:?}");
    let unknown = read("service", "spec: {$setElementOrder/ports: []}");
    assert!(matches!(unknown, Err(OverlayError::Directive(..))), "{unknown:?}");
    assert_eq!(read("daemonSet", "{}"), Err(OverlayError::Key("daemonSet".into())));
    for text in ["[a]", "word", "a: ["] {
        assert!(matches!(read("service", text), Err(OverlayError::Yaml(..))), "{text}");
    }
    assert!(matches!(read("service", &"#".repeat(TEXT_LIMIT + 1)), Err(OverlayError::Long(_))));
    assert!(!read("service", "").unwrap().says(Part::Service), "an empty text says nothing");
}

#[test]
fn a_class_comes_first_then_the_gateways_own_and_nothing_is_known_before_both_are() {
    let gateway = |reference: Value| -> Gateway {
        let spec =
            json!({"gatewayClassName": "istio-waypoint", "infrastructure": {"parametersRef": reference}});
        serde_json::from_value(json!({"metadata": {"name": "w", "namespace": "shop"}, "spec": spec})).unwrap()
    };
    let own = gateway(json!({"group": "", "kind": "ConfigMap", "name": "o"}));
    let replicas =
        |count: u32| Arc::new(read("deployment", &format!("spec: {{replicas: {count}}}")).unwrap());
    let mut overlays = Overlays::default();
    assert_eq!(overlays.of(&own), None);
    overlays.classes = Some([("istio-waypoint".into(), Ok(replicas(1)))].into());
    assert_eq!(overlays.of(&own), None);
    overlays.named.insert(("shop".into(), "o".into()), Ok(replicas(2)));
    assert_eq!(overlays.of(&own), Some(Ok(vec![replicas(1), replicas(2)])));
    let missing = OverlayError::Missing("shop".into(), "o".into());
    overlays.named.insert(("shop".into(), "o".into()), Err(missing.clone()));
    assert_eq!(overlays.of(&own), Some(Err(missing)));
    let other = gateway(json!({"group": "example.com", "kind": "Params", "name": "o"}));
    assert_eq!(overlays.of(&other), Some(Err(OverlayError::Kind("example.com Params".into()))));
    assert_eq!(overlays.of(&gateway(Value::Null)), Some(Ok(vec![replicas(1)])));
}
