//! Clients that others wrote, through a waypoint: what they take for HTTP is what it speaks, in both versions, on kept
//! connections, with bodies, and many at a time.

use ambit_kit::eventually;

use crate::CART;
use crate::mesh::{Mesh, SOON};
use crate::waypoints::{WAYPOINT, goes_through};

/// The application speaks HTTP/1.1 only: what clients speak ends at the waypoint.
const SPEAKS: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: cart, namespace: shop }
spec:
  host: cart
  trafficPolicy: { connectionPool: { http: { h2UpgradePolicy: DO_NOT_UPGRADE } } }
";

/// What `curl` prints after each answer: the version, the status, and how many connections it opened for it.
const SAID: &str = "\n%{http_version} %{http_code} %{num_connects}\n";

#[test]
fn curl_and_h2load_find_http_at_a_waypoint_as_they_know_it() {
    let mesh = Mesh::up("clients");
    mesh.write("way.yaml", &format!("{WAYPOINT}---\n{SPEAKS}"));
    mesh.run(&["label", "service", "shop/cart", "istio.io/use-waypoint=way"]);
    eventually(SOON * 2, || goes_through(&mesh, CART, true)).unwrap();
    for (version, number) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        curl_asks(&mesh, version, number);
    }
    for (version, streams) in [("--h1", "1"), ("--no-tls-proto=h2c", "16")] {
        let load = ["-n", "4000", "-c", "8", "-m", streams, version, CART];
        let told = mesh.run(&[&["exec", "shop/web", "--", "h2load"], load.as_slice()].concat());
        assert!(
            told.contains("4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{version}: {told}"
        );
        assert!(told.contains("4000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{version}: {told}");
    }
}

fn curl_asks(mesh: &Mesh, version: &str, number: &str) {
    let curl = |words: &[&str]| {
        let always = ["exec", "shop/web", "--", "curl", "-sS", "--max-time", "10", version, "-w", SAID];
        mesh.run(&[always.as_slice(), words].concat())
    };
    let one = format!("{CART}/one");
    let told = curl(&[&one]);
    assert!(told.contains(&format!("{number} 200 1")) && told.contains("/through/one"), "{told}");
    if number == "1.1" {
        // The second goes over the connection of the first. (Of HTTP/2 that it knows beforehand, curl 7.88 keeps none,
        // whoever answers it.)
        let told = curl(&[&one, &one]);
        assert!(told.contains("1.1 200 1") && told.contains("1.1 200 0"), "{told}");
    }
    let told = curl(&["--head", &one]);
    assert!(told.contains(" 200") && !told.contains("/through"), "{told}");
    if number == "1.1" {
        // A body that is asked for first. The application answers before it has all of it; of HTTP/2, curl 7.88 does not
        // know what to make of that (RFC 9113, 8.1).
        let body = mesh.aside("body", &"0123456789abcdef".repeat(200_000));
        let told = curl(&["--upload-file", body.to_str().unwrap(), "-H", "expect: 100-continue", &one]);
        assert!(told.contains("1.1 200") && told.contains("/through/one"), "{told}");
    }
}
