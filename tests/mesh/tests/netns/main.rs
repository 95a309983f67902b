//! The mesh on this machine, for real: two nodes, pods, programs, sockets. The demo's story as a test, and the
//! invariants that need a live mesh, each with somebody who tries to break it. Needs root and the built programs.

mod clients;
mod clock;
mod flapping;
mod kubelet;
mod mesh;
mod names;
mod numbers;
mod programs;
mod secured;
mod services;
mod waypoints;

use std::time::Duration;

use ambit_kit::{eventually, pause};
use mesh::{Mesh, SOON, ticket};
use programs::ambit;
use serde_json::Value;

const CART: &str = "http://cart.shop:8080";

#[test]
fn the_demo_shows_everything_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    let output = ambit().args(["demo", "--json", "--run-dir"]).arg(dir.path().join("run")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (step, number) in steps.iter().zip(1..) {
        assert_eq!(step["step"], number, "{step:#}");
        assert_eq!(step["ok"], true, "{step:#}");
    }
    assert_eq!(steps.len(), 8, "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    assert!(!dir.path().join("run").exists(), "a file of the demo is left");
}

#[test]
fn the_demo_notices_nothing_of_a_build_that_replaces_its_programs() {
    let dir = tempfile::tempdir().unwrap();
    let bin = programs::copied(dir.path());
    let mut demo = std::process::Command::new(bin.join("ambit"));
    demo.args(["demo", "--json", "--run-dir"]).arg(dir.path().join("run"));
    let mut demo = demo.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(demo.stdout.take().unwrap());
    for line in std::io::BufRead::lines(lines) {
        let step: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(step["ok"], true, "{step:#}");
        // As a linker does before it writes; the last step needs none of them either.
        let _gone = std::fs::remove_dir_all(&bin);
    }
    assert!(demo.wait().unwrap().success());
}

#[test]
fn a_demo_that_was_killed_is_cleared_up_by_local_down() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut demo = ambit()
        .args(["demo", "--json", "--run-dir"])
        .arg(&run)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // In its middle: the first step is done, the second is not.
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(demo.stdout.take().unwrap()), &mut first)
        .unwrap();
    demo.kill().unwrap();
    demo.wait().unwrap();
    let down = ambit().args(["local", "--run-dir"]).arg(&run).arg("down").output().unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(!run.exists(), "a file of the demo is left");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(run.to_str().unwrap()), "a namespace of the demo is left");
}

#[test]
fn without_its_ztunnel_an_enrolled_pod_sends_nothing_rather_than_plaintext() {
    let mesh = Mesh::up("plain");
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    let wire = mesh.wire();
    mesh.run(&["kill", "ztunnel@node-1"]);
    let ticket = ticket();
    for _ in 0..3 {
        mesh.refused("shop/web", &format!("{CART}/{ticket}")).unwrap();
    }
    let seen = wire.finish();
    assert!(
        !seen.iter().any(|s| s["text"].as_str().unwrap().contains(&ticket)),
        "plaintext left the node: {seen:#?}"
    );
    mesh.run(&["start", "ztunnel@node-1"]);
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
}

#[test]
fn without_the_far_ztunnel_nothing_is_sent_in_plaintext_either() {
    let mesh = Mesh::up("far");
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    let wire = mesh.wire();
    mesh.run(&["kill", "ztunnel@node-2"]);
    let ticket = ticket();
    mesh.refused("shop/web", &format!("{CART}/{ticket}")).unwrap();
    let seen = wire.finish();
    assert!(
        !seen.iter().any(|s| s["text"].as_str().unwrap().contains(&ticket)),
        "plaintext left the node: {seen:#?}"
    );
}

#[test]
fn without_a_certificate_there_is_no_tunnel_and_no_fallback() {
    let mesh = Mesh::up("cert");
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    mesh.run(&["kill", "istiod"]);
    let wire = mesh.wire();
    // Its account has no certificate anywhere yet, and nobody is there to give one.
    mesh.write("late.yaml", include_str!("late.yaml"));
    eventually(SOON, || mesh.phase("shop/late", "Running")).unwrap();
    let ticket = ticket();
    for _ in 0..2 {
        mesh.refused("shop/late", &format!("{CART}/{ticket}")).unwrap();
    }
    let seen = wire.finish();
    assert!(
        !seen.iter().any(|s| s["text"].as_str().unwrap().contains(&ticket)),
        "plaintext left the node: {seen:#?}"
    );
    mesh.run(&["start", "istiod"]);
    eventually(SOON * 3, || mesh.fetch("shop/late", CART)).unwrap();
}

#[test]
fn losing_the_control_plane_freezes_the_world_and_never_empties_it() {
    let mesh = Mesh::up("frozen");
    mesh.write("deny.yaml", include_str!("../../../../deploy/demo-steps/deny-crawler.yaml"));
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    eventually(SOON, || mesh.refused("shop/crawler", CART)).unwrap();
    mesh.run(&["kill", "istiod"]);
    mesh.remove("deny.yaml");
    for _ in 0..10 {
        mesh.fetch("shop/web", CART).unwrap();
        mesh.refused("shop/crawler", CART).unwrap();
        pause(Duration::from_millis(100));
    }
    mesh.run(&["start", "istiod"]);
    eventually(SOON * 3, || mesh.fetch("shop/crawler", CART)).unwrap();
}

