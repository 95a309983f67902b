//! Service addresses outside the mesh, which each node translates as a kube-proxy would.

use std::collections::BTreeMap;

use ambit_kit::eventually;
use serde_json::Value;

use crate::mesh::{Mesh, SOON};

/// Three pods on two nodes and the services in front of them; none is in the mesh.
fn cluster() -> String {
    let pod = |name: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: outside, labels: {{ app: many }} }}\n\
             spec:\n  nodeName: {node}\n  containers:\n  - name: app\n    command: [ambit, pod, serve]\n    \
             ports: [{{ name: http, containerPort: 8080 }}]\n---\n"
        )
    };
    let service = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: outside }}\n\
             spec: {{ ports: [{{ port: 80, targetPort: http }}], {spec} }}\n---\n"
        )
    };
    pod("near", "node-1")
        + &pod("far", "node-2")
        + &pod("farther", "node-2")
        + &service("many", "selector: { app: many }")
        + &service("same", "selector: { app: many }, sessionAffinity: ClientIP")
        + &service("none", "selector: { app: nobody }")
}

/// Asks so often; how often each pod answered, and the client addresses that were seen.
fn ask(mesh: &Mesh, pod: &str, url: &str, times: usize) -> Result<(BTreeMap<String, usize>, Value), String> {
    let mut seen = BTreeMap::new();
    let mut from = Value::Null;
    for _ in 0..times {
        let answer = mesh.fetch(pod, url)?;
        *seen.entry(answer["pod"].as_str().unwrap().to_owned()).or_default() += 1;
        from = answer["from"].clone();
    }
    Ok((seen, from))
}

#[test]
fn connections_to_a_service_address_spread_over_all_ready_pods_in_both_families() {
    let mesh = Mesh::up("services");
    mesh.write("many.yaml", &cluster());
    let three = || match ask(&mesh, "outside/visitor", "http://many", 12)?.0.len() {
        3 => Ok(()),
        found => Err(format!("{found} pods answer")),
    };
    eventually(SOON * 2, three).unwrap();
    let hosts = mesh.run(&["exec", "outside/visitor", "--", "cat", "/etc/hosts"]);
    let named = |name: &str| {
        let lines = hosts.lines().filter(|line| line.contains(&format!(" {name}.outside ")));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = mesh.pod("outside/visitor").unwrap()["ips"].clone();
    let own: Vec<_> = own.as_array().unwrap().iter().map(|ip| ip.as_str().unwrap().to_owned()).collect();
    let many = named("many");
    assert_eq!(many.len(), 2, "an address of each family: {many:?}");
    for (service, own) in std::iter::zip(&many, &own) {
        let url =
            if service.contains(':') { format!("http://[{service}]") } else { format!("http://{service}") };
        let (seen, from) = ask(&mesh, "outside/visitor", &url, 60).unwrap();
        // Of 60, a fair choice gives one of three fewer than 4 less than once in a million times.
        assert!(seen.len() == 3 && seen.values().all(|count| *count >= 4), "{service}: {seen:?}");
        assert!(from.as_str().unwrap().contains(own.as_str()), "{from} instead of {own}");
        // Also the pods themselves: what comes back to its sender must look as if from the service.
        let (seen, _) = ask(&mesh, "outside/near", &url, 30).unwrap();
        assert_eq!(seen.len(), 3, "{service}: {seen:?}");
    }
    let (seen, _) = ask(&mesh, "outside/visitor", "http://same", 20).unwrap();
    assert_eq!(seen.len(), 1, "a client's own pod: {seen:?}");
    let told = mesh.fetch("outside/visitor", "http://none").unwrap_err();
    assert!(told.contains("refused"), "refused at once rather than lost: {told}");
    mesh.run(&["delete", "pod", "outside/far"]);
    let gone = || match ask(&mesh, "outside/visitor", "http://many", 20)?.0 {
        seen if seen.contains_key("far") => Err(format!("{seen:?}")),
        seen => Ok(seen),
    };
    assert_eq!(eventually(SOON, gone).unwrap().len(), 2);
}
