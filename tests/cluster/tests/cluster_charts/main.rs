//! What our charts make, without a cluster: they are well-formed whatever values say, refuse what is no value by its
//! name, set nothing that the programs do not know, and grant nothing without a reason.
//! In the tier of the cluster for its tools: Helm is built with the cluster's other programs.

#![cfg(test)]

mod platforms;
mod render;
mod upstream;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::render::{CHARTS, chart, containers, helm, named, objects, pod};

/// Values that change what is made, each with the chart they are for.
const MATRIX: [(&str, &[&str]); 16] = [
    ("base", &[]),
    ("base", &["crds.install=never"]),
    ("istiod-lite", &[]),
    ("istiod-lite", &["revision=blue", "revisionTags={prod,canary}", "replicaCount=3"]),
    ("istiod-lite", &["networkPolicy.enabled=true", "plaintextDiscovery=true", "global.logAsJson=true"]),
    ("istiod-lite", &["validation.enabled=false", "caCertificates.secretName=", "env.ROOT_OVERLAP=1h"]),
    ("cni", &[]),
    ("cni", &["global.platform=k3s"]),
    ("cni", &["global.platform=openshift"]),
    ("cni", &["global.platform=gke", "istioOwnedCNIConfig=true", "ambient.shareHostNetworkNamespace=false"]),
    ("cni", &["ambient.enablementSelectors[0].podSelector.matchLabels.mesh=yes", "ambient.ipv6=false"]),
    ("ztunnel", &[]),
    (
        "ztunnel",
        &["revision=blue", "global.networkPolicy.enabled=true", "resources.limits.cpu=2", "logAsJson=true"],
    ),
    ("ztunnel", &["global.platform=gke", "env.SECRET_TTL=1h", "network=n1"]),
    ("ambit", &["global.tag=1.2.3", "global.hub=registry.example/ambit"]),
    ("ambit", &["cni.enabled=false", "base.crds.install=never", "global.imagePullSecrets={key}"]),
];

