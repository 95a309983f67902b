//! The plugin against daemons that are there, away, slow of mind, or not speaking HTTP.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::*;

const ENVIRONMENT: [(&str, &str); 6] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin"),
    ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u-1"),
];

fn given(change: &[(&'static str, &'static str)]) -> Surroundings {
    let kept = ENVIRONMENT.into_iter().filter(|(name, _)| !change.iter().any(|(other, _)| other == name));
    Surroundings::given(&kept.chain(change.iter().copied()).collect::<Vec<_>>())
}

fn config(run_dir: &Path) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "k8s", "type": "ambit-cni", "cni_agent_run_dir": run_dir,
        "prevResult": {
            "cniVersion": "1.1.0",
            "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/x", "vendor": { "x": 1 } }],
            "ips": [
                { "address": "10.0.0.5/23", "gateway": "10.0.0.1", "interface": 0 },
                { "address": "fd00::5/64" },
            ],
            "dns": {}, "unknown": [1, 2],
        },
    })
}

/// A daemon that gives one answer; its thread ends with the question it heard.
fn daemon(answer: &'static str) -> (tempfile::TempDir, JoinHandle<(String, Value)>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let heard = hear(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        heard
    });
    (dir, thread)
}

/// The whole question, which may come in pieces: its first line and its body.
fn hear(stream: &mut UnixStream) -> (String, Value) {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    loop {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "cut short: {bytes:?}");
        bytes.extend(&part[..count]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        if body.len() == length {
            return (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap());
        }
    }
}

fn object(answer: &Answer) -> Value {
    serde_json::from_str(&answer.output).unwrap()
}

