//! The test cluster itself: what later tests rely on holds, and nothing of it is left.

mod traces;

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ambit_cluster_lab::{APP, Component, Lab, mesh, pause};
use anyhow::{Context as _, Result, ensure};
use traces::{Machine, Traces};

/// Pods on a busy machine, from nothing.
const PODS: Duration = Duration::from_secs(180);
/// After a reboot containerd and kubelet first clear up what was.
const AFTER_REBOOT: Duration = Duration::from_secs(240);
/// What one look at a running cluster may take to come true.
const SOON: Duration = Duration::from_secs(90);

/// Says to this program that it is the story that is killed.
const VICTIM: &str = "AMBIT_SMOKE_VICTIM";

/// One at a time: a test looks at all links of clusters on this machine.
static ALONE: Mutex<()> = Mutex::new(());

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: web } } }
      containers:
        - name: web
          image: "$APP"
          securityContext: { runAsNonRoot: true }
          readinessProbe: { httpGet: { path: /ready, port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: shop, labels: { app: client } }
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers: [{ name: client, image: "$APP" }]
---
apiVersion: v1
kind: Pod
metadata: { name: holder, namespace: shop, labels: { app: holder } }
spec:
  terminationGracePeriodSeconds: 1
  # It ends, and is started again, as long as there is nobody to talk to.
  containers: [{ name: holder, image: "$APP", command: [ambit, pod], args: [hold, "http://web.shop/held"] }]
---
apiVersion: v1
kind: Pod
metadata: { name: deaf, namespace: shop, labels: { app: deaf } }
spec:
  terminationGracePeriodSeconds: 1
  containers: [{ name: deaf, image: "$APP", readinessProbe: { httpGet: { path: /, port: 9 }, periodSeconds: 1 } }]
"#;

/// The webhook's backend speaks no TLS and hangs up: that the API server complains of this shows that it reached it.
const WEBHOOK: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: { name: smoke }
webhooks:
  - name: smoke.ambit.test
    clientConfig: { service: { namespace: shop, name: web, port: 80, path: /judge } }
    rules: [{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps] }]
    objectSelector: { matchLabels: { judged: "yes" } }
    failurePolicy: Fail
    timeoutSeconds: 5
    sideEffects: None
    admissionReviewVersions: [v1]
"#;

#[test]
fn a_cluster_comes_up_works_survives_a_crash_and_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let machine = Machine::look();
    let traces = Traces::named(&format!("smoke-{}", std::process::id()));
    let lab = Lab::up("smoke").unwrap();
    let seen = traces.found();
    for kind in ["process", "mount", "link", "route", "group", "folder"] {
        assert!(seen.iter().any(|one| one.starts_with(kind)), "no {kind} of a cluster that is up: {seen:?}");
    }
    mesh::on(&lab, "smoke", story).unwrap();
    lab.down().unwrap();
    assert_eq!(traces.found(), Vec::<String>::new());
    assert_eq!(Machine::look(), machine, "the machine is as it was");
}

/// At several moments of the way up, the program that brings it up is killed.
#[test]
fn a_cluster_whose_making_was_killed_is_taken_down_to_the_last_trace() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for after in [30, 300, 1500, 4000].map(Duration::from_millis) {
        let machine = Machine::look();
        let name = format!("killed-{}", std::process::id());
        let lab = |what: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-lab"));
            command.args(["--name", &name, what]).stdout(Stdio::null());
            command
        };
        let mut up = lab("up").spawn().unwrap();
        let traces = Traces::named(&name);
        pause(after);
        up.kill().unwrap();
        up.wait().unwrap();
        let seen = traces.found();
        assert!(
            after < Duration::from_secs(1) || !seen.is_empty(),
            "after {after:?} there must be something to clear"
        );
        assert!(lab("down").status().unwrap().success(), "after {after:?}");
        assert_eq!(traces.found(), Vec::<String>::new(), "after {after:?} there was {seen:?}");
        assert_eq!(Machine::look(), machine, "after {after:?}");
    }
}