#[test]
fn every_chart_passes_helms_own_checks() {
    for name in CHARTS {
        helm(&["lint", "--strict", &chart(name)]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn whatever_values_say_the_objects_are_whole_and_no_two_are_the_same() {
    for (name, values) in MATRIX {
        let mut seen = BTreeSet::new();
        for object in objects(name, values) {
            let at = named(&object);
            assert!(
                object["apiVersion"].is_string() && object["kind"].is_string(),
                "{name} {values:?}: {at}"
            );
            assert!(
                object["metadata"]["name"].as_str().is_some_and(|it| !it.is_empty()),
                "{name} {values:?}: {at}"
            );
            assert!(seen.insert(at.clone()), "{name} {values:?}: {at} twice");
        }
        // All that one of them can be switched to is nothing at all.
        assert!(!seen.is_empty(), "{name} {values:?}");
    }
}

#[test]
fn a_value_that_is_none_is_refused_by_its_name() {
    let wrong = [
        ("base", "crds.install=perhaps", "install"),
        ("istiod-lite", "replicaCount=many", "replicaCount"),
        ("istiod-lite", "replicas=2", "replicas"),
        ("istiod-lite", "meshConfig.trustDomain=Not/One", "trustDomain"),
        ("istiod-lite", "validation.failurePolicy=Maybe", "failurePolicy"),
        ("istiod-lite", "profile=demo", "profile"),
        ("istiod-lite", "global.logging.level=loud", "level"),
        ("cni", "global.platform=mainframe", "platform"),
        ("cni", "cniBinDir=relative", "cniBinDir"),
        ("cni", "excludeNamespaces={Not_One}", "excludeNamespaces"),
        ("cni", "ambient.enabled=false", "enabled"),
        ("ztunnel", "xdsAddress=http://istiod:15012", "xdsAddress"),
        ("ztunnel", "resource.limits.cpu=1", "resource"),
        ("ztunnel", "updateStrategy.type=Whenever", "type"),
        ("ambit", "istiod_lite.replicaCount=2", "istiod_lite"),
        ("ambit", "ztunnel.logLevel=loud", "logLevel"),
        ("ambit", "global.hubb=x", "hubb"),
    ];
    for (name, value, word) in wrong {
        let error =
            helm(&["template", "x", &chart(name), "--kube-version", "1.34.0", "--set", value]).unwrap_err();
        assert!(
            error.contains("values don't meet the specifications") && error.contains(word),
            "{value}: {error}"
        );
    }
}

#[test]
fn every_setting_of_a_container_is_known_to_its_program() {
    let programs = [("istiod-lite", "istiod-lite", "run"), ("cni", "ambit-cni-node", "")];
    let reference = std::fs::read_to_string(chart("../../docs/reference.md")).unwrap();
    for (name, values) in MATRIX {
        for object in objects(name, values) {
            for container in containers(&object) {
                let image = container["image"].as_str().unwrap();
                let known = match programs.iter().find(|(part, ..)| image.contains(&format!("/{part}:"))) {
                    Some((_, program, command)) => help(program, command),
                    None => reference.clone(),
                };
                for setting in container["env"].as_array().into_iter().flatten() {
                    let key = setting["name"].as_str().unwrap();
                    let everybodys =
                        ["RUST_LOG", "LOG_FORMAT"].contains(&key) && reference.contains(&format!("`{key}`"));
                    let is_known =
                        known.contains(&format!("`{key}`")) || known.contains(&format!("[env: {key}="));
                    assert!(is_known || everybodys, "{name} {values:?}: {image} knows no {key}");
                }
            }
        }
    }
}

/// What a program says of itself.
fn help(program: &str, command: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_ambit-lab")).parent().unwrap();
    let words = [command, "--help"];
    let said =
        Command::new(folder.join(program)).args(words.iter().filter(|it| !it.is_empty())).output().unwrap();
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn every_pod_is_bounded_probed_and_without_rights_that_it_does_not_need() {
    for (name, values) in MATRIX {
        for object in objects(name, values) {
            let Some(pod) = pod(&object) else { continue };
            let at = format!("{name} {values:?}: {}", named(&object));
            let meta = object.pointer("/spec/template/metadata").unwrap();
            assert_eq!(meta["annotations"]["prometheus.io/scrape"], "true", "{at}");
            assert_eq!(meta["labels"]["istio.io/dataplane-mode"], "none", "{at}");
            assert!(pod["securityContext"]["seccompProfile"]["type"].is_string(), "{at}");
            assert_ne!(pod["hostPID"], true, "{at}");
            if object["kind"] == "DaemonSet" {
                assert_eq!(pod["priorityClassName"], "system-node-critical", "{at}");
            }
            for container in containers(&object) {
                assert!(container["resources"]["requests"]["memory"].is_string(), "{at}");
                assert!(container["readinessProbe"].is_object(), "{at}");
                let rights = &container["securityContext"];
                assert_eq!(rights["capabilities"]["drop"], serde_json::json!(["ALL"]), "{at}");
                assert_eq!(rights["readOnlyRootFilesystem"], true, "{at}");
                assert_eq!(rights["allowPrivilegeEscalation"], false, "{at}");
                assert_ne!(rights["privileged"], true, "{at}");
            }
        }
    }
}

/// A budget is made where it can be kept: of a single replica none could ever be drained.
#[test]
fn a_disruption_budget_is_for_several_replicas() {
    let budgets = |values: &[&str]| {
        let all = objects("istiod-lite", values);
        all.iter().filter(|it| it["kind"] == "PodDisruptionBudget").count()
    };
    assert_eq!((budgets(&[]), budgets(&["replicaCount=2"])), (0, 1));
}

#[test]
fn no_right_is_for_everything() {
    for name in CHARTS {
        for object in objects(name, &[]) {
            for rule in object["rules"].as_array().into_iter().flatten() {
                for member in ["apiGroups", "resources", "verbs"] {
                    let all = rule[member].as_array().unwrap();
                    assert!(!all.is_empty() && !all.contains(&Value::from("*")), "{name}: {rule}");
                }
            }
        }
    }
}

/// What parts of upstream look for by name, so that each may be replaced by itself.
#[test]
fn names_and_ports_are_those_that_upstreams_parts_look_for() {
    let all = objects("ambit", &[]);
    let find = |kind: &str, name: &str| {
        let found = all.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let service = find("Service", "istiod");
    let ports: BTreeSet<u64> =
        service["spec"]["ports"].as_array().unwrap().iter().filter_map(|it| it["port"].as_u64()).collect();
    assert_eq!(ports, BTreeSet::from([443, 15012, 15014]));
    assert_eq!(find("DaemonSet", "ztunnel")["spec"]["template"]["metadata"]["labels"]["app"], "ztunnel");
    let labels = &find("DaemonSet", "istio-cni-node")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["k8s-app"], "istio-cni-node");
    // By what upstream's Service selects, which keeps it when it is adopted.
    let labels = &find("Deployment", "istiod")["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["app"], &labels["istio"]), (&"istiod".into(), &"pilot".into()));
    find("ConfigMap", "istio");
    find("ServiceAccount", "istio-reader-service-account");
}
