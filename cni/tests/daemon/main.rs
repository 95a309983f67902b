//! The real daemon with a ztunnel that is played, asked by the plugin's own code. Needs root.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod alone;
mod ending;
mod found;
mod installed;
mod kube;
mod leave;
mod names;
mod node;
mod older;
mod prober;
mod proof;
mod stage;
mod standing;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ambit_cni_plugin::Answer;
use ambit_sys::netns::Netns;
use serde_json::{Value, json};
use stage::{Manner, Stage, Ztunnel, filter, namespace, pod};

fn stage(objects: &[Value]) -> Stage {
    stage_with(objects, &[])
}

/// With more on the daemon's command line.
fn stage_with(objects: &[Value], more: &[String]) -> Stage {
    Stage::with(env!("CARGO_BIN_EXE_ambit-cni-node"), objects, more)
}

fn ambient() -> Value {
    namespace(Some("ambient"))
}

fn code(answer: &Answer) -> u64 {
    let object: Value = serde_json::from_str(&answer.output).unwrap();
    object["code"].as_u64().unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn a_pod_starts_after_ztunnel_agreed_and_the_rules_are_in_place_and_leaves_without_a_trace() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    let answer = stage.plugin("ADD", "web", "u-1", &netns);
    assert!(answer.good, "{answer:?}\n{}", stage.log());
    assert_eq!(ztunnel.heard(), ["snapshot", "add u-1"]);
    assert_eq!(ztunnel.namespaces(), [netns.id()]);
    assert!(filter(&netns).contains("redirect to :15001"));
    assert_eq!(stage.redirection("web").as_deref(), Some("enabled"));
    let probes = filter(&stage.node);
    assert!(probes.contains("10.0.0.5 . 80") && probes.contains("fd00::5 . 80"), "{probes}");
    assert!(stage.plugin("CHECK", "web", "u-1", &netns).good);

    let answer = stage.plugin("DEL", "web", "u-1", &netns);
    assert!(answer.good, "{answer:?}");
    assert!(ztunnel.has_heard("del u-1"));
    assert_eq!(stage.redirection("web"), None);
    assert!(!filter(&stage.node).contains("10.0.0.5"));
    assert_eq!(fs::read_dir(stage.path("run/pods")).unwrap().count(), 0);
    assert!(stage.plugin("DEL", "web", "u-1", &netns).good, "again, as runtimes do");
}

// K4
#[test]
fn without_a_ztunnel_an_eligible_pod_does_not_start_and_nothing_is_left_in_it() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let netns = Netns::anonymous().unwrap();
    let answer = stage.plugin("ADD", "web", "u-1", &netns);
    assert_eq!(code(&answer), 11, "{answer:?}");
    assert_eq!(filter(&netns), "");
    assert_eq!(stage.redirection("web").as_deref(), Some("pending"));
    let _ztunnel = stage.ztunnel();
    let retry = Netns::anonymous().unwrap();
    let answer = stage.plugin("ADD", "web", "u-1", &retry);
    assert!(answer.good, "{answer:?}\n{}", stage.log());
    stage.eventually("enabled", || stage.redirection("web").as_deref() == Some("enabled"));
}

#[test]
fn a_refusal_of_ztunnel_undoes_what_was_done() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    ztunnel.answer(Manner::Refuse);
    let netns = Netns::anonymous().unwrap();
    let answer = stage.plugin("ADD", "web", "u-1", &netns);
    assert!(code(&answer) == 11 && answer.output.contains("port taken"), "{answer:?}");
    assert_eq!(filter(&netns), "");
    assert_eq!(ztunnel.heard(), ["snapshot", "add u-1", "del u-1"]);
}

#[test]
fn a_pod_that_opted_out_starts_without_ztunnel_and_without_rules() {
    let mut out = pod("web", "u-1");
    out["metadata"]["labels"] = json!({ "istio.io/dataplane-mode": "none" });
    let stage = stage(&[ambient(), out]);
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    assert_eq!((filter(&netns), stage.redirection("web")), (String::new(), None));
}

