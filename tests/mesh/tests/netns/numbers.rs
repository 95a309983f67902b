//! Numbers of a live mesh, printed and not judged: `cargo test -p ambit-tests --test netns -- --ignored --nocapture
//! --test-threads 1 numbers`. A quiet machine and `--release` programs make them worth reading.

use std::fs;
use std::time::{Duration, Instant};

use ambit_kit::eventually;

use crate::CART;
use crate::mesh::{Mesh, SOON};

const DENY: &str = include_str!("../../../../deploy/demo-steps/deny-web.yaml");
const WAYPOINT: &str = include_str!("../../../../deploy/demo-steps/waypoint.yaml");
const CANARY: &str = include_str!("../../../../deploy/demo-steps/canary.yaml");

#[test]
#[ignore = "prints numbers; run it by name on a quiet machine"]
fn numbers_of_a_policy_change() {
    let mesh = Mesh::up("numbers-policy");
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    let load = mesh.load("shop/web", CART, 1);
    load.until(true);
    let mut lags: Vec<Duration> = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        mesh.write("deny.yaml", DENY);
        lags.push(load.until(false) - begun);
        mesh.remove("deny.yaml");
        load.until(true);
    }
    show("policy file changed -> first refused connection", &mut lags);
    println!("resident: {}", mesh.resident().join(", "));
}

#[test]
#[ignore = "prints numbers; run it by name on a quiet machine"]
fn numbers_of_a_route_change() {
    let mesh = Mesh::up("numbers-route");
    mesh.write("way.yaml", WAYPOINT);
    let is_there = || match &mesh.status()["waypoints"][0] {
        way if way["programmed"] == true => Ok(()),
        way => Err(way.to_string()),
    };
    eventually(SOON * 2, is_there).unwrap();
    mesh.run(&["label", "service", "shop/cart", "istio.io/use-waypoint=way"]);
    // A tenth of the requests would be for a service that is not there, and now all of them are: answered with 500.
    let nowhere = CANARY.replace("name: cart-v2", "name: nobody").replace("weight: 90", "weight: 0");
    mesh.write("route.yaml", &nowhere);
    let load = mesh.load("shop/web", CART, 1);
    load.until(false);
    let mut lags: Vec<Duration> = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        mesh.remove("route.yaml");
        lags.push(load.until(true) - begun);
        let begun = Instant::now();
        mesh.write("route.yaml", &nowhere);
        lags.push(load.until(false) - begun);
    }
    show("route file changed -> first request that goes by it", &mut lags);
}

#[test]
#[ignore = "prints numbers; run it by name on a quiet machine"]
fn numbers_of_plugin_calls() {
    let mesh = Mesh::up("numbers-pods");
    let pod = |n: u32| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p{n}\n  namespace: shop\nspec:\n  \
             serviceAccountName: web\n  containers:\n    - name: idle\n      command: [sleep, infinity]\n---\n"
        )
    };
    mesh.write("many.yaml", &(0..100).map(pod).collect::<String>());
    eventually(SOON * 6, || mesh.phase("shop/p99", "Running")).unwrap();
    for n in 0..100 {
        eventually(SOON * 6, || mesh.phase(&format!("shop/p{n}"), "Running")).unwrap();
    }
    let log = fs::read_to_string(mesh.log("supervisor")).unwrap();
    let of = |line: &str| line.split("ms=").nth(1)?.split_ascii_whitespace().next()?.parse().ok();
    let many = log.lines().filter(|line| line.contains("plugin ADD") && line.contains("pod=\"p"));
    let mut times: Vec<_> = many.filter_map(of).map(|ms: f64| Duration::from_secs_f64(ms / 1000.0)).collect();
    show("plugin ADD, eligible pods, 8 at a time", &mut times);
    println!("resident: {}", mesh.resident().join(", "));
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!("{what}: n {}, p50 {:?}, p99 {:?}, worst {:?}", times.len(), at(0.5), at(0.99), at(1.0));
}
