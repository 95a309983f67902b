//! What a kubelet does for pods, done by `ambit local`: probes, restarts, pods of the node's own network.

use std::fs;

use ambit_kit::{eventually, pause};
use serde_json::Value;

use crate::CART;
use crate::mesh::{Mesh, SOON};

const STRICT: &str = include_str!("../../../../deploy/demo-steps/strict.yaml");

/// A pod on the other node than web, with these fields of its specification beside the usual ones.
fn pod(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: {namespace}, labels: {{ app: {name} }} }}\n\
         spec:\n  nodeName: node-2\n{spec}\n---\n"
    )
}

fn ready(mesh: &Mesh, pod: &str, wanted: bool) -> Result<Value, String> {
    let found = mesh.pod(pod)?;
    if found["ready"] == wanted { Ok(found) } else { Err(found.to_string()) }
}

fn restarts(pod: &Value) -> u64 {
    pod["containers"][0]["restarts"].as_u64().unwrap()
}

fn holds<T>(seen: &T, wanted: impl Fn(&T) -> bool) -> Result<(), String>
where
    T: std::fmt::Debug,
{
    if wanted(seen) { Ok(()) } else { Err(format!("{seen:?}")) }
}

#[test]
fn probes_reach_a_pod_that_refuses_plaintext_and_other_plaintext_does_not() {
    let mesh = Mesh::up("probes");
    mesh.write("strict.yaml", STRICT);
    let probed = "  containers:
  - name: app
    command: [ambit, pod, serve]
    ports: [{ name: http, containerPort: 8080 }]
    readinessProbe: { httpGet: { port: http, path: /ready }, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 20 }
    livenessProbe: { tcpSocket: { port: 8080 }, initialDelaySeconds: 2, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 20 }
  - name: other
    command: [ambit, pod, serve, --port, '9090']";
    let agent = "  hostNetwork: true\n  containers: [{ name: app, command: [sleep, infinity] }]";
    mesh.write("more.yaml", &(pod("shop", "probed", probed) + &pod("outside", "agent", agent)));
    eventually(SOON, || ready(&mesh, "shop/probed", true)).unwrap();
    eventually(SOON, || ready(&mesh, "outside/agent", true)).unwrap();
    let agent = mesh.pod("outside/agent").unwrap();
    assert!(agent["ips"][0].as_str().unwrap().starts_with("10.90."), "the node's own address: {agent}");
    eventually(SOON, || holds(&mesh.pod("shop/probed")?, |pod| pod["in_mesh"] == true)).unwrap();
    let address = mesh.pod("shop/probed").unwrap()["ips"][0].as_str().unwrap().to_owned();
    let (app, other) = (format!("http://{address}:8080"), format!("http://{address}:9090"));
    eventually(SOON, || mesh.refused("outside/visitor", &app)).unwrap();
    eventually(SOON, || mesh.refused("outside/agent", &other)).unwrap();
    // One failure would count: periods without one, while others are refused.
    for _ in 0..4 {
        pause(std::time::Duration::from_secs(1));
        mesh.refused("outside/visitor", &app).unwrap();
        mesh.refused("outside/agent", &other).unwrap();
        let found = ready(&mesh, "shop/probed", true).unwrap();
        assert_eq!(restarts(&found), 0, "{found}");
    }
    // It shares the node's network, and with it what the node may: the port that is probed.
    mesh.fetch("outside/agent", &app).unwrap();
    assert_eq!(mesh.pod("outside/agent").unwrap()["in_mesh"], false);
}

