//! A namespace of many running pods, labelled while they talk. Owns the pods, and the time until all are enrolled.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::api::{Api, Heard, until};
use super::ask::{Load, Total};
use super::table::{Times, ms, row};
use crate::images::APP;
use crate::lab::Lab;
use crate::mesh::SYSTEM;
use crate::wait::pause;

/// The namespace.
pub(super) const NAMESPACE: &str = "crowd";
/// Pods in it, half on each node.
pub(super) const PODS: usize = 50;
/// The port that pods answer on.
pub(super) const PORT: u16 = 8080;

/// How often it is put in and taken out.
const ROUNDS: usize = 3;
/// Pods take their time to start, two kubelets on two cores above all.
const STARTED: Duration = Duration::from_secs(300);
const ENROLLED: Duration = Duration::from_secs(60);
/// Between two requests of a client.
const EVERY: Duration = Duration::from_millis(10);
/// Failed connections that are shown.
const FAILURES_TOLD: usize = 12;
/// Requests go on this long before a change and after it.
const AROUND: Duration = Duration::from_secs(2);

/// Where a pod of the crowd is.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    pub(super) netns: PathBuf,
}

/// Pods that run.
pub(super) struct Crowd {
    service: SocketAddr,
    outside: Member,
    /// The first on each node.
    pub(super) first: [Member; 2],
}

/// Changes of one direction.
#[derive(Default)]
struct Change {
    took: Vec<Duration>,
    total: Total,
}

impl Change {
    fn add(&mut self, (took, sent): (Duration, Total)) {
        self.took.push(took);
        self.total = std::mem::take(&mut self.total).with(sent);
    }

    fn print(self, (what, mark): (&str, &str), failures: &str) {
        row(what, mark, &Times::new(self.took));
        let Total { sent, failed, longest, first_failure } = self.total;
        let seen = format!("{failed} of {sent}, the longest took {}", ms(longest));
        row("  requests failed meanwhile, from inside and outside", failures, &seen);
        if let Some(failure) = first_failure {
            row("  the first of them", "", &failure);
        }
    }
}

impl Crowd {
    /// Starts all of them.
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let mut yaml = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}\n---\n\
             {{apiVersion: v1, kind: Namespace, metadata: {{name: outside}}}}\n---\n\
             {{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {NAMESPACE}}}, \
             spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: {PORT}}}]}}}}\n"
        );
        for number in 0..PODS {
            write!(yaml, "---\n{}\n", manifest(NAMESPACE, &format!("p{number}"), number))?;
        }
        write!(yaml, "---\n{}\n", manifest("outside", "outside", 0))?;
        lab.wait("service accounts to be made", ENROLLED, || lab.apply(&yaml))?;
        for namespace in [NAMESPACE, "outside"] {
            lab.pods_ready(namespace, "app=web", STARTED)?;
        }
        let at = ["-n", NAMESPACE, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"];
        let service = SocketAddr::new(lab.kubectl(&at)?.parse::<IpAddr>()?, 80);
        let first = [member(lab, NAMESPACE, "p0", "n1")?, member(lab, NAMESPACE, "p1", "n2")?];
        Ok(Self { service, outside: member(lab, "outside", "outside", "n1")?, first })
    }

    /// Puts the namespace in and takes it out, several times, with requests all the while. Ends with it put in.
    pub(super) fn enrol(&self, lab: &Lab, api: &Api) -> Result<()> {
        let events = api.watch(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))?;
        let (mut entered, mut left) = (Change::default(), Change::default());
        for round in 0..ROUNDS {
            if round > 0 {
                left.add(self.change(api, &events, false)?);
            }
            entered.add(self.change(api, &events, true)?);
        }
        if entered.total.failed + left.total.failed > 0 {
            tell(lab);
        }
        entered.print(("namespace of 50 running pods labelled -> all enrolled", "3000 ms"), "0");
        left.print(("label taken off -> all let out", ""), "");
        Ok(())
    }

    fn change(&self, api: &Api, events: &Receiver<Heard>, is_in: bool) -> Result<(Duration, Total)> {
        let clients = self.first.iter().chain([&self.outside]);
        let loads: Vec<Load> =
            clients.map(|client| Load::start(client.netns.clone(), self.service, EVERY)).collect();
        pause(AROUND);
        let mode = if is_in { json!("ambient") } else { Value::Null };
        let label = json!({"metadata": {"labels": {"istio.io/dataplane-mode": mode}}});
        let (asked, _) = api.ask("PATCH", &format!("/api/v1/namespaces/{NAMESPACE}"), Some(&label))?;
        let done = all_are(events, is_in)?;
        pause(AROUND);
        let total = loads.into_iter().map(Load::finish).fold(Total::default(), Total::with);
        ensure!(total.sent > 0, "no request was sent: {:?}", total.first_failure);
        Ok((done.saturating_duration_since(asked.sent), total))
    }
}

/// What proxies say of connections that failed.
fn tell(lab: &Lab) {
    let asked = ["-n", SYSTEM, "logs", "-l", "app=ztunnel", "--tail=100000", "--prefix"];
    let said = lab.kubectl(&asked).unwrap_or_else(|error| format!("{error:#}"));
    let failed = said.lines().filter(|line| line.contains(" access") && line.contains("error="));
    failed.take(FAILURES_TOLD).for_each(|line| eprintln!("{line}"));
}

/// When the last of the pods was said to be in, or out.
fn all_are(events: &Receiver<Heard>, is_in: bool) -> Result<Instant> {
    let mut done = BTreeSet::new();
    until(events, ENROLLED, |heard| {
        let name = heard.object.pointer("/metadata/name")?.as_str()?;
        let word = heard.object.pointer("/metadata/annotations/ambient.istio.io~1redirection");
        if (word.and_then(Value::as_str) == Some("enabled")) == is_in {
            done.insert(name.to_owned());
        }
        (done.len() == PODS).then_some(heard.at)
    })
    .with_context(|| {
        format!("waiting for all to be {}; {} are", if is_in { "in" } else { "out" }, done.len())
    })
}

/// A pod that runs.
pub(super) fn member(lab: &Lab, namespace: &str, pod: &str, node: &str) -> Result<Member> {
    let address = lab.kubectl(&["-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.podIP}"])?;
    let netns = lab.node(node)?.pod_network(&address)?;
    Ok(Member { address: SocketAddr::new(address.parse()?, PORT), netns })
}

/// A pod that answers, on one of the two nodes in turn.
fn manifest(namespace: &str, name: &str, number: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": "web" } },
        "spec": {
            "nodeName": format!("n{}", number % 2 + 1),
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app",
                "image": APP,
                "readinessProbe": { "httpGet": { "path": "/ready", "port": PORT }, "periodSeconds": 5 },
            }],
        },
    })
}
