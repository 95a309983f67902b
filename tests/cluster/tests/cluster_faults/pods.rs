//! Pods that come and go: an application that is replaced, addresses that go from one pod to the next, a label that
//! is put on and taken off.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ambit_cluster_lab::mesh::SYSTEM;
use ambit_cluster_lab::{APP, Lab, pause};
use anyhow::{Context as _, Result, ensure};

use crate::{PODS, SOON, cast, kills, watch};

/// Pods that follow each other at one address.
const GENERATIONS: usize = 6;
/// After so many milliseconds the C library's resolver asks again: what it asked first was lost.
const ASKED_AGAIN: u64 = 5_000;
/// How often the label is put on and taken off.
const FLAPS: usize = 10;

/// A rolling restart under fifty requests a second, of an application that ends as soon as it is told to.
pub(crate) fn application_restarts(lab: &Lab) -> Result<()> {
    let what = "an application is replaced";
    watch::over(lab, what, || {
        let load = watch::fifty(lab, "web")?;
        for _ in 0..2 {
            lab.kubectl(&["-n", "shop", "rollout", "restart", "deployment/web"])?;
            kills::replaced(lab, "shop", "deployment/web")?;
            // The last of the old ones is told to go only now.
            pause(Duration::from_secs(2));
        }
        watch::unharmed(what, load).map(drop)
    })
}

/// Pods of two accounts have the same address one after the other, while the objects of those that have ended are
/// still there with it. Each asks in its first moment: only those of the one account are let in, so the identity
/// that is proven is that of the pod that has the address now.
pub(crate) fn addresses_are_reused(lab: &Lab) -> Result<()> {
    lab.apply(cast::NOT_THE_WEB)?;
    lab.wait("the policy to be in force", SOON, || {
        let ask =
            ["-n", "shop", "exec", "deploy/web", "--", "ambit", "pod", "fetch", "http://far.shop/private-no"];
        lab.kubectl(&ask).err().context("it was let in").map(drop)
    })?;
    let begun = Instant::now();
    let addresses = watch::over(lab, "addresses are reused", || {
        let mut addresses = BTreeMap::<String, Vec<&str>>::new();
        for number in 0..GENERATIONS {
            let account = if number % 2 == 0 { "client" } else { "web" };
            addresses.entry(generation(lab, number, account)?).or_default().push(account);
        }
        Ok(addresses)
    })?;
    let shared = addresses.values().any(|one| one.contains(&"client") && one.contains(&"web"));
    ensure!(shared, "no address was reused: {addresses:?}");
    eprintln!("addresses are reused: {addresses:?}");
    for (address, accounts) in &addresses {
        let proven = proven(lab, address, begun)?;
        ensure!(proven == *accounts, "{address} was of {accounts:?}, and proved to be of {proven:?}");
    }
    lab.delete(cast::NOT_THE_WEB)
}

/// The accounts whose certificates came from this address, one after the other, as the other node's ztunnel says.
fn proven(lab: &Lab, address: &str, since: Instant) -> Result<Vec<String>> {
    let on_node = "--field-selector=spec.nodeName=n2";
    let name = ["-n", SYSTEM, "get", "pods", "-l", "app=ztunnel", on_node, "-o", "name"];
    let (name, since) = (lab.kubectl(&name)?, format!("--since={}s", since.elapsed().as_secs() + 1));
    let logs = lab.kubectl(&["-n", SYSTEM, "logs", name.trim(), &since])?;
    let from = format!("src.addr={address}:");
    let accounts = logs.lines().filter(|line| line.contains(&from) && line.contains("direction=\"inbound\""));
    let account = |line: &str| {
        let (_, identity) = line.split_once("src.identity=\"spiffe://cluster.local/ns/shop/sa/")?;
        Some(identity.split_once('"')?.0.to_owned())
    };
    accounts.map(|line| account(line).with_context(|| line.to_owned())).collect()
}

/// One pod's life; returns the address it had.
fn generation(lab: &Lab, number: usize, account: &str) -> Result<String> {
    let name = format!("generation-{number}");
    let node = lab.node("n1")?;
    // Else the next pod gets the next address, and the first comes around again after two hundred others.
    node.exec(&["sh", "-c", "rm -f /run/cni/ipam/*/last_reserved_ip*"])?;
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{kind: generation}}}}, spec: \
         {{nodeName: n1, serviceAccountName: {account}, restartPolicy: Never, terminationGracePeriodSeconds: 1, \
         containers: [{{name: app, image: '{APP}', command: [ambit, pod, fetch, 'http://far.shop/private-reused']}}]}}}}"
    ))?;
    let wanted = if account == "web" { "Failed" } else { "Succeeded" };
    let state = ["-n", "shop", "get", "pod", &name, "-o", "jsonpath={.status.phase} {.status.podIP}"];
    let address = lab.wait(&format!("{name} to end"), PODS, || {
        let said = lab.kubectl(&state)?;
        let (phase, address) = said.split_once(' ').context("no state")?;
        ensure!(["Failed", "Succeeded"].contains(&phase), "it is {phase}");
        Ok((phase == wanted, address.to_owned()))
    });
    let (as_wanted, address) = address?;
    let logs = lab.kubectl(&["-n", "shop", "logs", &name]);
    ensure!(as_wanted, "{name} of {account} has not {wanted}: {logs:?}");
    let reserved = format!("test ! -e /run/cni/ipam/*/{address}");
    lab.wait(&format!("{name}'s address to be free"), SOON, || node.exec(&["sh", "-c", &reserved]))?;
    Ok(address)
}

/// Two pods whose namespace goes in and out, ends in, and never loses a connection.
pub(crate) fn a_label_flaps(lab: &Lab) -> Result<()> {
    let what = "a label flaps";
    lab.apply(&flapping())?;
    lab.pods_ready("flap", "app", PODS)?;
    lab.wait("the service", SOON, || lab.fetch("flap/one", "http://two.flap/flapping"))?;
    let load = lab.load("flap/one", "http://two.flap/flapping", 50)?;
    for number in 0..FLAPS {
        lab.enrol("flap")?;
        pause(Duration::from_millis(if number % 2 == 0 { 100 } else { 700 }));
        lab.kubectl(&["label", "namespace", "flap", "istio.io/dataplane-mode-"])?;
        pause(Duration::from_millis(if number % 3 == 0 { 100 } else { 500 }));
    }
    lab.enrol("flap")?;
    for pod in ["one", "two"] {
        lab.is_in("flap", pod)?;
    }
    lab.wait("the two ends to know of each other", SOON, || {
        let wire = lab.capture()?;
        lab.fetch("flap/one", "http://two.flap/settled")?;
        ensure!(!wire.finish().contain(b"GET /settled"), "readable on the wire");
        Ok(())
    })?;
    let naming = watch::unharmed(what, load)?.longest_naming_ms;
    ensure!(naming < ASKED_AGAIN, "{what}: a query for a name was lost: one waited {naming} ms");
    Ok(())
}

fn flapping() -> String {
    let (one, two) = (cast::pod(("flap", "one"), "n1", ""), cast::pod(("flap", "two"), "n2", ""));
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: flap}}}}\n---\n\
         {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: client, namespace: flap}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: two, namespace: flap}}, spec: {{selector: {{app: two}}, \
         ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}{one}{two}"
    )
}
