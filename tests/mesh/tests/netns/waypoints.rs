//! Waypoints that gateways in the directory ask for: pods of their own, with routes in force, for as long as the gateways
//! are there; for a service that says so, and for all that runs as an account.

use std::time::Duration;

use ambit_kit::eventually;
use serde_json::Value;

use crate::CART;
use crate::mesh::{Mesh, SOON, ticket};

pub(crate) const WAYPOINT: &str = include_str!("waypoints.yaml");

const TRACES: &str = "
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    defaultProviders: { tracing: [zipkin] }
    defaultConfig: { tracing: { sampling: 100 } }
    extensionProviders: [{ name: zipkin, zipkin: { service: cart.shop.svc.cluster.local, port: 8080 } }]
";

fn with_annotations(annotations: &str) -> String {
    WAYPOINT.replacen("annotations: {}", &format!("annotations: {{{annotations}}}"), 1)
}

/// Whether the route's rewriting is seen by the application.
pub(crate) fn goes_through(mesh: &Mesh, url: &str, wanted: bool) -> Result<(), String> {
    let ticket = ticket();
    let answer = mesh.fetch("shop/web", &format!("{url}/{ticket}"))?;
    let path = if wanted { format!("/through/{ticket}") } else { format!("/{ticket}") };
    if answer["path"] == path { Ok(()) } else { Err(answer.to_string()) }
}

/// The waypoint's pods, when all of them are ready, so many are there, and none is on its way out.
fn pods(mesh: &Mesh, wanted: u64) -> Result<Vec<String>, String> {
    let status = mesh.status();
    let way = status["waypoints"].get(0).ok_or("nobody asks for a waypoint")?;
    let is_it = way["programmed"] == true && way["ready"] == wanted && way["leaving"] == 0;
    if is_it { Ok(of_waypoint(&status)) } else { Err(status.to_string()) }
}

