//! Which endpoints a service address has on a node.

use super::*;
use crate::local::world::tests::world;

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: s, namespace: a }}\n\
         spec: {{ clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7'], {spec} }}\n---\n"
    )
}

fn pod(name: &str, ready: bool) -> String {
    let number = name.trim_start_matches('p');
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: a, labels: {{ app: s }} }}\n\
         spec: {{ nodeName: n{number}, containers: [{{ name: c, ports: [{{ name: web, containerPort: 8080 }}] }}] }}\n\
         status: {{ podIPs: [{{ ip: 10.0.0.{number} }}, {{ ip: 'fd00::1:{number}' }}], \
         conditions: [{{ type: Ready, status: '{}' }}] }}\n---\n",
        if ready { "True" } else { "False" }
    )
}

fn pods() -> String {
    pod("p1", true) + &pod("p2", true) + &pod("p3", false)
}

/// Each balance in short: where to, and the endpoints.
fn shown(manifests: &str, node: &str) -> Vec<String> {
    let services = services(&world(manifests), node);
    let one = |b: &Balance| {
        let endpoints: Vec<_> = b.endpoints.iter().map(ToString::to_string).collect();
        format!("{} {:?} {:?} {}", b.to, b.protocol, b.choice, endpoints.join(","))
    };
    services.balances.iter().map(one).collect()
}

#[test]
fn a_service_address_stands_for_all_ready_pods_of_its_family() {
    let all = service("selector: { app: s }, ports: [{ port: 80, targetPort: web }]") + &pods();
    assert_eq!(
        shown(&all, "n1"),
        [
            "10.96.0.7:80 Tcp Chance 10.0.0.1:8080,10.0.0.2:8080",
            "[fd00::7]:80 Tcp Chance [fd00::1:1]:8080,[fd00::1:2]:8080",
        ]
    );
}

#[test]
fn what_a_service_says_of_its_traffic_is_kept() {
    for (spec, wanted) in [
        (
            "selector: { app: s }, ports: [{ port: 53, protocol: UDP }]",
            "10.96.0.7:53 Udp Chance 10.0.0.1:53,10.0.0.2:53",
        ),
        (
            "selector: { app: s }, sessionAffinity: ClientIP, ports: [{ port: 80 }]",
            "10.96.0.7:80 Tcp ByClient 10.0.0.1:80,10.0.0.2:80",
        ),
        (
            "selector: { app: s }, internalTrafficPolicy: Local, ports: [{ port: 80 }]",
            "10.96.0.7:80 Tcp Chance 10.0.0.2:80",
        ),
        (
            "selector: { app: s }, publishNotReadyAddresses: true, ports: [{ port: 80 }]",
            "10.96.0.7:80 Tcp Chance 10.0.0.1:80,10.0.0.2:80,10.0.0.3:80",
        ),
    ] {
        assert_eq!(shown(&(service(spec) + &pods()), "n2")[0], wanted, "{spec}");
    }
    let nobody = service("selector: { app: other }, ports: [{ port: 80 }]") + &pods();
    assert!(shown(&nobody, "n1").is_empty());
    assert_eq!(services(&world(&nobody), "n1").addresses.len(), 2, "refused, not lost");
}

#[test]
fn a_service_without_a_selector_has_the_endpoints_of_its_slices() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
                 metadata: { name: e, namespace: a, labels: { kubernetes.io/service-name: s } }\n\
                 ports: [{ name: http, port: 9090 }]\n\
                 endpoints: [{ addresses: [10.1.0.1] }, { addresses: [10.1.0.2], conditions: { ready: false } }]\n";
    let all = service("ports: [{ name: http, port: 80 }]") + slice;
    assert_eq!(shown(&all, "n1"), ["10.96.0.7:80 Tcp Chance 10.1.0.1:9090"]);
}
