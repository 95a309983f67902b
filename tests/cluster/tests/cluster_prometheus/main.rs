//! Dashboards and alerts beside a real Prometheus that scrapes a real mesh: every question of every panel has an
//! answer, every metric is what the documents say, no alert fires without its fault, and alerts fire with theirs.

#![cfg(test)]

mod discovery;
mod server;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use ambit_cluster_lab::mesh::{SHOP, SYSTEM, pod, told};
use ambit_cluster_lab::{Lab, boards};
use anyhow::{Result, ensure};

use crate::discovery::Discovery;
use crate::server::{Prometheus, needed};

const PODS: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(90);
const REPLACED: Duration = Duration::from_secs(240);

/// Metrics of what does not happen in this story, with the reason.
const NOT_SEEN: [(&str, &str); 3] = [
    ("istio_crl_policy_rejections_total", "registered where revocation lists are given"),
    ("istio_dns_upstream_failures_total", "the cluster's name server always answers"),
    ("istio_on_demand_dns_total", "no workload of this mesh has a name for an address"),
];

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: deny, namespace: shop }
spec:
  action: DENY
  selector: { matchLabels: { app: web } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/client] } }] }]
";

/// A pod outside of the mesh.
const OUTSIDE: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: outside }
---
apiVersion: v1
kind: Pod
metadata: { name: stranger, namespace: outside, labels: { app: stranger } }
spec:
  nodeName: n2
  terminationGracePeriodSeconds: 1
  containers: [{ name: app, image: 'localhost/ambit-lab-app:1' }]
";

