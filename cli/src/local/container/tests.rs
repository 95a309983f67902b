//! What is read of a pod, and what is refused.

use serde_json::json;

use super::*;

fn pod(container: &Value) -> Value {
    json!({ "spec": { "containers": [container] } })
}

#[test]
fn containers_are_read_as_processes() {
    let read = plan(&pod(&json!({
        "name": "app", "command": ["serve"], "args": ["80"], "env": [{ "name": "A", "value": "b" }],
    })));
    let PodPlan { containers, restart, grace, aliases } = read.unwrap();
    assert_eq!((restart, grace, aliases), (Restart::Always, None, vec![]));
    assert_eq!(containers[0].command, ["serve", "80"]);
    assert_eq!(containers[0].env, [("A".to_owned(), "b".to_owned())]);
    assert_eq!(containers[0].probes, Probes::default());
}

#[test]
fn a_pod_may_say_how_long_it_ends_what_more_names_mean_and_what_it_wants_to_know_of_itself() {
    let from = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let mut manifest = pod(&json!({
        "name": "app", "command": ["serve"],
        "env": [
            { "name": "IP", "valueFrom": from("status.podIP") },
            { "name": "A", "value": "b" },
            { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
            { "name": "LIMIT", "valueFrom": from("metadata.labels['x']") },
        ],
    }));
    manifest["spec"]["terminationGracePeriodSeconds"] = json!(7);
    manifest["spec"]["hostAliases"] = json!([{ "ip": "10.0.0.1", "hostnames": ["a", "b.c"] }]);
    let read = plan(&manifest).unwrap();
    assert_eq!(read.grace, Some(Duration::from_secs(7)));
    let alias = Alias { ip: [10, 0, 0, 1].into(), hostnames: vec!["a".into(), "b.c".into()] };
    assert_eq!(read.aliases, [alias]);
    assert_eq!(read.containers[0].env, [("A".to_owned(), "b".to_owned())]);
    assert_eq!(read.containers[0].fields, [("IP".to_owned(), Field::Address)]);
}

#[test]
fn what_cannot_run_here_is_refused_with_its_reason() {
    for (manifest, wanted) in [
        (json!({ "spec": { "containers": [] } }), Unfit::Empty),
        (pod(&json!({ "name": "app", "image": "nginx" })), Unfit::NoCommand("app".into())),
        (pod(&json!({ "name": "app", "args": ["x"] })), Unfit::NoCommand("app".into())),
        (
            json!({ "spec": { "initContainers": [{ "name": "i" }], "containers": [{ "command": ["a"] }] } }),
            Unfit::Init("i".into()),
        ),
        (
            json!({ "spec": { "restartPolicy": "Sometimes", "containers": [{ "command": ["a"] }] } }),
            Unfit::Restart("Sometimes".into()),
        ),
    ] {
        assert_eq!(plan(&manifest).unwrap_err(), wanted, "{manifest}");
    }
    assert!(matches!(plan(&pod(&json!({ "command": "a b" }))), Err(Unfit::Malformed(_))));
}

#[test]
fn probes_have_the_defaults_of_kubernetes_and_may_name_a_port() {
    let read = plan(&pod(&json!({
        "name": "app", "command": ["serve"], "ports": [{ "name": "web", "containerPort": 8080 }],
        "readinessProbe": { "httpGet": { "port": "web", "path": "ready" } },
        "livenessProbe": { "tcpSocket": { "port": 81 }, "periodSeconds": 1, "failureThreshold": 2 },
        "startupProbe": { "exec": { "command": ["true"] }, "initialDelaySeconds": 4, "timeoutSeconds": 2 },
    })));
    let probes = read.unwrap().containers.remove(0).probes;
    let second = Duration::from_secs(1);
    let ask = Ask::Http { port: 8080, path: "/ready".into(), headers: vec![] };
    let usual =
        Probe { ask, delay: Duration::ZERO, period: 10 * second, limit: second, successes: 1, failures: 3 };
    let tcp = Probe { ask: Ask::Tcp { port: 81 }, period: second, failures: 2, ..usual.clone() };
    let command = vec!["true".to_owned()];
    let exec = Probe { ask: Ask::Exec { command }, delay: 4 * second, limit: 2 * second, ..usual.clone() };
    assert_eq!(probes, Probes { startup: Some(exec), readiness: Some(usual), liveness: Some(tcp) });
}

#[test]
fn probes_that_cannot_be_asked_are_refused() {
    for probe in [
        json!({}),
        json!({ "grpc": { "port": 1 } }),
        json!({ "exec": { "command": [] } }),
        json!({ "httpGet": { "port": "nobody" } }),
        json!({ "httpGet": { "port": 1, "scheme": "HTTPS" } }),
        json!({ "httpGet": { "port": 1, "host": "elsewhere" } }),
        json!({ "httpGet": { "port": 1, "path": "/a HTTP/1.1\r\nx: y" } }),
        json!({ "httpGet": { "port": 1, "httpHeaders": [{ "name": "a b", "value": "c" }] } }),
        json!({ "httpGet": { "port": 1 }, "tcpSocket": { "port": 1 } }),
    ] {
        let read = plan(&pod(&json!({ "name": "app", "command": ["a"], "readinessProbe": probe.clone() })));
        let refused = matches!(&read, Err(Unfit::Probe { kind: ProbeKind::Readiness, .. }));
        assert!(refused, "{probe}: {read:?}");
    }
}
