//! Upstream's command line on our ztunnel: what people have in their fingers goes on working. Owns running it and what
//! its answers have to say.

use std::process::{Command, Stdio};
use std::time::Duration;

use ambit_cluster_lab::{Lab, upstream};
use anyhow::{Result, ensure};

/// What was changed a moment ago is known then.
const SOON: Duration = Duration::from_secs(20);

/// Reads every page of a proxy's dump, and changes its log.
pub(crate) fn reads_ours(lab: &Lab) -> Result<()> {
    let held = ["-n", "shop", "exec", "client", "--", "ambit", "pod", "hold", "http://web.shop/held"];
    let mut held = lab.kubectl_command(&held).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let read = reads_each_page(lab);
    held.kill()?;
    held.wait()?;
    read
}

fn reads_each_page(lab: &Lab) -> Result<()> {
    for (words, wanted) in [
        ("workload", &["shop", "web", "HBONE"][..]),
        ("service", &["shop", "web", "1/1"]),
        ("policy", &["shop", "deny", "Deny"]),
        ("certificate --node n2", &["spiffe://cluster.local/ns/shop/sa/web", "Leaf", "Root", "Available"]),
        ("connections --node n2", &["web.shop", "Inbound", "client.shop", "HBONE"]),
        ("all -o json", &["spiffe://cluster.local/ns/shop/sa/client", "certificates", "policies"]),
        ("log --level debug", &["log level is debug"]),
        ("log --level info", &["log level is info"]),
    ] {
        lab.wait(&format!("istioctl ztunnel-config {words}"), SOON, || {
            let said = run(lab, &format!("ztunnel-config {words}"))?;
            let missing = wanted.iter().find(|word| !said.contains(**word));
            ensure!(missing.is_none(), "it does not say {missing:?}:\n{said}");
            Ok(())
        })?;
    }
    knows_who_subscribes(lab)
}

/// It asks each control plane for its subscribers: every node's proxy has all that it was sent.
fn knows_who_subscribes(lab: &Lab) -> Result<()> {
    for (words, wanted) in [
        ("proxy-status", &["ztunnel-", "istiod-", "Kubernetes"][..]),
        ("proxy-status -o json", &["istio.workload.Address", "istio.security.Authorization", "SYNCED"]),
    ] {
        lab.wait(&format!("istioctl {words}"), SOON, || {
            let said = run(lab, words)?;
            let missing = wanted.iter().find(|word| !said.contains(**word));
            ensure!(missing.is_none(), "it does not say {missing:?}:\n{said}");
            eprintln!("istioctl {words}:\n{said}");
            Ok(())
        })?;
    }
    Ok(())
}

fn run(lab: &Lab, words: &str) -> Result<String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "30"]).arg(upstream()?.tool);
    command.args(words.split(' ')).env("KUBECONFIG", lab.kubeconfig()).env("HOME", lab.layout().dir());
    let output = command.output()?;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "istioctl {words}: {complained}{said}");
    Ok(said.into_owned())
}