// K13, K26
#[test]
fn a_running_pod_joins_and_leaves_by_its_namespaces_label() {
    let stage = stage(&[namespace(None), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    assert_eq!(filter(&netns), "");
    stage.tell(&[ambient(), pod("web", "u-1")]);
    stage.eventually("enrolled", || stage.redirection("web").as_deref() == Some("enabled"));
    assert!(filter(&netns).contains("redirect to :15001"));
    stage.tell(&[namespace(Some("none")), pod("web", "u-1")]);
    stage.eventually("annotation gone", || stage.redirection("web").is_none());
    assert!(!ztunnel.has_heard("del u-1"), "peers are told before ztunnel lets go");
    stage.eventually("let go", || ztunnel.has_heard("del u-1"));
    assert_eq!(filter(&netns), "");
    assert!(stage.plugin("CHECK", "web", "u-1", &netns).good);
}

// K1
#[test]
fn a_new_daemon_finds_its_pods_tells_ztunnel_all_of_them_and_changes_nothing_in_the_kernel() {
    let mut stage = stage(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    let first = stage.ztunnel();
    let pods = [("web", "u-1"), ("db", "u-2")].map(|(name, uid)| (name, uid, Netns::anonymous().unwrap()));
    for (name, uid, netns) in &pods {
        assert!(stage.plugin("ADD", name, uid, netns).good);
    }
    let picture = |stage: &Stage| (filter(&pods[0].2), filter(&pods[1].2), filter(&stage.node));
    let before = picture(&stage);
    stage.kill();
    stage.eventually("ztunnel sees the end", || first.is_closed());
    stage.start();
    let second = stage.ztunnel();
    assert_eq!(second.heard(), ["add u-1", "add u-2", "snapshot"]);
    std::thread::park_timeout(Duration::from_millis(1500));
    assert_eq!(picture(&stage), before);
    assert_eq!(second.heard().len(), 3, "the snapshot was enough: {:?}", second.heard());
    assert!(stage.plugin("CHECK", "db", "u-2", &pods[1].2).good);
}

// K1, K2
#[test]
fn rules_that_somebody_removed_are_put_back() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let _ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    let flush = |ns: &Netns| {
        let run = || std::process::Command::new("nft").args(["flush", "ruleset"]).status();
        assert!(ns.run(run).unwrap().expect("needs nft: apt-get install nftables").success());
    };
    flush(&stage.node);
    // The repair may be quicker than the question.
    stage.eventually("noticed", || {
        flush(&netns);
        !stage.plugin("CHECK", "web", "u-1", &netns).good
    });
    stage.eventually("the pod's are back", || filter(&netns).contains("redirect to :15001"));
    stage.eventually("the node's are back", || filter(&stage.node).contains("10.0.0.5 . 80"));
}

// K14, K15
#[test]
fn a_ztunnel_that_does_not_answer_is_let_go_and_the_next_one_serves_the_pod() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let hung = stage.ztunnel();
    hung.answer(Manner::Silent);
    let netns = Netns::anonymous().unwrap();
    let begun = Instant::now();
    let answer = stage.plugin("ADD", "web", "u-1", &netns);
    assert_eq!(code(&answer), 11, "{answer:?}");
    // The plugin's own patience would end after 30 s.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    stage.eventually("the hung connection is closed", || hung.is_closed());
    let _ztunnel = stage.ztunnel();
    let retry = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &retry).good, "{}", stage.log());
}

// K16
#[test]
fn the_newest_ztunnel_gets_new_pods_all_let_go_and_the_older_one_catches_up() {
    let stage = stage(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    let older = stage.ztunnel();
    let newer = stage.ztunnel();
    let (web, db) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    assert!(stage.plugin("ADD", "web", "u-1", &web).good);
    assert_eq!((older.heard().len(), newer.heard().len()), (1, 2));
    drop(newer);
    stage.eventually("the older one is told", || older.has_heard("add u-1"));
    let newest = stage.ztunnel();
    assert!(stage.plugin("ADD", "db", "u-2", &db).good);
    assert!(stage.plugin("DEL", "web", "u-1", &web).good);
    assert_eq!(newest.heard(), ["add u-1", "snapshot", "add u-2", "del u-1"]);
    assert_eq!(older.heard(), ["snapshot", "add u-1", "del u-1"]);
}

// K6, K7
#[test]
fn the_plugins_question_waits_for_the_very_pod_it_asks_about() {
    let stage = stage(&[ambient(), pod("web", "old")]);
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| stage.plugin("ADD", "web", "new", &netns));
        std::thread::park_timeout(Duration::from_millis(300));
        assert_eq!(ztunnel.heard(), ["snapshot"], "the older pod of that name is not enrolled in its place");
        stage.tell(&[ambient(), pod("web", "new")]);
        asking.join().unwrap()
    });
    assert!(answer.good, "{answer:?}");
    assert!(ztunnel.has_heard("add new"));
    let answer = stage.plugin("ADD", "nobody", "u-9", &netns);
    assert_eq!(code(&answer), 11, "{answer:?}");
}