/// A story is killed amid its cluster's making. Nobody takes the cluster down but what watches over the story.
#[test]
fn a_story_that_is_killed_leaves_nothing() {
    if std::env::var_os(VICTIM).is_some() {
        let _lab = Lab::up("victim").unwrap();
        return pause(SOON);
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let machine = Machine::look();
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "a_story_that_is_killed_leaves_nothing", "--nocapture"]).env(VICTIM, "yes");
    let mut victim = victim.stdout(Stdio::null()).spawn().unwrap();
    let traces = Traces::named(&format!("victim-{}", victim.id()));
    until("a node to have been started", || {
        let seen = traces.found();
        ensure!(seen.iter().any(|one| one.starts_with("process") && one.contains("containerd")), "{seen:?}");
        Ok(())
    });
    victim.kill().unwrap();
    victim.wait().unwrap();
    until("nothing to be left", || {
        let left = traces.found();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    assert_eq!(Machine::look(), machine, "the machine is as it was");
}

fn until(what: &str, mut look: impl FnMut() -> Result<()>) {
    let begun = Instant::now();
    while let Err(error) = look() {
        assert!(begun.elapsed() < SOON, "waited for {what}: {error:#}");
        pause(Duration::from_millis(100));
    }
}

fn story(lab: &Lab) -> Result<()> {
    lab.apply(&SHOP.replace("$APP", APP))?;
    lab.pods_ready("shop", "app in (web, client)", PODS)?;
    talk(lab)?;
    judge(lab)?;
    look(lab)?;
    outage(lab)?;
    crash(lab)
}

/// By service name, and by address to the other node, over the bridge between them.
fn talk(lab: &Lab) -> Result<()> {
    // Ready pods are heard of by each node's kube-proxy in its own time.
    let said = lab.wait("the service to be known to the client's node", SOON, || {
        lab.fetch("shop/client", "http://web.shop.svc.cluster.local/by-name")
    })?;
    ensure!(said.contains("\"/by-name\""), "{said}");
    let far = pod_on(lab, "n2")?;
    let capture = lab.capture()?;
    let said =
        lab.pod_exec("shop/client", &["ambit", "pod", "fetch", &format!("http://{far}:8080/across-nodes")])?;
    ensure!(said.contains("\"/across-nodes\""), "{said}");
    let frames = capture.finish();
    ensure!(
        frames.contain(b"GET /across-nodes"),
        "not seen among {} frames between the nodes",
        frames.count()
    );
    ensure!(frames.with_port(8080) > 0, "no frame of the connection");
    Ok(())
}

/// Webhooks are called by the address of their service.
fn judge(lab: &Lab) -> Result<()> {
    lab.apply(WEBHOOK)?;
    let judged = "{apiVersion: v1, kind: ConfigMap, metadata: {name: judged, namespace: shop, labels: {judged: 'yes'}}}";
    lab.wait("the webhook to be asked", SOON, || {
        let refused = lab.apply(judged).err();
        // Until the API server knows of the webhook, the object is let in.
        if refused.is_none() {
            lab.delete(judged)?;
        }
        let refused = format!("{:#}", refused.context("it was let in")?);
        // Anything else, such as a refused connection or a timeout, would mean that nobody was reached.
        ensure!(refused.contains("failed calling webhook") && refused.ends_with(": EOF"), "{refused}");
        Ok(())
    })?;
    lab.delete(WEBHOOK)
}

/// Logs, probes, programs on nodes.
fn look(lab: &Lab) -> Result<()> {
    lab.wait("the holder's log", SOON, || {
        let logs = lab.kubectl(&["-n", "shop", "logs", "holder"])?;
        ensure!(logs.contains("\"held\":true"), "it is {logs:?}");
        Ok(())
    })?;
    lab.wait("the probe of a port that is closed to fail", SOON, || {
        let events =
            lab.kubectl(&["-n", "shop", "get", "events", "--field-selector=involvedObject.name=deaf"])?;
        ensure!(events.contains("Readiness probe failed"), "{events}");
        Ok(())
    })?;
    let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    ensure!(lab.kubectl(&["-n", "shop", "get", "pod", "deaf", "-o", ready])? == "False");
    let node = lab.node("n1")?;
    ensure!(node.exec(&["hostname"])?.trim() == "n1");
    ensure!(node.exec(&["ctr", "-n", "k8s.io", "images", "list", "-q"])?.contains(APP));
    ensure!(node.read("/etc/cni/net.d/10-lab.conflist")?.contains("bridge"));
    ensure!(node.exec(&["false"]).is_err(), "a failing program is an error");
    Ok(())
}

/// A part of the control plane goes and comes back.
fn outage(lab: &Lab) -> Result<()> {
    lab.kill(Component::ApiServer)?;
    ensure!(lab.kubectl(&["get", "nodes", "--request-timeout=2s"]).is_err(), "the API server is down");
    lab.start(Component::ApiServer)?;
    lab.wait("the API server", SOON, || lab.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]))?;
    Ok(())
}

/// A power failure, in which the disk survives.
fn crash(lab: &Lab) -> Result<()> {
    let node = lab.node("n2")?;
    node.write("/etc/kept", "on disk\n")?;
    node.write("/run/lost", "in memory\n")?;
    let before = pod_on(lab, "n2")?;
    node.crash()?;
    ensure!(node.exec(&["true"]).is_err(), "a node that is down runs nothing");
    let fetch = format!("http://{before}:8080/x");
    ensure!(lab.pod_exec("shop/client", &["ambit", "pod", "fetch", &fetch]).is_err(), "its pods are down");
    lab.start_node("n2")?;
    ensure!(node.read("/etc/kept")? == "on disk\n");
    ensure!(node.read("/run/lost").is_err(), "memory does not survive");
    lab.wait("the pod to come back on n2", AFTER_REBOOT, || {
        let far = pod_on(lab, "n2")?;
        let fetch = format!("http://{far}:8080/again");
        let said = lab.pod_exec("shop/client", &["ambit", "pod", "fetch", &fetch])?;
        ensure!(said.contains("\"/again\""), "{said}");
        Ok(())
    })?;
    lab.pods_ready("shop", "app in (web, client)", AFTER_REBOOT)
}

/// The address of the pod of `web` on this node.
fn pod_on(lab: &Lab, node: &str) -> Result<String> {
    let on_node = format!("--field-selector=spec.nodeName={node}");
    let address = "jsonpath={.items[0].status.podIP}";
    let found = lab.kubectl(&["-n", "shop", "get", "pods", "-l", "app=web", &on_node, "-o", address])?;
    ensure!(!found.is_empty(), "no pod of web is on {node}");
    Ok(found)
}