#[test]
fn alerts_are_well_formed_and_each_fires_beside_its_fault_and_none_beside_a_healthy_mesh() {
    needed().unwrap();
    for arguments in [["check", "rules", "ambit.rules.yaml"], ["test", "rules", "ambit.tests.yaml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(boards::alerts()).output().unwrap();
        let said =
            [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
        assert!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
    }
}

#[test]
fn every_question_of_the_dashboards_has_an_answer_and_alerts_tell_faults_of_a_real_mesh() {
    needed().unwrap();
    told("prometheus", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    lab.apply(SHOP)?;
    lab.apply(OUTSIDE)?;
    lab.apply(&pod("web", "n2"))?;
    lab.apply(&pod("client", "n1"))?;
    lab.install_mesh(&[])?;
    lab.enrol("shop")?;
    lab.is_in("shop", "web")?;
    lab.is_in("shop", "client")?;
    let discovery = Discovery::new(lab)?;
    std::thread::scope(|scope| {
        scope.spawn(|| discovery.serve(lab));
        let told = watched(lab, &discovery);
        discovery.end();
        told
    })
}

fn watched(lab: &Lab, discovery: &Discovery) -> Result<()> {
    let prometheus = Prometheus::start(lab, discovery)?;
    scrapes_every_part(lab, &prometheus)?;
    happens(lab)?;
    answers(lab, &prometheus)?;
    lists(&prometheus)?;
    lab.wait("alerts to be over", SOON, || calm(&prometheus))?;
    tells_that_a_node_has_no_proxy(lab, &prometheus)?;
    tells_that_the_control_plane_is_down(lab, &prometheus)
}

/// By the annotations of the charts, and by nothing else.
fn scrapes_every_part(lab: &Lab, prometheus: &Prometheus) -> Result<()> {
    let parts =
        [(r#"up{app="istiod"}"#, 1), (r#"up{app="ztunnel"}"#, 2), (r#"up{k8s_app="istio-cni-node"}"#, 2)];
    for (part, pods) in parts {
        lab.wait(&format!("{part} to be scraped"), SOON, || {
            let up = prometheus.ask(&format!("{part} == 1"))?;
            ensure!(up.len() == pods, "{} of {pods} are: {up:?}", up.len());
            Ok(())
        })?;
    }
    Ok(())
}

/// One of everything that is counted.
fn happens(lab: &Lab) -> Result<()> {
    lab.wait("the two ends to know of each other", SOON, || lab.fetch("shop/client", "http://web.shop/"))?;
    // New pods, and one that goes.
    lab.apply(&pod("late", "n1"))?;
    lab.pods_ready("shop", "app=late", PODS)?;
    lab.delete(&pod("late", "n1"))?;
    // A failure, and an object that is reviewed.
    lab.apply(DENY)?;
    lab.wait("the policy to be in force", SOON, || {
        ensure!(lab.fetch("shop/client", "http://web.shop/denied").is_err(), "it was let in");
        Ok(())
    })?;
    lab.delete(DENY)?;
    // Names that are not of the mesh.
    ensure!(lab.fetch("shop/client", "http://nothing.example/").is_err(), "there is no such host");
    // Who comes to the tunnels' port without a certificate.
    let address = lab.kubectl(&["-n", "shop", "get", "pod", "web", "-o", "jsonpath={.status.podIP}"])?;
    ensure!(lab.fetch("outside/stranger", &format!("http://{address}:15008/")).is_err(), "it was let in");
    // Streams to the control plane that end.
    lab.kubectl(&["-n", SYSTEM, "rollout", "restart", "deployment/istiod"])?;
    let status = ["-n", SYSTEM, "rollout", "status", "deployment/istiod", "--timeout=60s"];
    lab.wait("the control plane to be replaced", REPLACED, || lab.kubectl(&status))?;
    lab.wait("connections after that", SOON, || lab.fetch("shop/client", "http://web.shop/"))?;
    Ok(())
}

/// Every panel shows something, and every variable has something to choose.
fn answers(lab: &Lab, prometheus: &Prometheus) -> Result<()> {
    let mut open = boards::dashboards()?;
    let asked = open.len();
    lab.wait("every panel to show something", SOON, || {
        for question in std::mem::take(&mut open) {
            if prometheus.ask(&question.expr)?.is_empty() {
                open.push(question);
            }
        }
        let empty: Vec<String> = open.iter().map(|it| format!("{}\n    {}", it.at, it.expr)).collect();
        ensure!(empty.is_empty(), "nothing is shown by\n  {}", empty.join("\n  "));
        Ok(())
    })?;
    println!("{asked} questions of dashboards have answers");
    Ok(())
}

/// The page of metrics says what is scraped: no more, no less.
fn lists(prometheus: &Prometheus) -> Result<()> {
    // Also of pods that were replaced meanwhile.
    let ours =
        r#"group by (__name__) (last_over_time({job="kubernetes-pods",namespace="istio-system"}[10m]))"#;
    let scraped = prometheus.ask(ours)?;
    let name = |it: &serde_json::Value| it["metric"]["__name__"].as_str().map(str::to_owned);
    let is_prometheus = |it: &str| it == "up" || it.starts_with("scrape_") || it.starts_with("ALERTS");
    let scraped: BTreeSet<String> = scraped.iter().filter_map(name).filter(|it| !is_prometheus(it)).collect();
    let mut listed = boards::listed()?;
    let unlisted: Vec<_> = scraped.difference(&listed).collect();
    ensure!(unlisted.is_empty(), "scraped, and not in docs/metrics.md: {unlisted:?}");
    listed.retain(|it| !NOT_SEEN.iter().any(|(name, _)| it == name));
    // This mesh has none; what they register is compared with the page by itself.
    let of_waypoints = boards::of_waypoints_alone()?;
    listed.retain(|it| !of_waypoints.contains(it));
    let missing: Vec<_> = listed.difference(&scraped).collect();
    ensure!(missing.is_empty(), "in docs/metrics.md, and not scraped: {missing:?}");
    Ok(())
}

fn calm(prometheus: &Prometheus) -> Result<()> {
    let rules = prometheus.api("rules")?;
    let rules = rules["groups"].as_array().into_iter().flatten().flat_map(|it| it["rules"].as_array());
    for rule in rules.flatten() {
        ensure!(rule["health"] == "ok", "{} cannot be evaluated: {}", rule["name"], rule["lastError"]);
    }
    let alerts = prometheus.alerts()?;
    ensure!(alerts.is_empty(), "{alerts:?}");
    Ok(())
}

fn fires(lab: &Lab, prometheus: &Prometheus, alert: &str) -> Result<()> {
    lab.wait(&format!("{alert} to fire"), SOON, || {
        let alerts = prometheus.alerts()?;
        ensure!(alerts.contains(&format!("{alert} firing")), "there are {alerts:?}");
        Ok(())
    })
}

fn tells_that_a_node_has_no_proxy(lab: &Lab, prometheus: &Prometheus) -> Result<()> {
    let patch = |to: &str| {
        let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{to}}}}}}}}}"#);
        lab.kubectl(&["-n", SYSTEM, "patch", "daemonset", "ztunnel", "-p", &patch])
    };
    patch(r#"{"nowhere":"yes"}"#)?;
    fires(lab, prometheus, "AmbitNodeProxyDown")?;
    // A pod that is to join, and cannot.
    lab.enrol("outside")?;
    fires(lab, prometheus, "AmbitPodsNotEnrolled")?;
    patch(r#"{"nowhere":null}"#)?;
    lab.mesh_ready()?;
    lab.is_in("outside", "stranger")?;
    lab.wait("alerts to be over", SOON, || calm(prometheus))
}

fn tells_that_the_control_plane_is_down(lab: &Lab, prometheus: &Prometheus) -> Result<()> {
    let scale = |replicas: &str| lab.kubectl(&["-n", SYSTEM, "scale", "deployment/istiod", replicas]);
    scale("--replicas=0")?;
    fires(lab, prometheus, "AmbitControlPlaneDown")?;
    scale("--replicas=1")?;
    lab.pods_ready(SYSTEM, "app=istiod", PODS)?;
    lab.wait("alerts to be over", SOON, || calm(prometheus))
}