#[test]
fn a_pod_that_cannot_be_enrolled_does_not_start() {
    let mesh = Mesh::up("closed");
    mesh.run(&["kill", "cni@node-2"]);
    mesh.write("late.yaml", include_str!("late.yaml"));
    eventually(SOON, || mesh.phase("shop/late", "ContainerCreating")).unwrap();
    for _ in 0..10 {
        mesh.phase("shop/late", "ContainerCreating").unwrap();
        pause(Duration::from_millis(100));
    }
    mesh.run(&["start", "cni@node-2"]);
    eventually(SOON * 3, || mesh.phase("shop/late", "Running")).unwrap();
    eventually(SOON, || mesh.fetch("shop/late", CART)).unwrap();
}

#[test]
fn a_mesh_whose_supervisor_was_killed_is_taken_down_to_the_last_file() {
    let mesh = Mesh::up("killed");
    let spaces = mesh.spaces();
    mesh.kill_supervisor();
    mesh.run(&["down"]);
    assert!(!mesh.run_dir().exists());
    assert!(spaces.iter().all(|space| !space.exists()));
}

#[test]
fn a_cni_daemon_that_is_back_before_ztunnel_has_noticed_costs_no_connection() {
    let mesh = Mesh::up("back");
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    let load = mesh.load("shop/web", CART, 20);
    load.until(true);
    let wire = mesh.wire();
    mesh.run(&["kill", "cni@node-1"]);
    mesh.run(&["kill", "cni@node-2"]);
    // Long enough for ztunnel to ask for it only every few seconds.
    pause(Duration::from_secs(2));
    mesh.run(&["start", "cni@node-1"]);
    mesh.run(&["start", "cni@node-2"]);
    pause(Duration::from_secs(3));
    assert_eq!(load.finish()["failed"], 0);
    let to_app = |s: &&serde_json::Value| s["to"].as_str().unwrap().ends_with(":8080");
    assert_eq!(wire.finish().iter().find(to_app), None, "plaintext left the node");
}

#[test]
fn a_program_that_dies_is_started_again_and_carries_on() {
    let mesh = Mesh::up("dies");
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    for component in ["ztunnel@node-1", "ztunnel@node-2", "cni@node-1", "istiod"] {
        mesh.crash(component);
    }
    let wire = mesh.wire();
    let ticket = ticket();
    eventually(SOON * 2, || mesh.fetch("shop/web", &format!("{CART}/{ticket}"))).unwrap();
    let seen = wire.finish();
    assert!(
        !seen.iter().any(|s| s["text"].as_str().unwrap().contains(&ticket)),
        "plaintext left the node: {seen:#?}"
    );
}

#[test]
fn commands_change_the_cluster_and_leave_the_manifests_alone() {
    let mesh = Mesh::up("changes");
    let policy = mesh.aside("deny.yaml", include_str!("../../../../deploy/demo-steps/deny-web.yaml"));
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    mesh.run(&["apply", "-f", policy.to_str().unwrap()]);
    eventually(SOON, || mesh.refused("shop/web", CART)).unwrap();
    mesh.run(&["delete", "authorizationpolicy", "shop/no-more-web"]);
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    mesh.run(&["delete", "pod", "shop/crawler"]);
    eventually(SOON, || mesh.absent("shop/crawler")).unwrap();
    let wrong = mesh.aside("wrong.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: Not_A_Name\n");
    let told = mesh.fails(&["apply", "-f", wrong.to_str().unwrap()]);
    assert!(told.contains("wrong.yaml") && told.contains("metadata.name"), "{told}");
    assert!(told.trim_end().lines().count() == 1, "{told}");
    assert_eq!(mesh.manifest_names(), ["cluster.yaml", "pods.yaml", "services.yaml"]);

    // What a cluster would refuse is refused here, with all that is beside it; of what is there already it is told.
    let both = format!("{}---\n{NOWHERE}", include_str!("../../../../deploy/demo-steps/deny-web.yaml"));
    let both = mesh.aside("both.yaml", &both);
    let told = mesh.fails(&["apply", "-f", both.to_str().unwrap()]);
    assert!(told.contains("nothing is applied") && told.contains("spec.endpoints[0].address"), "{told}");
    mesh.run(&["down"]);
    mesh.write("both.yaml", NOWHERE);
    let told = mesh.up_again();
    assert!(told.contains("ServiceEntry shop/nowhere): error AMB0001: spec.endpoints[0].address"), "{told}");
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
}

const NOWHERE: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: nowhere
  namespace: shop
spec:
  hosts: [nowhere.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: \"0)\"}]
";
