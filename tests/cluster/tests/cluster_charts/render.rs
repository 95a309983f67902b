//! Charts rendered by Helm, and what is in them. Owns calling it and taking its output apart.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// All of ours.
pub(crate) const CHARTS: [&str; 5] = ["base", "istiod-lite", "cni", "ztunnel", "ambit"];

/// A chart's folder.
pub(crate) fn chart(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/helm").join(name).display().to_string()
}

/// Runs Helm; what it printed, or what it complained of.
pub(crate) fn helm(arguments: &[&str]) -> Result<String, String> {
    let program = ambit_cluster_lab::helm().unwrap();
    let output = Command::new(program).args(arguments).env("KUBECONFIG", "/dev/null").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr) + &text(&output.stdout))
    }
}

/// The objects that a chart makes with these values.
pub(crate) fn objects(name: &str, values: &[&str]) -> Vec<Value> {
    parsed(name, &template(name, values).unwrap_or_else(|error| panic!("{name} {values:?}: {error}")))
}

/// The objects that a chart makes with a file of values.
pub(crate) fn objects_of_file(name: &str, file: &str) -> Vec<Value> {
    let folder = chart(name);
    let text =
        helm(&["template", "x", &folder, "-n", "istio-system", "--kube-version", "1.34.0", "-f", file]);
    parsed(name, &text.unwrap_or_else(|error| panic!("{name} {file}: {error}")))
}

/// What a chart makes with these values, or why it makes nothing.
pub(crate) fn template(name: &str, values: &[&str]) -> Result<String, String> {
    let folder = chart(name);
    let mut arguments = vec!["template", "x", &folder, "-n", "istio-system", "--kube-version", "1.34.0"];
    for value in values {
        arguments.extend(["--set", value]);
    }
    helm(&arguments)
}

fn parsed(name: &str, text: &str) -> Vec<Value> {
    let documents = text
        .split("\n---")
        .map(|it| yaml_serde::from_str::<Value>(it).unwrap_or_else(|error| panic!("{name}: {error}\n{it}")));
    documents.filter(|it| !it.is_null()).collect()
}

/// Kind, namespace and name.
pub(crate) fn named(object: &Value) -> String {
    let meta = &object["metadata"];
    format!("{} {}/{}", object["kind"], meta["namespace"], meta["name"])
}

/// The pod that it makes, if it makes pods.
pub(crate) fn pod(object: &Value) -> Option<&Value> {
    object.pointer("/spec/template/spec")
}

/// The containers of its pods.
pub(crate) fn containers(object: &Value) -> impl Iterator<Item = &Value> {
    pod(object).and_then(|it| it["containers"].as_array()).into_iter().flatten()
}
