//! What is made for gateways, by what their authors wrote.

use std::sync::Arc;

use ambit_cluster::kinds::waypoint::CLASSES;
use serde_json::Value;

use super::*;
use crate::deploy::overlay::Overlay;

fn asked(meta: &str, spec: &str) -> Asked {
    let text = format!(
        "{{\"metadata\": {{\"name\": \"way\", \"namespace\": \"shop\", \"uid\": \"u1\" {meta}}}, \"spec\": {{\"gatewayClassName\": \"istio-waypoint\", \"listeners\": [{{\"name\": \"mesh\", \"port\": 15008, \"protocol\": \"HBONE\"}}] {spec}}}}}"
    );
    let gateway: Gateway = serde_json::from_str(&text).unwrap();
    let (gateway, network) = (Arc::new(gateway), "net1".into());
    Asked { gateway, class: CLASSES[0], network, tells_client: false, overlays: Vec::new() }
}

fn made(meta: &str, spec: &str) -> Vec<Planned> {
    made_with(meta, spec, &[])
}

fn made_with(meta: &str, spec: &str, overlays: &[&[(&str, &str)]]) -> Vec<Planned> {
    let pod = serde_json::json!({"nodeSelector": {"a": "b"}, "resources": {"requests": {"cpu": "1"}}, "hostNetwork": true});
    let template = Template {
        image: "hub/waypoint:1".into(),
        pod,
        control_plane: "https://istiod.istio-system.svc:15012".into(),
        domain: "cluster.local".into(),
        trust_domain: "td".into(),
        cluster: "c1".into(),
        revision: String::new(),
    };
    let mut asked = asked(meta, spec);
    let read = overlays.iter().map(|it| Arc::new(Overlay::read(it.iter().copied()).unwrap()));
    asked.overlays = read.collect();
    plan(&template, &asked)
}

fn environment(deployment: &Value) -> BTreeMap<String, String> {
    let env = deployment.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap();
    let pair = |it: &Value| Some((it["name"].as_str()?.to_owned(), it["value"].as_str()?.to_owned()));
    env.iter().filter_map(pair).collect()
}

#[test]
fn a_waypoint_is_an_account_a_service_and_a_deployment_that_belong_to_its_gateway() {
    let all = made("", "");
    let paths: Vec<&str> = all.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/v1/namespaces/shop/serviceaccounts/way",
            "/api/v1/namespaces/shop/services/way",
            "/apis/apps/v1/namespaces/shop/deployments/way"
        ]
    );
    for it in &all {
        let meta = &it.object["metadata"];
        assert_eq!(meta["ownerReferences"][0]["uid"], "u1");
        assert_eq!(meta["labels"][MANAGED], "istio.io-mesh-controller");
        assert_eq!(meta["labels"][PART_OF], "way");
        assert_eq!(meta["labels"][NETWORK], "net1");
    }
    let service = &all[1].object["spec"];
    let ports: Vec<_> = service["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["port"].as_u64().unwrap(), it["appProtocol"].as_str().unwrap()))
        .collect();
    assert_eq!(ports, [(15021, "tcp"), (15008, "hbone")]);
    assert_eq!(service["selector"], serde_json::json!({PART_OF: "way"}));
    let deployment = &all[2].object;
    let pod = &deployment["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"][MODE], "none");
    assert_eq!(pod["spec"]["serviceAccountName"], "way");
    assert_eq!(pod["spec"]["nodeSelector"]["a"], "b");
    assert_eq!(pod["spec"].get("hostNetwork"), None, "only what waypoints may have in common");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(deployment["spec"].get("replicas"), None, "how many is for people and autoscalers");
    let env = environment(deployment);
    assert_eq!((env["GATEWAY_NAME"].as_str(), env["TRUST_DOMAIN"].as_str()), ("way", "td"));
}