fn of_waypoint(status: &Value) -> Vec<String> {
    let names = status["pods"].as_array().unwrap().iter().map(|pod| pod["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("way-")).collect()
}

/// A service of `cart`, whose connections a route leads to another's.
const TCP: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: store, namespace: shop, labels: { istio.io/use-waypoint: way } }
spec: { selector: { app: cart }, ports: [{ name: tcp-store, port: 9000, targetPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: spare, namespace: shop }
spec: { selector: { app: crawler }, ports: [{ name: tcp-spare, port: 9001, targetPort: 8080 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: store, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: store, port: 9000 }]
  rules: [{ backendRefs: [{ name: spare, port: 9001 }] }]
"#;

#[test]
fn a_gateway_in_the_directory_has_a_waypoint_with_its_routes_in_force_for_as_long_as_it_is_there() {
    let mesh = Mesh::up("waypoint");
    eventually(SOON, || goes_through(&mesh, CART, false)).unwrap();
    mesh.write("way.yaml", WAYPOINT);
    let before = eventually(SOON * 2, || pods(&mesh, 1)).unwrap();
    goes_through(&mesh, CART, false).expect("nobody asks to go through it");
    mesh.run(&["label", "service", "shop/cart", "istio.io/use-waypoint=way"]);
    eventually(SOON, || goes_through(&mesh, CART, true)).unwrap();
    let accepted = || match &mesh.status()["routes"][0] {
        route if route["accepted"] == true && route["kind"] == "HTTPRoute" => Ok(()),
        route => Err(route.to_string()),
    };
    eventually(SOON, accepted).unwrap();
    // Connections whose port says nothing of HTTP are led as well.
    mesh.write("tcp.yaml", TCP);
    eventually(SOON, || match mesh.fetch("shop/web", "http://store.shop:9000/")? {
        answer if answer["pod"] == "crawler" => Ok(()),
        answer => Err(answer.to_string()),
    })
    .unwrap();
    mesh.remove("tcp.yaml");
    let shown = mesh.run(&["status"]);
    assert!(
        shown.lines().any(|line| line.contains("waypoint shop/way") && line.contains("ready 1/1")),
        "{shown}"
    );
    // A waypoint's log is a pod's; it has who asked.
    let log = mesh.run(&["logs", &format!("shop/{}", before[0])]);
    assert!(log.contains("spiffe://cluster.local/ns/shop/sa/web"), "{log}");
    what_becomes_of_a_request_is_explained(&mesh);
    a_limit_of_a_route_is_named_and_holds(&mesh);
    spans_are_told_to_whom_the_mesh_names(&mesh, &before[0]);
    // Two of them, then others in their place, then one: nobody notices.
    let load = mesh.load("shop/web", CART, 20);
    load.until(true);
    for (annotations, count) in [
        ("ambit.io/replicas: '2'", 2),
        ("ambit.io/replicas: '2', ambit.io/restarted-at: now", 2),
        ("ambit.io/restarted-at: now", 1),
    ] {
        mesh.write("way.yaml", &with_annotations(annotations));
        // Until the file is read, those before it are all there.
        let replaced = annotations.contains("restarted");
        let there = || match pods(&mesh, count)? {
            pods if replaced && pods.contains(&before[0]) => Err(format!("{pods:?}")),
            pods if pods.len() == usize::try_from(count).unwrap() => Ok(()),
            pods => Err(format!("{pods:?}")),
        };
        eventually(SOON * 2, there).unwrap();
    }
    let seen = load.finish();
    assert_eq!(seen["failed"], 0, "{seen}");
    assert!(seen["sent"].as_u64().unwrap() > 10, "{seen}");
    let spaces = mesh.spaces();
    mesh.remove("way.yaml");
    eventually(SOON, || goes_through(&mesh, CART, false)).unwrap();
    let gone = || match of_waypoint(&mesh.status()) {
        pods if pods.is_empty() => Ok(()),
        pods => Err(format!("{pods:?}")),
    };
    eventually(SOON, gone).unwrap();
    let left = spaces.iter().filter(|space| space.to_string_lossy().contains("shop-way-") && space.exists());
    assert_eq!(left.count(), 0);
}

fn what_becomes_of_a_request_is_explained(mesh: &Mesh) {
    let told = mesh.why(&["GET", &format!("{CART}/some"), "--from", "shop/web", "-H", "x-user: bob"]);
    assert_eq!(told["connection"]["path"]["kind"], "waypoint", "{told:#}");
    let seen = &told["waypoint"];
    assert_eq!(
        (&seen["rule"]["route"], &seen["path"]),
        (&"HTTPRoute/shop/cart".into(), &"/some".into()),
        "{told:#}"
    );
    assert_eq!((&seen["end"]["kind"], &seen["end"]["shares"][0]["percent"]), (&"sent".into(), &100.0.into()));
}

/// Of a path among the requests of the route.
const LIMIT: &str = r#"
apiVersion: ambit.io/v1alpha1
kind: RateLimitPolicy
metadata: { name: limited, namespace: shop }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: cart }]
  local: [{ match: { to: [{ operation: { paths: ["/limited"] } }] }, requests: 1, per: 1h }]
"#;

fn a_limit_of_a_route_is_named_and_holds(mesh: &Mesh) {
    mesh.write("limit.yaml", LIMIT);
    let url = format!("{CART}/limited");
    eventually(SOON, || match mesh.why(&["GET", &url, "--from", "shop/web"]) {
        told if told["waypoint"]["limits"][0]["name"] == "shop/limited" => Ok(()),
        told => Err(told.to_string()),
    })
    .unwrap();
    assert_eq!(mesh.fetch("shop/web", &url).unwrap()["path"], "/through/limited");
    let over = mesh.fetch("shop/web", &url).unwrap_err();
    assert!(over.contains("status 429"), "{over}");
    // Other requests of the route are none of its concern.
    goes_through(mesh, CART, true).unwrap();
    mesh.remove("limit.yaml");
}

/// The application itself takes them: whatever is asked of it, it says yes.
fn spans_are_told_to_whom_the_mesh_names(mesh: &Mesh, pod: &str) {
    mesh.write("traces.yaml", TRACES);
    let metrics =
        ["exec", &format!("shop/{pod}"), "--", "ambit", "pod", "fetch", "http://127.0.0.1:15020/metrics"];
    eventually(SOON * 2, || {
        goes_through(mesh, CART, true)?;
        let told = mesh.run(&metrics);
        let is_told = told.contains("ambit_waypoint_spans_total{reason=\"told\"}");
        if is_told { Ok(()) } else { Err(told) }
    })
    .unwrap();
    mesh.remove("traces.yaml");
}

/// The only pod of a gateway's waypoint, when it is ready and traffic is sent to it.
fn pod_of(mesh: &Mesh, gateway: &str) -> Result<String, String> {
    let status = mesh.status();
    let all = status["waypoints"].as_array().unwrap();
    let is_it = |it: &&Value| it["name"] == gateway && it["programmed"] == true && it["leaving"] == 0;
    all.iter().find(is_it).ok_or_else(|| status.to_string())?;
    let pods = status["pods"].as_array().unwrap().iter().map(|pod| pod["name"].as_str().unwrap());
    let found = pods.filter(|name| name.starts_with(&format!("{gateway}-"))).collect::<Vec<_>>();
    if let [one] = found[..] { Ok(one.to_owned()) } else { Err(status.to_string()) }
}

/// How long a line takes to be in a log, if it will be there at all.
const WRITTEN: Duration = Duration::from_secs(5);

/// Asks so often for paths with a word of their own; how many of these each waypoint's pod has in its log.
fn share(mesh: &Mesh, times: usize, pods: &[String]) -> Result<Vec<usize>, String> {
    let ticket = ticket();
    let (times_said, url) = (times.to_string(), format!("{CART}/{ticket}"));
    let load =
        ["exec", "shop/web", "--", "ambit", "pod", "load", "--every-ms", "1", "--times", &times_said, &url];
    mesh.run(&load);
    // A line is written when the answer has gone, which the client need not wait for. While something changes, another
    // pod may have been asked: then it never comes, and whoever asks how it is shared asks again.
    eventually(WRITTEN, || {
        let logs = pods.iter().map(|pod| mesh.run(&["logs", &format!("shop/{pod}")]));
        let counts: Vec<_> =
            logs.map(|log| log.lines().filter(|line| line.contains(&ticket)).count()).collect();
        if counts.iter().sum::<usize>() == times { Ok(counts) } else { Err(format!("{counts:?} of {times}")) }
    })
}

#[test]
fn a_second_waypoint_gets_its_part_of_connections_and_the_pods_of_one_share_what_comes() {
    let mesh = Mesh::up("shares");
    mesh.write("way.yaml", WAYPOINT);
    let gateway = WAYPOINT.split("---").next().unwrap();
    mesh.write("try.yaml", &gateway.replacen("name: way", "name: try", 1));
    let way = eventually(SOON * 2, || pod_of(&mesh, "way")).unwrap();
    let other = eventually(SOON * 2, || pod_of(&mesh, "try")).unwrap();
    let services = include_str!("../../../../deploy/demo/20-services.yaml");
    let cart = "  name: cart\n  namespace: shop\n";
    let labelled = |weight: u8| {
        let labels = "  labels: { istio.io/use-waypoint: way, istio.io/use-waypoint-canary: try }\n";
        let weight = format!("  annotations: {{ istio.io/use-waypoint-canary-weight: '{weight}' }}\n");
        services.replacen(cart, &format!("{cart}{labels}{weight}"), 1)
    };
    let both = [way.clone(), other.clone()];
    mesh.write("services.yaml", &labelled(0));
    eventually(SOON, || goes_through(&mesh, CART, true)).unwrap();
    eventually(SOON * 2, || match share(&mesh, 20, &both)?[..] {
        [20, 0] => Ok(()),
        ref seen => Err(format!("{seen:?}")),
    })
    .unwrap();
    mesh.write("services.yaml", &labelled(50));
    let seen = eventually(SOON * 2, || match share(&mesh, 5, &both)? {
        seen if seen[1] > 0 => share(&mesh, 200, &both),
        seen => Err(format!("{seen:?}")),
    });
    // Seven standard deviations to both sides.
    let seen = seen.unwrap();
    assert!(seen.iter().all(|count| (50..=150).contains(count)), "{seen:?}");
    mesh.write("services.yaml", &labelled(100));
    eventually(SOON * 2, || match share(&mesh, 20, &both)?[..] {
        [0, 20] => Ok(()),
        [first, second] => Err(format!("{first}, {second}")),
        _ => Err("not two".to_owned()),
    })
    .unwrap();
    // One that is not there gets nothing, whatever its part.
    mesh.remove("try.yaml");
    eventually(SOON * 2, || match share(&mesh, 20, std::slice::from_ref(&way)) {
        Ok(seen) if seen == [20] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    // Another pod beside the first one: who has tunnels to the first uses both.
    mesh.write("way.yaml", &with_annotations("ambit.io/replicas: '2'"));
    let two = eventually(SOON * 2, || pods(&mesh, 2)).unwrap();
    assert!(two.contains(&way), "{two:?}");
    let seen = eventually(SOON * 2, || match share(&mesh, 5, &two)? {
        seen if seen.iter().all(|count| *count > 0) => share(&mesh, 200, &two),
        seen => Err(format!("{seen:?}")),
    });
    let seen = seen.unwrap();
    assert!(seen.iter().all(|count| (50..=150).contains(count)), "{seen:?}");
}

#[test]
fn a_mesh_with_a_waypoint_whose_supervisor_was_killed_is_taken_down_to_the_last_file() {
    let mesh = Mesh::up("wayfarer");
    mesh.write("way.yaml", WAYPOINT);
    eventually(SOON * 2, || pods(&mesh, 1)).unwrap();
    let spaces = mesh.spaces();
    assert!(spaces.iter().any(|space| space.to_string_lossy().contains("shop-way-")), "{spaces:?}");
    mesh.kill_supervisor();
    mesh.run(&["down"]);
    assert!(!mesh.run_dir().exists());
    assert!(spaces.iter().all(|space| !space.exists()));
}

/// What the visitor, who is outside the mesh, gets at an address of a pod: the waypoint's line of it, which names nobody.
fn led(mesh: &Mesh, url: &str, way: &str, status: &str) -> Result<(), String> {
    let (ticket, visitor) = (ticket(), mesh.pod("outside/visitor")?["ips"][0].as_str().unwrap().to_owned());
    let answer = mesh.fetch("outside/visitor", &format!("{url}/{ticket}"));
    let heard = match &answer {
        Ok(answer) if answer["path"].as_str().is_some_and(|path| path.ends_with(&ticket)) => "200",
        Ok(_) => "another",
        Err(why) if why.contains("status 403") => "403",
        Err(_) => "none",
    };
    let log = mesh.run(&["logs", &format!("shop/{way}")]);
    let line =
        log.lines().find(|line| line.contains(&ticket)).ok_or_else(|| format!("no line: {answer:?}"))?;
    let from = format!("downstream_remote_address={visitor}:");
    if heard == status && line.contains(&from) && !line.contains("source_principal") {
        Ok(())
    } else {
        Err(format!("{answer:?}: {line}"))
    }
}

/// Policies of the waypoint's Gateway, and of the pods of `cart`: only the waypoint may come to these.
const POLICIES: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: paths, namespace: shop }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: way }]
  action: DENY
  rules: [{ to: [{ operation: { paths: ["/admin*"] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: by-way, namespace: shop }
spec:
  selector: { matchLabels: { app: cart } }
  rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/way"] } }] }]
"#;

/// Those who are called as the pods of `cart` are.
const NAMED: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: named, namespace: shop }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: way }]
  rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/cart"] } }] }]
"#;

#[test]
fn what_runs_as_the_account_of_a_waypoint_goes_through_it_and_an_endpoint_of_another_changes_that() {
    let mesh = Mesh::up_with("account", Some(("ENABLE_PLAINTEXT_VIA_WAYPOINT", "true")));
    eventually(SOON, || goes_through(&mesh, CART, false)).unwrap();
    mesh.write("way.yaml", &with_annotations("istio.io/for-service-account: cart"));
    let way = eventually(SOON * 2, || pods(&mesh, 1)).unwrap().remove(0);
    // All endpoints of service cart run as cart: no label is needed.
    eventually(SOON, || goes_through(&mesh, CART, true)).unwrap();
    // Its own address, too; a route is for services.
    let address = mesh.pod("shop/cart").unwrap()["ips"][0].as_str().unwrap().to_owned();
    let seen = || {
        let ticket = ticket();
        let answer = mesh.fetch("shop/web", &format!("http://{address}:8080/{ticket}"))?;
        let log = mesh.run(&["logs", &format!("shop/{way}")]);
        if answer["path"] == format!("/{ticket}") && log.contains(&ticket) {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    };
    eventually(SOON, seen).unwrap();
    // And so does who is outside the mesh: as nobody, wherever it says it is.
    let url = format!("http://{address}:8080");
    eventually(SOON, || led(&mesh, &url, &way, "200")).unwrap();
    mesh.write("policies.yaml", POLICIES);
    eventually(SOON, || led(&mesh, &format!("{url}/admin"), &way, "403")).unwrap();
    eventually(SOON, || led(&mesh, &url, &way, "200")).unwrap();
    mesh.write("named.yaml", NAMED);
    eventually(SOON, || led(&mesh, &url, &way, "403")).unwrap();
    mesh.remove("named.yaml");
    mesh.remove("policies.yaml");
    // An endpoint that runs as somebody else: where its requests go they go as they were sent.
    let other = "apiVersion: v1\nkind: Pod\nmetadata: { name: other, namespace: shop, labels: { app: cart } }\n\
                 spec:\n  nodeName: node-2\n  serviceAccountName: crawler\n  \
                 containers: [{ name: app, command: [ambit, pod, serve] }]\n";
    mesh.write("other.yaml", other);
    eventually(SOON, || goes_through(&mesh, CART, false)).unwrap();
    mesh.remove("other.yaml");
    eventually(SOON, || goes_through(&mesh, CART, true)).unwrap();
}
