//! A mesh under a company's root, given in a secret as the documents say; another company's announced while requests
//! run: `docs/certificates.md` in a cluster whose API also has bundles of roots, which node
//! proxies read. Owns the story. An exchange in its own time takes a day and more: it is tested, with clocks that are
//! played, beside the authority, and so are lists of revoked certificates.

#![cfg(test)]

mod company;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ambit_cluster_lab::mesh::{SHOP, SYSTEM, chart, on, pod};
use ambit_cluster_lab::{Lab, Wish};
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::company::Company;

const PODS: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(90);
/// Short, so that the story can wait for an end; a mesh has a day and two.
const LIFETIME: &str = "60s";
/// Says nothing that a policy could say.
const NONSENSE: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: nonsense, namespace: shop }
spec: { action: DENY }
";

#[test]
fn a_companys_root_signs_and_another_is_announced_without_a_lost_request() {
    let lab = Lab::up_as("roots", Wish { trust_bundles: true }).unwrap();
    on(&lab, "roots", story).unwrap();
    lab.down().unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    lab.apply(SHOP)?;
    lab.apply(&pod("web", "n2"))?;
    lab.apply(&pod("client", "n1"))?;
    lab.pods_ready("shop", "app in (web, client)", PODS)?;
    lab.kubectl(&["create", "namespace", SYSTEM])?;
    let (first, second) = (Company::new("first")?, Company::new("second")?);
    first.is_given(lab)?;
    let life = format!("env.SECRET_TTL={LIFETIME}");
    // Piece by piece, as people do who have Helm; then with values of this story, each piece by itself again.
    lab.follow("docs/install.md", "By Helm alone")?;
    lab.mesh_ready()?;
    let upgrade = ["upgrade", "ztunnel", &chart("ztunnel"), "-n", SYSTEM, "--wait", "--timeout", "240s"];
    lab.helm(&[&upgrade[..], &["--set-string", &life, "--set", "rootsFrom=clusterTrustBundle"]].concat())?;
    lab.follow("docs/upgrade.md", "Piece by piece")?;
    lab.mesh_ready()?;
    lab.enrol("shop")?;
    for pod in ["web", "client"] {
        lab.is_in("shop", pod)?;
    }
    lab.wait("certificates under the first root", SOON, || are_signed_by(lab, &first, &["web", "client"]))?;
    for told in [config_map(lab)?, trust_bundle(lab)?] {
        ensure!(first.is_told_in(&told) && !second.is_told_in(&told), "told are {told}");
    }
    lab.wait("the first answer", SOON, || lab.fetch("shop/client", "http://web.shop/first"))?;
    announces(lab, &first, &second)
}

/// Both are told at once; the former signs on for a day at least, also under a control plane that has started anew.
fn announces(lab: &Lab, first: &Company, second: &Company) -> Result<()> {
    let load = lab.load("shop/client", "http://web.shop/announced", 50)?;
    second.is_given(lab)?;
    let both = || {
        for told in [config_map(lab)?, trust_bundle(lab)?] {
            ensure!(first.is_told_in(&told) && second.is_told_in(&told), "told are {told}");
        }
        Ok(())
    };
    lab.wait("both roots to be told", PODS, both)?;
    lab.kubectl(&["-n", SYSTEM, "delete", "pod", "-l", "app=istiod", "--wait"])?;
    lab.pods_ready(SYSTEM, "app=istiod", PODS)?;
    lab.apply(&pod("amid", "n1"))?;
    lab.pods_ready("shop", "app=amid", PODS)?;
    lab.wait("who came amid it to be answered", SOON, || lab.fetch("shop/amid", "http://web.shop/amid"))?;
    lab.wait("both roots to be told still", SOON, both)?;
    are_signed_by(lab, first, &["web", "client"])?;
    is_believed(lab)?;
    let load = load.finish()?;
    ensure!(load.sent > 0 && load.failed == 0, "while a root was announced: {load:?}");
    eprintln!("roots: announced: {} requests, none failed", load.sent);
    Ok(())
}

/// The API server asks the webhook, and believes its certificate.
fn is_believed(lab: &Lab) -> Result<()> {
    lab.wait("the webhook to be believed", SOON, || {
        let refused = lab.apply(NONSENSE).err().context("it was admitted")?;
        ensure!(format!("{refused:#}").contains("without rules"), "{refused:#}");
        Ok(())
    })
}

fn config_map(lab: &Lab) -> Result<String> {
    let shown = "jsonpath={.data.root-cert\\.pem}";
    lab.kubectl(&["-n", "shop", "get", "configmap", "istio-ca-root-cert", "-o", shown])
}

fn trust_bundle(lab: &Lab) -> Result<String> {
    let bundle =
        ["get", "clustertrustbundle", "istio.io:istiod-ca:root-cert", "-o", "jsonpath={.spec.trustBundle}"];
    lab.kubectl(&bundle)
}

/// Each of these accounts has a certificate that this company has signed, and that is shown as such by our command.
fn are_signed_by(lab: &Lab, company: &Company, accounts: &[&str]) -> Result<()> {
    let programs = Path::new(env!("CARGO_BIN_EXE_ambit-lab")).parent().context("a program is in a folder")?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60"]).arg(programs.join("ambit"));
    command.args(["ztunnel-config", "certificate", "-o", "json", "--kubeconfig"]).arg(lab.kubeconfig());
    let output = command.output()?;
    ensure!(output.status.success(), "ambit: {}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout)?;
    for account in accounts {
        let ends = format!("/ns/shop/sa/{account}");
        let mut seats = all.as_array().into_iter().flatten();
        let is_of = |it: &&Value| it["identity"].as_str().is_some_and(|it| it.ends_with(&ends));
        let seat = seats.find(is_of).with_context(|| format!("no certificate of {account} in {all}"))?;
        let chain = seat["certChain"].as_array().into_iter().flatten();
        let texts = chain.filter_map(|it| STANDARD.decode(it["pem"].as_str()?).ok());
        let text: String = texts.map(|it| String::from_utf8_lossy(&it).into_owned()).collect();
        ensure!(company.has_signed(&text), "{account}'s certificate was signed by another: {text}");
    }
    Ok(())
}