#[test]
fn names_and_words_are_those_that_the_gateway_asks_for() {
    let meta = r#", "labels": {"team": "a", "gateway.networking.k8s.io/x": "y"}, "annotations": {"gateway.istio.io/name-override": "other", "gateway.istio.io/service-account": "cart", "networking.istio.io/service-type": "LoadBalancer"}"#;
    let all = made(meta, "");
    assert!(all[0].path.ends_with("/serviceaccounts/cart") && all[2].path.ends_with("/deployments/other"));
    let labels = &all[2].object["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["team"], labels.get("gateway.networking.k8s.io/x")), (&"a".into(), None));
    assert_eq!(labels[PART_OF], "way", "pods are found by the gateway's name whatever they are called");
    assert_eq!(all[1].object["spec"]["type"], "LoadBalancer");
    let annotations = all[2].object["metadata"]["annotations"].as_object().unwrap();
    assert!(!annotations.contains_key("gateway.istio.io/name-override"));
    let env = environment(&all[2].object);
    // Policies name the gateway, clients dial the service.
    assert_eq!((env["GATEWAY_NAME"].as_str(), env["GATEWAY_SERVICE"].as_str()), ("way", "other"));
    assert_eq!(env["SERVICE_ACCOUNT"].as_str(), "cart");
    let own = made(meta, r#", "infrastructure": {"labels": {"istio.io/dataplane-mode": "ambient"}}"#);
    let labels = &own[2].object["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        (&labels[MODE], labels.get("team")),
        (&"ambient".into(), None),
        "instead of the gateway's own"
    );
}

#[test]
fn what_somebody_else_sees_to_is_not_made() {
    for (meta, spec, is_made) in [
        ("", r#", "addresses": [{"type": "Hostname", "value": "own.shop.svc.cluster.local"}]"#, false),
        ("", r#", "addresses": [{"value": "10.0.0.1"}]"#, true),
        ("", r#", "addresses": [{"value": "10.0.0.1"}, {"value": "10.0.0.2"}]"#, false),
        (r#", "annotations": {"gateway.istio.io/controller-version": "5"}"#, "", false),
        (r#", "annotations": {"gateway.istio.io/other": "5"}"#, "", true),
    ] {
        assert_eq!(!made(meta, spec).is_empty(), is_made, "{meta} {spec}");
    }
}

#[test]
fn listeners_become_ports_once_each_with_names_that_ports_may_have() {
    let mut asked = asked("", "");
    let mut gateway = asked.gateway.as_ref().clone();
    let more = r#"[{"name": "Mesh.One", "port": 15008, "protocol": "HBONE"}, {"name": "two", "port": 15008, "protocol": "HTTP"}, {"name": "PROXY", "port": 15088, "protocol": "istio.io/PROXY"}]"#;
    gateway.spec.listeners = serde_json::from_str(more).unwrap();
    asked.gateway = Arc::new(gateway);
    let service = plan(&Template::default(), &asked).swap_remove(1).object;
    let names: Vec<_> =
        service["spec"]["ports"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["status-port", "mesh-one", "proxy"]);
}

#[test]
fn overlays_are_laid_over_what_is_made_a_class_first_and_bring_a_budget_and_an_autoscaler() {
    let class: &[(&str, &str)] = &[
        (
            "deployment",
            "spec: {replicas: 2, template: {spec: {containers: [{name: istio-proxy, resources: null}]}}}",
        ),
        ("podDisruptionBudget", "spec: {minAvailable: 1}"),
    ];
    let own: &[(&str, &str)] = &[
        ("deployment", "spec: {replicas: 3}"),
        ("service", "metadata: {annotations: {a: b}}\nspec: {ports: [{port: 15008, nodePort: 30008}]}"),
        ("horizontalPodAutoscaler", "spec: {minReplicas: 2, maxReplicas: 5}"),
    ];
    assert_eq!(made("", "").len(), 3, "neither is there where nobody asks for it");
    let all = made_with("", "", &[class, own]);
    let [_, service, deployment, autoscaler, budget] = &all[..] else { panic!("{all:?}") };
    assert_eq!(deployment.object["spec"]["replicas"], 3);
    let container = &deployment.object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((container.get("resources"), &container["image"]), (None, &"hub/waypoint:1".into()));
    assert_eq!(service.object["metadata"]["annotations"]["a"], "b");
    assert_eq!(service.object["spec"]["ports"][1]["nodePort"], 30008);
    assert_eq!(service.object["spec"]["ports"][1]["name"], "mesh");
    let at = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/way";
    assert_eq!((autoscaler.path.as_str(), &autoscaler.object["spec"]["maxReplicas"]), (at, &5.into()));
    assert_eq!(autoscaler.object["spec"]["scaleTargetRef"]["name"], "way");
    assert_eq!(budget.path, "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/way");
    assert_eq!(budget.object["spec"]["minAvailable"], 1);
    assert_eq!(budget.object["spec"]["selector"]["matchLabels"][PART_OF], "way");
    for it in &all {
        assert_eq!(it.object["metadata"]["ownerReferences"][0]["uid"], "u1");
    }
}

#[test]
fn an_autoscaler_and_a_budget_are_too_much_as_soon_as_nobody_speaks_of_them() {
    let paths = |said: &[(&str, &str)], spec: &str| {
        let mut asked = asked("", spec);
        asked.overlays = vec![Arc::new(Overlay::read(said.iter().copied()).unwrap())];
        surplus(&Template::default(), &asked)
    };
    let scaler = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/way".to_owned();
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/way".to_owned();
    let says_budget = ("podDisruptionBudget", "spec: {minAvailable: 1}");
    let says_scaler = ("horizontalPodAutoscaler", "spec: {maxReplicas: 5}");
    assert_eq!(paths(&[], ""), [scaler.clone(), budget.clone()]);
    assert_eq!(paths(&[says_budget], ""), [scaler]);
    assert_eq!(paths(&[says_scaler], ""), [budget]);
    assert_eq!(paths(&[says_scaler, says_budget], ""), [""; 0]);
    let anothers = r#", "addresses": [{"type": "Hostname", "value": "own.shop.svc.cluster.local"}]"#;
    assert_eq!(paths(&[], anothers), [""; 0], "whose pods somebody else runs has nothing of ours");
}

#[test]
fn a_waypoint_tells_applications_who_asks_where_it_is_to() {
    for tells_client in [true, false] {
        let all = plan(&Template::default(), &Asked { tells_client, ..asked("", "") });
        let told = environment(&all[2].object).remove("XFCC_INCLUDE_CLIENT_IDENTITY");
        assert_eq!(told.as_deref(), tells_client.then_some("true"));
    }
}
