//! A Prometheus in the cluster, scraping as docs/metrics.md says, and asked over HTTP as Grafana asks it.
//! Owns starting it and talking to it. What is asked is the story's.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ambit_cluster_lab::{Lab, boards, get};
use ambit_images::Image;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::discovery::{Discovery, KUBERNETES};

const PROGRAM: &str = "/usr/bin/prometheus";
const IMAGE: &str = "localhost/ambit-lab-prometheus:1";
const NAMESPACE: &str = "monitoring";
const PORT: u16 = 9090;
const STARTED: Duration = Duration::from_secs(180);

/// Where it answers.
pub(crate) struct Prometheus(SocketAddr);

/// Says how to get what this story is about, when it is not there.
pub(crate) fn needed() -> Result<()> {
    for program in [PROGRAM, "/usr/bin/promtool"] {
        ensure!(
            Path::new(program).is_file(),
            "{program} is missing on this machine: `apt-get install -y prometheus`"
        );
    }
    Ok(())
}

impl Prometheus {
    /// Starts it on the first node.
    pub(crate) fn start(lab: &Lab, discovery: &Discovery) -> Result<Self> {
        let image = Image::new(IMAGE).program("prometheus", Path::new(PROGRAM))?;
        let tar = lab.layout().dir().join("prometheus.tar");
        image.entrypoint(&["/prometheus"]).user(0, 0).write(&tar)?;
        lab.node("n1")?.import_image(&tar)?;
        std::fs::remove_file(&tar)?;
        lab.apply(&serde_json::to_string(&manifest(&configuration(discovery)?)?)?)?;
        lab.pods_ready(NAMESPACE, "app=prometheus", STARTED)?;
        Ok(Self(SocketAddr::from((lab.spec().slot.node(1), PORT))))
    }

    /// The samples that a question has for an answer now.
    pub(crate) fn ask(&self, expr: &str) -> Result<Vec<Value>> {
        let data = self.api(&format!("query?query={}", escaped(expr)))?;
        data["result"].as_array().cloned().with_context(|| format!("{expr}: {data}"))
    }

    /// Alerts that fire now, or are about to.
    pub(crate) fn alerts(&self) -> Result<Vec<String>> {
        let data = self.api("alerts")?;
        let alerts = data["alerts"].as_array().into_iter().flatten();
        Ok(alerts.map(|it| format!("{} {}", text(&it["labels"]["alertname"]), text(&it["state"]))).collect())
    }

    /// Its API, below `/api/v1/`.
    pub(crate) fn api(&self, path: &str) -> Result<Value> {
        let body = get(self.0, &format!("/api/v1/{path}"))?;
        let answer: Value = serde_json::from_str(&body)?;
        if answer["status"] != "success" {
            bail!("{path}: {answer}");
        }
        Ok(answer["data"].clone())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let each = text
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    each.collect()
}

/// The configuration as people are told it, only quicker, and told of pods by us.
fn configuration(discovery: &Discovery) -> Result<String> {
    let told = boards::scraping()?;
    ensure!(told.contains(KUBERNETES), "the documented configuration finds pods otherwise");
    let told = told.replace(KUBERNETES, &discovery.configuration()?);
    let head = "global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [/etc/prometheus/ambit.rules.yaml]\n";
    Ok(format!("{head}{told}"))
}

/// Alerts as people get them, only more impatient.
fn rules() -> Result<String> {
    let text = std::fs::read_to_string(boards::alerts().join("ambit.rules.yaml"))?;
    let lines = text.lines().map(|line| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 2s"),
        _ => line.to_owned(),
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn manifest(configuration: &str) -> Result<Value> {
    let named = |name: &str| json!({ "name": name, "namespace": NAMESPACE });
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": named("prometheus"),
            "data": { "prometheus.yml": configuration, "ambit.rules.yaml": rules()? },
        },
        pod(),
    ]}))
}

/// In the node's own network: it is asked from this machine, and goes on whatever becomes of the mesh.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "prometheus", "namespace": NAMESPACE, "labels": { "app": "prometheus" } },
        "spec": {
            "nodeName": "n1",
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "prometheus",
                "image": IMAGE,
                "args": [
                    "--config.file=/etc/prometheus/prometheus.yml",
                    "--storage.tsdb.path=/data",
                    format!("--web.listen-address=0.0.0.0:{PORT}"),
                ],
                "readinessProbe": { "httpGet": { "path": "/-/ready", "port": PORT }, "periodSeconds": 1 },
                "volumeMounts": [
                    { "name": "configuration", "mountPath": "/etc/prometheus" },
                    { "name": "data", "mountPath": "/data" },
                ],
            }],
            "volumes": [
                { "name": "configuration", "configMap": { "name": "prometheus" } },
                { "name": "data", "emptyDir": {} },
            ],
        },
    })
}
