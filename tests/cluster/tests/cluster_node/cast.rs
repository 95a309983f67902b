//! Who plays: a server, a client, and pods that speak from their first moment on. Owns manifests, and what is said of
//! such a pod at its end.

use ambit_cluster_lab::mesh::{SHOP, pod};
use ambit_cluster_lab::{APP, Lab};
use anyhow::{Context as _, Result, ensure};

use crate::{PODS, SOON};

/// Where troubles are. The server is on the other node, so that all that is said passes between hosts.
pub(crate) const NODE: &str = "n1";

pub(crate) fn all() -> String {
    format!("{SHOP}---\n{}\n---\n{}\n---\n{}", pod("web", "n2"), pod("client", NODE), pod("unvisited", "n2"))
}

/// A pod that asks the server for a path of its own name, until it is killed: what it says before it is protected can
/// be read between the hosts.
pub(crate) fn eager(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}, spec: {{\
         nodeName: {NODE}, serviceAccountName: client, terminationGracePeriodSeconds: 1, containers: [{{\
         name: app, image: '{APP}', stdin: true, \
         command: [ambit, pod, load, --every-ms, '50', 'http://web.shop/{name}']}}]}}}}\n"
    )
}

/// Does something that no pod of the mesh may notice, with requests from one that runs; what these pods say, which
/// begin meanwhile, is readable nowhere. In the end they are all in the mesh.
pub(crate) fn over(lab: &Lab, what: &str, pods: &[&str], trouble: impl FnOnce() -> Result<()>) -> Result<()> {
    let begun = std::time::Instant::now();
    let wire = lab.capture()?;
    let load = lab.load("shop/client", "http://web.shop/running", 50)?;
    trouble().with_context(|| what.to_owned())?;
    for name in pods {
        lab.pods_ready("shop", &format!("app={name}"), PODS).with_context(|| what.to_owned())?;
        lab.is_in("shop", name)?;
        lab.wait(&format!("{name}'s word to arrive"), SOON, || {
            let said = lab.kubectl(&["-n", "shop", "logs", name])?;
            ensure!(said.lines().any(|line| line.contains("\"passes\":true")), "it says {said:?}");
            Ok(())
        })?;
    }
    let (load, frames) = (load.finish()?, wire.finish());
    ensure!(frames.missed() == 0, "{what}: {} frames were not looked at", frames.missed());
    for name in pods.iter().chain(&["running"]) {
        let readable = format!("GET /{name}");
        ensure!(!frames.contain(readable.as_bytes()), "{what}: what {name} says can be read");
    }
    ensure!(load.sent > 0 && load.failed == 0, "{what}: {load:?}");
    let (seconds, count) = (begun.elapsed().as_secs_f32(), frames.count());
    eprintln!("{what}: {seconds:.1} s, {} requests, none failed, {count} frames looked at", load.sent);
    for name in pods {
        lab.kubectl(&["-n", "shop", "delete", "pod", name, "--wait=false"])?;
    }
    Ok(())
}