#[test]
fn a_pod_that_is_not_ready_is_sent_no_traffic() {
    let mesh = Mesh::up("unready");
    let file = mesh.aside("ready", "");
    let one = |name: &str, probe: &str| {
        pod("shop", name, &format!("  containers: [{{ name: app, command: [ambit, pod, serve]{probe} }}]"))
            .replace("app: one", "app: pair")
            .replace("app: two", "app: pair")
    };
    let probe = format!(
        ", readinessProbe: {{ exec: {{ command: [test, -e, {}] }}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 20 }}",
        file.display()
    );
    let service = "apiVersion: v1\nkind: Service\nmetadata: { name: pair, namespace: shop }\n\
                   spec: { selector: { app: pair }, ports: [{ port: 8080 }] }\n";
    mesh.write("pair.yaml", &(one("one", "") + &one("two", &probe) + service));
    let answers = |count: usize| -> Result<Vec<String>, String> {
        let answer = |_| Ok(mesh.fetch("shop/web", "http://pair.shop:8080")?["pod"].to_string());
        let mut seen = (0..count).map(answer).collect::<Result<Vec<_>, String>>()?;
        seen.sort();
        seen.dedup();
        Ok(seen)
    };
    let both = ["\"one\"", "\"two\""];
    eventually(SOON * 2, || holds(&answers(10)?, |seen| *seen == both)).unwrap();
    fs::remove_file(&file).unwrap();
    eventually(SOON, || ready(&mesh, "shop/two", false)).unwrap();
    eventually(SOON, || holds(&answers(10)?, |seen| *seen == both[..1])).unwrap();
    assert_eq!(answers(20).unwrap(), both[..1]);
    let found = mesh.pod("shop/two").unwrap();
    assert!(found["why"].as_str().unwrap().starts_with("readinessProbe: "), "{found}");
    assert_eq!(restarts(&found), 0, "unready is no reason to restart");
    fs::write(&file, "").unwrap();
    eventually(SOON * 2, || holds(&answers(10)?, |seen| *seen == both)).unwrap();
}

#[test]
fn containers_are_started_again_as_their_pod_wants_and_probes_demand() {
    let mesh = Mesh::up("restarts");
    let wedged = mesh.aside("wedged", "");
    let ends = |name: &str, policy: &str, code: u8| {
        pod(
            "shop",
            name,
            &format!(
                "  restartPolicy: {policy}\n  containers: [{{ name: app, command: [sh, -c, exit {code}] }}]"
            ),
        )
    };
    let live = format!(
        "  containers:\n  - name: app\n    command: [sh, -c, \"trap '' TERM; sleep 1000 & wait; wait\"]\n    \
         livenessProbe: {{ exec: {{ command: [test, '!', -e, {}] }}, periodSeconds: 1, failureThreshold: 2, timeoutSeconds: 20 }}",
        wedged.display()
    );
    let image = "  containers: [{ name: app, image: nginx }]";
    let all = ends("never", "Never", 3)
        + &ends("fails", "OnFailure", 3)
        + &ends("done", "OnFailure", 0)
        + &ends("always", "Always", 0)
        + &pod("shop", "live", &live)
        + &pod("shop", "image", image);
    mesh.write("ends.yaml", &all);
    for (pod, phase, again) in [
        ("never", "Completed", false),
        ("done", "Completed", false),
        ("fails", "Restarting", true),
        ("always", "Restarting", true),
    ] {
        let pod = format!("shop/{pod}");
        let seen = || {
            let wanted = |pod: &Value| pod["phase"] == phase && (restarts(pod) >= 2) == again;
            holds(&mesh.pod(&pod)?, wanted)
        };
        eventually(SOON, seen).unwrap();
    }
    assert_eq!(restarts(&mesh.pod("shop/never").unwrap()), 0);
    assert_eq!(mesh.pod("shop/never").unwrap()["ready"], false);
    // Its liveness probe fails from the start, and it does not end when it is asked to.
    eventually(SOON * 2, || holds(&mesh.pod("shop/live")?, |pod| restarts(pod) >= 1)).unwrap();
    fs::remove_file(&wedged).unwrap();
    eventually(SOON, || ready(&mesh, "shop/live", true)).unwrap();
    let refused = mesh.pod("shop/image").unwrap();
    assert_eq!(refused["phase"], "Refused");
    assert!(refused["why"].as_str().unwrap().contains("spec.containers[].command"), "{refused}");
    mesh.fetch("shop/web", CART).unwrap();
}