fn code(answer: &Answer) -> u64 {
    assert!(!answer.good, "{answer:?}");
    let object = object(answer);
    assert!(object["cniVersion"].is_string() && object["msg"].is_string(), "{object}");
    object["code"].as_u64().unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

// K6
#[test]
fn add_asks_with_uid_and_container_and_passes_the_previous_result_through_whole() {
    let (dir, daemon) = daemon(OK);
    let config = config(dir.path());
    let answer = run(&given(&[]), config.to_string().as_bytes());
    assert!(answer.good, "{answer:?}");
    assert_eq!(object(&answer), config["prevResult"]);
    let (line, body) = daemon.join().unwrap();
    assert_eq!(line, "POST /cmdadd HTTP/1.1");
    let wanted = json!({
        "Netns": "/run/netns/x", "PodName": "web", "PodNamespace": "shop",
        "IPs": [
            { "Interface": 0, "Address": { "IP": "10.0.0.5", "Mask": "///+AA==" }, "Gateway": "10.0.0.1" },
            { "Interface": null, "Address": { "IP": "fd00::5", "Mask": "//////////8AAAAAAAAAAA==" }, "Gateway": "" },
        ],
        "PodUID": "u-1", "ContainerID": "c1", "IfName": "eth0",
    });
    assert_eq!(body, wanted);
}

// K4
#[test]
fn a_pod_does_not_start_without_the_daemons_word() {
    let nowhere = tempfile::tempdir().unwrap();
    let answer = run(&given(&[]), config(nowhere.path()).to_string().as_bytes());
    assert_eq!(code(&answer), 11);
    for (said, wanted) in [
        ("HTTP/1.1 503 Unavailable\r\n\r\nno ztunnel is connected", 11),
        ("HTTP/1.1 500 Error\r\n\r\nrules", 100),
        ("HTTP/1.1 400 Bad\r\n\r\nwhat", 100),
        ("nonsense", 11),
        ("", 11),
    ] {
        let (dir, daemon) = daemon(said);
        let answer = run(&given(&[]), config(dir.path()).to_string().as_bytes());
        assert_eq!(code(&answer), wanted, "{said}");
        let reason = said.rsplit("\r\n").next().unwrap_or_default();
        let details = object(&answer)["details"].as_str().unwrap().to_owned();
        assert!(reason == "nonsense" || details.contains(reason), "{details}");
        daemon.join().unwrap();
    }
}

#[test]
fn a_pod_waits_for_a_daemon_that_is_about_to_come_and_fails_when_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("made-at-each-boot");
    let config = config(&run_dir).to_string();
    let until_there = Arc::new(Barrier::new(2));
    let coming = std::thread::spawn({
        let (socket, until_there) = (run_dir.join(SOCKET), Arc::clone(&until_there));
        move || {
            until_there.wait();
            std::thread::park_timeout(Duration::from_millis(300));
            std::fs::create_dir(socket.parent().unwrap()).unwrap();
            let (mut stream, _) = UnixListener::bind(&socket).unwrap().accept().unwrap();
            hear(&mut stream);
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    until_there.wait();
    let answer = run(&given(&[]).waiting(Duration::from_secs(20)), config.as_bytes());
    assert!(answer.good, "{answer:?}");
    coming.join().unwrap();

    // Its socket is still there, and nobody behind it.
    let patience = Duration::from_millis(200);
    let begun = Instant::now();
    let answer = run(&given(&[]).waiting(patience), config.as_bytes());
    assert!(code(&answer) == 11 && answer.output.contains("is it running?"), "{answer:?}");
    assert!(begun.elapsed() >= patience);
    let del = given(&[("CNI_COMMAND", "DEL")]).waiting(Duration::from_secs(1000));
    assert!(run(&del, config.as_bytes()).good, "whoever goes does not wait for it");
}

// K5
#[test]
fn the_daemons_own_pod_and_what_is_no_pod_start_without_the_daemon() {
    let own = "K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-node-x7";
    for arguments in [own, "", "IgnoreUnknown=1", "K8S_POD_NAME=web", "K8S_POD_NAMESPACE=shop"] {
        let answer =
            run(&given(&[("CNI_ARGS", arguments)]), config(Path::new("/nonexistent")).to_string().as_bytes());
        assert!(answer.good, "{arguments}: {answer:?}");
        assert_eq!(object(&answer)["unknown"], json!([1, 2]));
    }
    let other = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=istio-cni-node-x7";
    let answer =
        run(&given(&[("CNI_ARGS", other)]), config(Path::new("/nonexistent")).to_string().as_bytes());
    assert_eq!(code(&answer), 11, "another namespace's pod only looks like it");
}

#[test]
fn without_a_previous_result_the_result_is_empty() {
    let (dir, daemon) = daemon(OK);
    let mut config = config(dir.path());
    config.as_object_mut().unwrap().remove("prevResult");
    let answer = run(&given(&[]), config.to_string().as_bytes());
    assert_eq!(object(&answer), json!({ "cniVersion": "1.1.0" }));
    assert_eq!(daemon.join().unwrap().1["IPs"], Value::Null);
}

#[test]
fn del_succeeds_when_the_daemon_is_away_and_says_so_when_it_refuses() {
    let nowhere = PathBuf::from("/nonexistent");
    let del = given(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]);
    assert!(run(&del, config(&nowhere).to_string().as_bytes()).good);
    let (dir, first) = daemon(OK);
    assert!(run(&del, config(dir.path()).to_string().as_bytes()).good);
    assert_eq!(first.join().unwrap().0, "POST /cmddel HTTP/1.1");
    let (dir, second) = daemon("HTTP/1.1 500 Error\r\n\r\nnot now");
    assert_eq!(code(&run(&del, config(dir.path()).to_string().as_bytes())), 11);
    second.join().unwrap();
}

#[test]
fn check_gc_and_status_ask_the_daemon() {
    let mut gc = config(Path::new("/"));
    gc["cni.dev/valid-attachments"] =
        json!([{ "containerID": "c1", "ifname": "eth0" }, { "containerID": "c2" }]);
    gc["strict_status"] = json!(true);
    for (command, path) in [("CHECK", "/check"), ("GC", "/gc"), ("STATUS", "/status")] {
        let (dir, daemon) = daemon(OK);
        gc["cni_agent_run_dir"] = json!(dir.path());
        let answer = run(&given(&[("CNI_COMMAND", command)]), gc.to_string().as_bytes());
        assert!(answer.good && answer.output.is_empty(), "{command}: {answer:?}");
        let (line, body) = daemon.join().unwrap();
        assert_eq!(line, format!("POST {path} HTTP/1.1"));
        assert!(command != "GC" || body["ValidContainerIDs"] == json!(["c1", "c2"]), "{body}");
    }
    let (dir, daemon) = daemon("HTTP/1.1 500 Error\r\n\r\nrules differ");
    gc["cni_agent_run_dir"] = json!(dir.path());
    assert_eq!(code(&run(&given(&[("CNI_COMMAND", "CHECK")]), gc.to_string().as_bytes())), 101);
    daemon.join().unwrap();
}

#[test]
fn status_fails_without_the_daemon_only_where_that_is_asked_for() {
    let status = given(&[("CNI_COMMAND", "STATUS")]);
    let mut config = config(Path::new("/nonexistent"));
    assert!(run(&status, config.to_string().as_bytes()).good);
    config["strict_status"] = json!(true);
    assert_eq!(code(&run(&status, config.to_string().as_bytes())), 50);
}

#[test]
fn version_and_the_bare_call_need_nothing() {
    let answer = run(&given(&[("CNI_COMMAND", "VERSION")]), b"");
    assert_eq!(object(&answer)["supportedVersions"], json!(VERSIONS));
    let answer = run(&Surroundings::default(), b"");
    assert!(answer.good && answer.output.is_empty() && answer.note.contains("1.1.0"));
}

#[test]
fn what_the_runtime_got_wrong_has_its_code() {
    let fine = config(Path::new("/nonexistent")).to_string();
    let edit = |key: &str, value: Value| {
        let mut config = config(Path::new("/nonexistent"));
        config[key] = value;
        config.to_string()
    };
    let cases = [
        (given(&[]), "{".to_owned(), 6),
        (given(&[]), "[]".to_owned(), 6),
        (given(&[]), edit("cniVersion", json!("9.0.0")), 1),
        (given(&[]), edit("cniVersion", json!(1)), 7),
        (given(&[]), edit("name", json!("")), 7),
        (given(&[]), edit("name", json!("../x")), 7),
        (given(&[]), edit("cni_agent_run_dir", json!([])), 7),
        (given(&[("CNI_COMMAND", "JUMP")]), fine.clone(), 4),
        (given(&[("CNI_NETNS", "")]), fine.clone(), 4),
        (given(&[("CNI_CONTAINERID", "../x")]), fine.clone(), 4),
        (given(&[("CNI_IFNAME", "a/b")]), fine.clone(), 4),
        (given(&[("CNI_COMMAND", "CHECK")]), edit("cniVersion", json!("0.3.1")), 1),
        (given(&[("CNI_COMMAND", "GC")]), edit("cniVersion", json!("1.0.0")), 1),
        // No list, or an item that is not understood, must not look like "nothing is left".
        (given(&[("CNI_COMMAND", "GC")]), fine.clone(), 7),
        (given(&[("CNI_COMMAND", "GC")]), edit("cni.dev/valid-attachments", json!([{ "ifname": "a" }])), 7),
    ];
    for (surroundings, input, wanted) in cases {
        assert_eq!(code(&run(&surroundings, input.as_bytes())), wanted, "{surroundings:?} {input}");
    }
}

// K5
#[test]
fn pods_of_excluded_namespaces_start_without_the_daemon_and_a_list_that_is_none_is_refused() {
    let mut network = config(Path::new("/nowhere"));
    network["exclude_namespaces"] = json!(["kube-system", "shop"]);
    for command in ["ADD", "CHECK", "DEL"] {
        let given = given(&[("CNI_COMMAND", command)]);
        assert!(run(&given, network.to_string().as_bytes()).good, "{command}");
    }
    network["exclude_namespaces"] = json!(["shop2"]);
    assert!(!run(&given(&[]), network.to_string().as_bytes()).good);
    for wrong in [json!("shop"), json!([1]), json!({})] {
        network["exclude_namespaces"] = wrong;
        let answer = run(&given(&[]), network.to_string().as_bytes());
        assert!(answer.output.contains("\"code\":7"), "{answer:?}");
    }
}
