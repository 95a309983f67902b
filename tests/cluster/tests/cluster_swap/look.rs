//! What the story looks at from outside: certificates, roots, what is left on nodes and in pods, what was refused.
//! Owns looking. What it means is the story's.

use std::path::Path;
use std::process::Command;

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::SYSTEM;
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The root that pods are told of.
pub(crate) fn root(lab: &Lab) -> Result<String> {
    lab.kubectl(&["-n", "shop", "get", "configmap", "istio-ca-root-cert", "-o", "jsonpath={.data}"])
}

/// Every certificate of the namespace `shop` is there, and was signed under the root that is kept in the secret.
pub(crate) fn certificates_are_of_the_secret(lab: &Lab) -> Result<()> {
    let kept = "jsonpath={.data.ca-cert\\.pem}";
    let kept = lab.kubectl(&["-n", SYSTEM, "get", "secret", "istio-ca-secret", "-o", kept])?;
    let kept = String::from_utf8(STANDARD.decode(kept.trim())?)?;
    let mut seen = 0;
    for (node, address) in pods(lab, "app=ztunnel")? {
        let dump = inside(lab, &node, &address, "curl -sf localhost:15000/config_dump")?;
        let dump: Value = serde_json::from_str(&dump)?;
        for each in dump["certificates"].as_array().context("no certificates in the dump")? {
            let identity = each["identity"].as_str().unwrap_or_default();
            if !identity.contains("/ns/shop/") {
                continue;
            }
            ensure!(each["state"] == "Available", "{identity} is {}", each["state"]);
            let root = each["rootCerts"][0]["pem"].as_str().context("no root in the dump")?;
            let root = String::from_utf8(STANDARD.decode(root)?)?;
            ensure!(root.trim() == kept.trim(), "{identity} is under another root:\n{root}\nand not\n{kept}");
            seen += 1;
        }
    }
    ensure!(seen >= 2, "only {seen} certificates were seen");
    Ok(())
}

/// No ztunnel has refused anything that upstream's control plane told it.
pub(crate) fn everything_was_accepted(lab: &Lab) -> Result<()> {
    let (node, address) = pods(lab, "app=istiod")?.into_iter().next().context("no control plane")?;
    let metrics = inside(lab, &node, &address, "curl -sf localhost:15014/metrics")?;
    let value = |name: &str| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    ensure!(value("pilot_xds_pushes") > 0.0, "it has pushed nothing:\n{metrics}");
    ensure!(value("pilot_total_xds_rejects") == 0.0, "something was refused:\n{metrics}");
    let states = inside(lab, &node, &address, "curl -sf localhost:8080/debug/syncz")?;
    let states: Value = serde_json::from_str(&states).with_context(|| states.clone())?;
    let clients = states.as_array().context("no list of clients")?;
    ensure!(clients.len() == lab.nodes()?.len(), "as many clients as nodes: {states}");
    for client in clients {
        let kinds = client["resources"].as_object().context("nothing was sent")?;
        ensure!(kinds.len() == 2, "addresses and policies: {client}");
        let pending = kinds.values().find(|kind| kind["acked"] != kind["sent"] || kind["acked"].is_null());
        ensure!(pending.is_none(), "it waits for an answer: {client}");
    }
    our_command_reads_upstreams(lab)
}

/// Who looks need not know whose control plane it is.
fn our_command_reads_upstreams(lab: &Lab) -> Result<()> {
    let programs = Path::new(env!("CARGO_BIN_EXE_ambit-lab")).parent().context("a program is in a folder")?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60"]).arg(programs.join("ambit")).arg("proxy-status");
    let output = command.arg("--kubeconfig").arg(lab.kubeconfig()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ambit proxy-status: {said}{wrong}");
    let synced = said.lines().filter(|it| it.contains("Address SYNCED, Authorization SYNCED")).count();
    ensure!(synced == lab.nodes()?.len(), "every node's proxy has taken all of it:\n{said}");
    Ok(())
}

/// Upstream's plugin, and its rules in pods and on nodes, are gone.
pub(crate) fn nothing_of_the_agents(lab: &Lab) -> Result<()> {
    for node in lab.nodes()? {
        let lists = node.exec(&["sh", "-c", "cat /etc/cni/net.d/*.conf*"])?;
        ensure!(!lists.contains("istio-cni\""), "still in the node's list:\n{lists}");
        let rules = "nft list ruleset; for it in /run/netns/*; do nsenter --net=$it nft list ruleset; done";
        let rules = node.exec(&["sh", "-c", rules])?;
        let left: Vec<&str> = rules.lines().filter(|line| is_the_agents(line)).collect();
        ensure!(left.is_empty(), "rules on {}: {left:#?}", node.name());
    }
    Ok(())
}

/// The agent has made its rules with the second backend.
pub(crate) fn uses_nftables(lab: &Lab) -> Result<()> {
    for node in lab.nodes()? {
        let tables = node.exec(&["nft", "list", "tables"])?;
        ensure!(tables.contains("istio-ambient-nat"), "tables on {}: {tables}", node.name());
    }
    Ok(())
}

/// Chains of iptables, or tables of nftables.
fn is_the_agents(line: &str) -> bool {
    line.contains("ISTIO_") || line.contains("istio-ambient")
}

/// Node and address of the mesh's pods with these labels.
fn pods(lab: &Lab, labels: &str) -> Result<Vec<(String, String)>> {
    let where_they_are = "jsonpath={range .items[*]}{.spec.nodeName} {.status.podIP}{\"\\n\"}{end}";
    let said = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", labels, "-o", where_they_are])?;
    let lines = said.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(node, address)| (node.to_owned(), address.to_owned())).collect())
}

/// Runs a command in the network of the pod with this address: what answers on its loopback is asked too.
fn inside(lab: &Lab, node: &str, address: &str, command: &str) -> Result<String> {
    let script = format!(
        "for it in /run/netns/*; do if nsenter --net=$it ip -o addr | grep -qF ' {address}/'; then \
         exec nsenter --net=$it {command}; fi; done; echo no pod has {address} >&2; exit 1"
    );
    lab.node(node)?.exec(&["sh", "-c", &script])
}