// K12
#[test]
fn a_pod_whose_namespace_object_went_first_is_let_go_all_the_same() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    stage.tell(&[]);
    stage.eventually("let go", || ztunnel.has_heard("del u-1"));
    stage.eventually("probes gone", || !filter(&stage.node).contains("10.0.0.5"));
    assert!(filter(&netns).contains("redirect"), "its last processes are not set free in plain");
}

// K8
#[test]
fn a_pod_that_cannot_leave_at_once_leaves_when_it_can() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    let overlay = stage.path("source.overlay/cni/Pod_shop_web.json");
    // A folder in place of the file: the annotation cannot be taken back, the first step.
    fs::remove_file(&overlay).unwrap();
    fs::create_dir(&overlay).unwrap();
    stage.tell(&[namespace(None), pod("web", "u-1")]);
    std::thread::park_timeout(Duration::from_millis(500));
    assert!(
        filter(&netns).contains("redirect") && !ztunnel.has_heard("del u-1"),
        "nothing is done out of order"
    );
    fs::remove_dir(&overlay).unwrap();
    stage.eventually("left", || filter(&netns).is_empty() && ztunnel.has_heard("del u-1"));
}

// K17 of upstream's ways does not exist here; what an older agent left is taken over in the same transaction.
#[test]
fn an_earlier_agents_tables_are_replaced() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let _ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    let made = netns.run(|| {
        std::process::Command::new("nft").args(["add", "table", "inet", "istio-ambient-nat"]).status()
    });
    assert!(made.unwrap().expect("needs nft: apt-get install nftables").success());
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good, "{}", stage.log());
    assert!(!filter(&netns).contains("istio-ambient"));
}

/// Rules as upstream's agent makes them by iptables, and one of the pod's own in the same tables.
fn iptables(netns: &Netns, chains: &[&str]) {
    let script: String = ["iptables-nft", "ip6tables-nft"]
        .map(|program| {
            let own =
                format!("{program} -w -t nat -A OUTPUT -p tcp --dport 7777 -j REDIRECT --to-ports 7778\n");
            let made = chains.iter().map(|chain| {
                format!(
                    "{program} -w -t nat -N {chain}\n{program} -w -t nat -A OUTPUT -j {chain}\n\
                     {program} -w -t nat -A {chain} -p tcp -j REDIRECT --to-ports 15001\n"
                )
            });
            own + &made.collect::<String>()
        })
        .concat();
    let made = netns.run(|| std::process::Command::new("sh").args(["-ec", &script]).output());
    let made = made.unwrap().unwrap();
    assert!(
        made.status.success(),
        "needs apt-get install iptables: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

// K27
#[test]
fn chains_that_upstreams_agent_made_by_iptables_are_taken_over_and_the_pods_own_rules_stay() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let _ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    iptables(&netns, &["ISTIO_PRERT", "ISTIO_OUTPUT"]);
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good, "{}", stage.log());
    let rules = filter(&netns);
    assert!(!rules.contains("ISTIO_") && rules.matches("7777").count() == 2, "{rules}");
    assert!(stage.plugin("CHECK", "web", "u-1", &netns).good);
    iptables(&netns, &["ISTIO_OUTPUT"]);
    stage.eventually("taken out again", || !filter(&netns).contains("ISTIO_"));
}

