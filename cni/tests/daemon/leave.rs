//! The mesh leaves the node: `ambit-cni-node uninstall`, with the daemon and without it. And what the daemon tells of
//! itself meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use ambit_sys::netns::Netns;
use serde_json::json;

use super::{ambient, code, stage, stage_with};
use crate::stage::{Stage, filter, namespace, pod};

/// Filter and routing of a namespace, handles and counts left out.
fn picture(netns: &Netns) -> String {
    let commands: [&[&str]; 4] = [
        &["nft", "-s", "list", "ruleset"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "all"],
    ];
    let show = |words: &&[&str]| {
        let output = netns.run(|| Command::new(words[0]).args(&words[1..]).output()).unwrap();
        let missing = "needs nft and ip: apt-get install nftables iproute2";
        String::from_utf8(output.expect(missing).stdout).unwrap()
    };
    commands.iter().map(show).collect()
}

fn uninstall(stage: &Stage, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-cni-node"));
    command.args(["uninstall", "--run-dir"]).arg(stage.path("run")).args(more);
    stage.node.run(|| command.output().unwrap()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

// K25, K26
#[test]
fn uninstalling_lets_running_pods_out_in_order_and_leaves_node_and_pods_as_they_were() {
    let mut stage = stage(&[namespace(None)]);
    stage.kill();
    let ruleless = |stage: &Stage| {
        let clear = || Command::new("nft").args(["flush", "ruleset"]).status();
        assert!(stage.node.run(clear).unwrap().expect("needs nft: apt-get install nftables").success());
    };
    ruleless(&stage);
    let (web, db) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let before = [&stage.node, &web, &db].map(picture);
    stage.tell(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    stage.start();
    let ztunnel = stage.ztunnel();
    assert!(stage.plugin("ADD", "web", "u-1", &web).good);
    assert!(stage.plugin("ADD", "db", "u-2", &db).good);
    let during = [&stage.node, &web, &db].map(picture);
    assert!(before.iter().zip(&during).all(|(before, during)| before != during));

    let refused = uninstall(&stage, &[]);
    assert!(!refused.status.success() && said(&refused).contains("--unenrol"), "{}", said(&refused));
    assert_eq!([&stage.node, &web, &db].map(picture), during, "a refusal changes nothing");

    let done = uninstall(&stage, &["--unenrol"]);
    assert!(done.status.success(), "{}\n{}", said(&done), stage.log());
    assert_eq!([&stage.node, &web, &db].map(picture), before);
    assert_eq!((stage.redirection("web"), stage.redirection("db")), (None, None));
    assert!(ztunnel.has_heard("del u-1") && ztunnel.has_heard("del u-2"));
    assert!(!stage.path("run").exists(), "no record and no socket is left");
    // Longer than the daemon's look at its rules: it puts nothing back.
    std::thread::park_timeout(std::time::Duration::from_millis(1500));
    assert_eq!([&stage.node, &web, &db].map(picture), before);
    assert!(uninstall(&stage, &["--unenrol"]).status.success(), "again, as people do");
}

#[test]
fn a_pod_that_starts_while_the_mesh_leaves_starts_outside_it() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let _ztunnel = stage.ztunnel();
    let socket = stage.path("run/control.sock");
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600,
        "the node's root alone may ask"
    );
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream
        .write_all(b"POST /retire HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    assert_eq!((filter(&netns), stage.redirection("web")), (String::new(), None));
}

#[test]
fn uninstalling_without_the_daemon_clears_the_pods_that_are_recorded_and_no_others() {
    let mut stage = stage(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    let ztunnel = stage.ztunnel();
    let (web, db) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let before = picture(&web);
    assert!(stage.plugin("ADD", "web", "u-1", &web).good);
    assert!(stage.plugin("ADD", "db", "u-2", &db).good);
    stage.kill();
    drop(ztunnel);
    // As if another namespace were behind that record's path by now.
    let record = stage.path("run/pods/u-2.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    value["mark"]["inode"] = json!(1);
    fs::write(&record, value.to_string()).unwrap();
    let done = uninstall(&stage, &["--unenrol"]);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(picture(&web), before);
    assert!(filter(&db).contains("redirect"), "not touched: {}", said(&done));
    assert_eq!(filter(&stage.node), "");
}

pub(crate) fn get(stage: &Stage, path: &str) -> String {
    // Its address is bound a moment after the plugin's socket.
    let Ok(mut stream) = stage.node.run(|| TcpStream::connect("127.0.0.1:15014")).unwrap() else {
        return String::new();
    };
    let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

// K32
#[test]
fn the_daemon_is_ready_without_a_ztunnel_and_the_node_is_not() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    stage.eventually("ready", || get(&stage, "/readyz").starts_with("HTTP/1.1 200"));
    let mesh = get(&stage, "/readyz/mesh");
    assert!(mesh.starts_with("HTTP/1.1 503") && mesh.ends_with("pending: ztunnel\n"), "{mesh}");
    let ztunnel = stage.ztunnel();
    stage.eventually("the node is ready", || get(&stage, "/readyz/mesh").starts_with("HTTP/1.1 200"));
    assert!(get(&stage, "/metrics").contains("ztunnel_connected 1\n"));
    drop(ztunnel);
    stage.eventually("it is not any more", || get(&stage, "/readyz/mesh").contains("pending: ztunnel"));
    assert!(get(&stage, "/readyz").starts_with("HTTP/1.1 200"));
}

#[test]
fn the_selectors_given_decide_and_those_that_are_none_stop_the_daemon() {
    let by_tier = "[{podSelector: {matchExpressions: [{key: tier, operator: In, values: [front]}]}}]";
    let mut front = pod("web", "u-1");
    front["metadata"]["labels"] = json!({ "tier": "front" });
    let more = ["--enablement-selector".to_owned(), by_tier.to_owned()];
    let stage = stage_with(&[ambient(), front, pod("db", "u-2")], &more);
    let netns = [(); 2].map(|()| Netns::anonymous().unwrap());
    assert_eq!(
        code(&stage.plugin("ADD", "web", "u-1", &netns[0])),
        11,
        "it is to be in, and nobody carries it"
    );
    assert!(stage.plugin("ADD", "db", "u-2", &netns[1]).good);

    let output = Command::new(env!("CARGO_BIN_EXE_ambit-cni-node"))
        .args(["--source", "/", "--node-name", "n", "--enablement-selector", "[{podselector: {}}]"])
        .output()
        .unwrap();
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("podselector") && said.contains("podSelector"),
        "{said}"
    );
}

// K34
#[test]
fn the_daemon_lets_go_of_a_namespace_when_its_pod_is_gone() {
    let stage = stage(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    let _ztunnel = stage.ztunnel();
    let (web, db) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let holds = |netns: &Netns| {
        let name = format!("net:[{}]", netns.id().inode);
        let open = fs::read_dir(format!("/proc/{}/fd", stage.pid())).unwrap().flatten();
        open.filter_map(|it| fs::read_link(it.path()).ok()).any(|it| it.to_str() == Some(&name))
    };
    assert!(stage.plugin("ADD", "web", "u-1", &web).good);
    assert!(stage.plugin("ADD", "db", "u-2", &db).good);
    assert!(holds(&web) && holds(&db));
    assert!(stage.plugin("DEL", "web", "u-1", &web).good);
    stage.eventually("let go", || !holds(&web));
    assert!(holds(&db));
}
