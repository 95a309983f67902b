//! The resource definitions of the chart `base` on a real API server: installed where nobody else has installed them,
//! accepted as they are, and holding what is written, also what they do not name.

use std::time::Duration;

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::{SYSTEM, chart};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

const OURS: [&str; 4] = [
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
];

/// A definition as somebody else has it.
const ANOTHERS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: authorizationpolicies.security.istio.io
  labels: { app: anothers }
spec:
  group: security.istio.io
  scope: Namespaced
  names: { kind: AuthorizationPolicy, listKind: AuthorizationPolicyList, plural: authorizationpolicies, singular: authorizationpolicy }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
";

/// A policy with a mistyped condition. Pruned, it would let in everybody.
pub(crate) const MISTYPED: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: mistyped, namespace: default }
spec:
  rules: [{ form: [{ source: { namespaces: [shop] } }] }]
";

/// Objects that are none, with what is to be told of them.
const WRONG: [(&str, &str); 5] = [
    (
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}, spec: {action: PERMIT}}",
        "spec.action",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}, spec: {targetRefs: [{kind: Service}]}}",
        "spec.targetRefs[0].name",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: x}, spec: {mtls: {mode: MAYBE}}}",
        "spec.mtls.mode",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x}, spec: {hosts: [a.example], ports: [{number: 70000, name: a}]}}",
        "spec.ports[0].number",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: x}, spec: {address: 10.0.0.1, weight: -1}}",
        "spec.weight",
    ),
];

pub(crate) fn are_installed_where_nobody_else_has(lab: &Lab) -> Result<()> {
    let base = chart("base");
    lab.apply(ANOTHERS)?;
    lab.helm(&["install", "base", &base, "-n", SYSTEM])?;
    let owners = |name: &str| -> Result<(String, String)> {
        let labels = "jsonpath={.metadata.labels.app},{.metadata.labels.app\\.kubernetes\\.io/part-of}";
        let said = lab.kubectl(&["get", "crd", name, "-o", labels])?;
        let (anothers, ours) = said.split_once(',').context("no labels")?;
        Ok((anothers.to_owned(), ours.to_owned()))
    };
    ensure!(owners(OURS[0])? == ("anothers".to_owned(), String::new()), "it was taken over");
    for name in &OURS[1..] {
        ensure!(owners(name)?.1 == "ambit", "{name} was not installed");
    }
    // Again, and without the other's: then it is ours to install.
    lab.helm(&["upgrade", "base", &base, "-n", SYSTEM])?;
    ensure!(owners(OURS[0])?.0 == "anothers", "it was taken over by an upgrade");
    lab.delete(ANOTHERS)?;
    lab.helm(&["upgrade", "base", &base, "-n", SYSTEM])?;
    ensure!(owners(OURS[0])?.1 == "ambit", "it was not installed when there was none");
    // Deleting a definition deletes everybody's objects: they outlive the release, and the next one finds them.
    lab.helm(&["uninstall", "base", "-n", SYSTEM])?;
    ensure!(OURS.iter().all(|name| owners(name).is_ok()), "a definition went with the release");
    lab.helm(&["install", "base", &base, "-n", SYSTEM])?;
    lab.wait("definitions to be in use", SOON, || OURS.iter().try_for_each(|name| is_sound(lab, name)))
}

fn is_sound(lab: &Lab, name: &str) -> Result<()> {
    let object: Value = serde_json::from_str(&lab.kubectl(&["get", "crd", name, "-o", "json"])?)?;
    let conditions = object["status"]["conditions"].as_array().context("no conditions")?;
    let is = |kind: &str| conditions.iter().any(|it| it["type"] == kind && it["status"] == "True");
    ensure!(is("Established") && is("NamesAccepted"), "{name}: {conditions:?}");
    ensure!(!is("NonStructuralSchema"), "{name}: {conditions:?}");
    Ok(())
}

pub(crate) fn hold_what_is_written(lab: &Lab) -> Result<()> {
    lab.wait("policies to be taken", SOON, || {
        lab.kubectl_with(&["apply", "--validate=ignore", "-f", "-"], MISTYPED)
    })?;
    let rule = [
        "get",
        "authorizationpolicy",
        "mistyped",
        "-o",
        "jsonpath={.spec.rules[0].form[0].source.namespaces[0]}",
    ];
    let kept = lab.kubectl(&rule)?;
    ensure!(kept == "shop", "a condition that nobody knows was lost without a word: {kept:?}");
    let shown = lab.kubectl(&["get", "ap"])?;
    ensure!(shown.starts_with("NAME") && shown.contains("ACTION"), "{shown}");
    let field = "authorizationpolicy.spec.rules.from.source.notIpBlocks";
    let explained = lab.kubectl(&["explain", field])?;
    ensure!(explained.contains("Peer addresses that must not match"), "{explained}");
    lab.delete(MISTYPED)?;
    for (object, field) in WRONG {
        let refused = lab.apply(object).err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains(field), "{object}: {refused:?}");
    }
    Ok(())
}