#[test]
fn a_pod_whose_traffic_a_sidecar_redirects_is_refused_and_left_as_it_is() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let _ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    iptables(&netns, &["ISTIO_REDIRECT", "ISTIO_OUTPUT"]);
    let before = filter(&netns);
    let answer = stage.plugin("ADD", "web", "u-1", &netns);
    assert!(!answer.good && answer.output.contains("sidecar"), "{answer:?}");
    assert_eq!(filter(&netns), before);
}

#[test]
fn the_runtimes_garbage_collection_lets_go_of_what_it_does_not_name() {
    let stage = stage(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    let ztunnel = stage.ztunnel();
    let (web, db) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    assert!(stage.plugin("ADD", "web", "u-1", &web).good);
    assert!(stage.plugin("ADD", "db", "u-2", &db).good);
    let said = post(&stage, "/gc", r#"{"ValidContainerIDs":["c-u-1"]}"#);
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(ztunnel.has_heard("del u-2") && !ztunnel.has_heard("del u-1"));
}

#[test]
fn upstreams_plugin_is_understood_and_nonsense_is_refused_for_itself_alone() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    for nonsense in ["", "{", "[]", "{}", r#"{"Netns":"x","PodName":"web","PodNamespace":"shop"}"#] {
        let said = post(&stage, "/cmdadd", nonsense);
        assert!(said.starts_with("HTTP/1.1 400"), "{nonsense}: {said}");
    }
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&netns))
    );
    let host = json!({ "Netns": "/proc/self/ns/net", "PodName": "web", "PodNamespace": "shop" });
    let said = post(&stage, "/cmdadd", &host.to_string());
    assert!(said.starts_with("HTTP/1.1 500") && said.contains("node's own"), "{said}");
    let body = json!({
        "Netns": path, "PodName": "web", "PodNamespace": "shop", "Later": true,
        "IPs": [{ "Interface": 1, "Address": { "IP": "::ffff:10.0.0.5", "Mask": "////AA==" }, "Gateway": "10.0.0.1" }],
    });
    let said = post(&stage, "/cmdadd", &body.to_string());
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(ztunnel.has_heard("add u-1"));
    assert!(filter(&stage.node).contains("10.0.0.5 . 80"));
}

#[test]
fn a_question_that_names_no_container_is_about_the_pod_it_names_and_about_no_other() {
    let stage = stage(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    let ztunnel = stage.ztunnel();
    let about = |name: &str, netns: &Netns| {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(netns));
        let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
        json!({ "Netns": path, "PodName": name, "PodNamespace": "shop" }).to_string()
    };
    let pods = ["web", "db"].map(|name| (name, Netns::anonymous().unwrap()));
    for (name, netns) in &pods {
        let said = post(&stage, "/cmdadd", &about(name, netns));
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
    for (path, body) in [("/gc", r#"{"ValidContainerIDs":[]}"#), ("/cmddel", "{}")] {
        let said = post(&stage, path, body);
        assert!(said.starts_with("HTTP/1.1 200"), "{path}: {said}");
    }
    let said = post(&stage, "/gc", "{}");
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("ValidContainerIDs"), "{said}");
    let said = post(&stage, "/cmddel", &about("db", &pods[1].1));
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(ztunnel.has_heard("del u-2"));
    assert!(!ztunnel.heard().contains(&"del u-1".to_owned()), "{:?}", ztunnel.heard());
}

#[test]
fn a_ztunnel_that_speaks_out_of_turn_loses_its_connection_and_nobody_else_does() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let good = stage.ztunnel();
    let socket = stage.path("run/ztunnel.sock");
    for packet in [&b"\xff\xff"[..], &[8, 9], &[]] {
        let link = ambit_sys::pass::SeqPacket::connect(&socket).unwrap();
        let _ = link.try_send(packet, None);
        let mut buffer = [0; 64];
        let gone = || link.try_recv(&mut buffer).is_ok_and(|it| it.len == 0);
        stage.eventually("refused", gone);
    }
    assert!(stage.plugin("ADD", "web", "u-1", &Netns::anonymous().unwrap()).good);
    assert!(good.has_heard("add u-1"));
    drop(Ztunnel::connect(&socket));
}

fn post(stage: &Stage, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(stage.path("run/pluginevent.sock")).unwrap();
    let length = body.len();
    let text = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}
