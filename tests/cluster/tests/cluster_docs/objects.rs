//! Every object that an API server holds, by kind and name, but for those that come and go by themselves.

use std::collections::BTreeSet;

use ambit_cluster_lab::Lab;
use anyhow::{Result, ensure};

/// What is told of others, what follows from others, and nodes' signs of life.
const BY_THEMSELVES: [&str; 5] =
    ["events", "events.events.k8s.io", "endpoints", "endpointslices.discovery.k8s.io", "componentstatuses"];

pub(crate) fn all(lab: &Lab) -> Result<BTreeSet<String>> {
    let kinds = lab.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !BY_THEMSELVES.contains(kind)).collect();
    ensure!(kinds.len() > 30, "it knows of {kinds:?} only");
    let shown = "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
    let said = lab.kubectl(&["get", &kinds.join(","), "-A", "-o", shown])?;
    Ok(said.lines().map(str::to_owned).collect())
}
