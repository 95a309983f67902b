//! Installing and removing in real namespaces. Needs root; two tests also compare with the `nft` program.

use std::collections::BTreeSet;
use std::process::Command;

use super::*;
use crate::rules::{PodsGroup, TABLE};

fn netns() -> Netns {
    Netns::anonymous().expect("needs root (run as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN)")
}

fn pod(families: Families) -> PodRules {
    PodRules { families, dns: false, bypass_inbound: false, inner_interfaces: Vec::new() }
}

fn run(netns: &Netns, program: &str, words: &[&str]) -> String {
    let package = match program {
        "nft" => "nftables",
        "ip" => "iproute2",
        _ => "iptables",
    };
    let output = netns.run(|| Command::new(program).args(words).output()).unwrap();
    let output = output.unwrap_or_else(|_| panic!("needs {program}: apt-get install {package}"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn install_pod(netns: &Netns, wanted: &PodRules) -> Result<Change, ApplyError> {
    super::install_pod(netns, wanted, Life::Runs)?.result
}

/// Filter and routing as the usual programs show them, counts left out.
fn picture(netns: &Netns) -> String {
    let mut all = run(netns, "nft", &["-s", "list", "ruleset"]);
    for words in [["-4", "rule"], ["-6", "rule"]] {
        all += &run(netns, "ip", &words);
    }
    for family in ["-4", "-6"] {
        all += &run(netns, "ip", &[family, "route", "show", "table", "all", "type", "local", "default"]);
    }
    all
}

#[test]
fn installing_twice_changes_nothing_and_keeps_the_counts() {
    let ns = netns();
    let wanted =
        PodRules { dns: true, inner_interfaces: vec!["tap0".parse().unwrap()], ..pod(Families::Both) };
    assert_eq!(install_pod(&ns, &wanted).unwrap(), Change::Made);
    let before = picture(&ns);
    assert_eq!(install_pod(&ns, &wanted).unwrap(), Change::None);
    assert_eq!(verify_pod(&ns, &wanted).unwrap(), None);
    assert_eq!(picture(&ns), before);
}

#[test]
fn removal_leaves_nothing_behind_and_may_be_repeated() {
    let ns = netns();
    let empty = picture(&ns);
    install_pod(&ns, &pod(Families::Both)).unwrap();
    assert_ne!(picture(&ns), empty);
    remove_pod(&ns).unwrap();
    assert_eq!(picture(&ns), empty);
    remove_pod(&ns).unwrap();
}

// K9
#[test]
fn a_pod_of_one_family_becomes_one_of_two() {
    let ns = netns();
    install_pod(&ns, &pod(Families::V4)).unwrap();
    assert_eq!(verify_pod(&ns, &pod(Families::V4)).unwrap(), None);
    assert!(verify_pod(&ns, &pod(Families::Both)).unwrap().is_some());
    assert_eq!(install_pod(&ns, &pod(Families::Both)).unwrap(), Change::Made);
    assert_eq!(verify_pod(&ns, &pod(Families::Both)).unwrap(), None);
    let rules = run(&ns, "ip", &["-6", "rule"]);
    assert!(rules.contains("32764:	from all fwmark 0x111/0xfff lookup 100"), "{rules}");
    let routes = run(&ns, "ip", &["-6", "route", "show", "table", "100"]);
    assert!(routes.contains("local default dev lo"), "{routes}");
}

// K10
#[test]
fn a_pod_with_ipv6_switched_off_is_served_by_ipv4() {
    let ns = netns();
    for conf in ["all", "default", "lo"] {
        let switch = format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6");
        ns.run(|| std::fs::write(switch, "1").unwrap()).unwrap();
    }
    install_pod(&ns, &pod(Families::Both)).unwrap();
    assert_eq!(verify_pod(&ns, &pod(Families::Both)).unwrap(), None);
    remove_pod(&ns).unwrap();
}

// K27
#[test]
fn names_captured_no_more_leave_nothing_of_it_behind() {
    let (fresh, changed) = (netns(), netns());
    install_pod(&fresh, &pod(Families::Both)).unwrap();
    install_pod(&changed, &PodRules { dns: true, ..pod(Families::Both) }).unwrap();
    assert!(picture(&changed).contains("zone"));
    assert_eq!(install_pod(&changed, &pod(Families::Both)).unwrap(), Change::Made);
    assert_eq!(picture(&changed), picture(&fresh));
}

// K18
#[test]
fn a_changed_a_missing_and_a_reordered_rule_are_noticed_and_repaired() {
    let wanted = pod(Families::Both);
    let spoil: [&[&str]; 6] = [
        &["flush", "chain", "inet", TABLE, "nat-output"],
        &["insert", "rule", "inet", TABLE, "nat-output", "tcp", "dport", "80", "accept"],
        &["add", "rule", "inet", TABLE, "mangle-output", "counter", "accept"],
        &["add", "chain", "inet", TABLE, "other"],
        &["delete", "table", "inet", TABLE],
        &["add", "table", "inet", "istio-ambient-nat"],
    ];
    for words in spoil {
        let ns = netns();
        install_pod(&ns, &wanted).unwrap();
        let good = picture(&ns);
        run(&ns, "nft", words);
        assert!(verify_pod(&ns, &wanted).unwrap().is_some(), "{words:?}");
        assert_eq!(install_pod(&ns, &wanted).unwrap(), Change::Made, "{words:?}");
        assert_eq!(picture(&ns), good, "{words:?}");
    }
}

#[test]
fn a_rule_whose_port_was_changed_in_place_is_noticed() {
    let ns = netns();
    install_pod(&ns, &pod(Families::V4)).unwrap();
    let listed = run(&ns, "nft", &["-a", "list", "chain", "inet", TABLE, "nat-output"]);
    let line = listed.lines().find(|line| line.contains("redirect to :15001")).unwrap();
    let handle = line.rsplit(' ').next().unwrap();
    let words = ["meta", "l4proto", "tcp", "counter", "redirect", "to", ":15009"];
    run(
        &ns,
        "nft",
        &[&["replace", "rule", "inet", TABLE, "nat-output", "handle", handle], &words[..]].concat(),
    );
    assert_eq!(verify_pod(&ns, &pod(Families::V4)).unwrap(), Some(Drift::Rules("nat-output".into())));
}

#[test]
fn other_owners_tables_are_left_alone() {
    let ns = netns();
    run(&ns, "nft", &["add", "table", "inet", "theirs"]);
    install_pod(&ns, &pod(Families::Both)).unwrap();
    remove_pod(&ns).unwrap();
    assert_eq!(run(&ns, "nft", &["list", "ruleset"]), "table inet theirs {\n}\n");
}

#[test]
fn nft_reads_the_rules_as_we_write_them() {
    let ns = netns();
    let wanted =
        PodRules { dns: true, inner_interfaces: vec!["tap0".parse().unwrap()], ..pod(Families::Both) };
    install_pod(&ns, &wanted).unwrap();
    let theirs = run(&ns, "nft", &["-s", "-n", "list", "table", "inet", TABLE]);
    assert_eq!(plain(&theirs), plain(&pod_table(&wanted).to_string()));
}

/// The two writers differ in how they write numbers and what goes without saying.
fn plain(text: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for line in text.lines() {
        // nft shows kept and set bits joined in the first mask; the result is the same.
        let mut line = line
            .trim()
            .replace("meta mark", "mark")
            .replace("0x00000", "0x")
            .replace("& 0xfffff111 |", "& 0xfffff000 |");
        for (long, short) in [
            ("meta nfproto ipv4 ", ""),
            ("meta nfproto ipv6 ", ""),
            ("meta l4proto tcp ", ""),
            ("meta l4proto 6 ", ""),
            ("meta l4proto udp ", ""),
            ("meta l4proto 17 ", ""),
            (" == ", " "),
            ("tcp dport", "th dport"),
            ("udp dport", "th dport"),
            ("udp sport", "th sport"),
        ] {
            line = line.replace(long, short);
        }
        lines.insert(line);
    }
    lines
}

// K11, K21
#[test]
fn probe_sets_change_by_their_difference_alone() {
    let ns = netns();
    let node = NodeRules { families: Families::Both, prober: 0, pods: None };
    let set = |all: &[&str]| all.iter().map(|it| it.parse().unwrap()).collect::<BTreeSet<ProbeTarget>>();
    ns.run(|| {
        assert_eq!(install_node(&node).unwrap(), Change::Made);
        let stays = || Surplus::GoesOf(set(&["10.0.0.5:80", "10.0.0.7:80"]));
        let sync = |all: &[&str], surplus: Surplus| sync_probes(&set(all), Families::Both, &surplus).unwrap();
        let first = ["10.0.0.5:80", "[fd00::5]:80"];
        assert_eq!(sync(&first, Surplus::Goes), ProbeChange { added: 2, removed: 0 });
        assert_eq!(sync(&first, Surplus::Goes), ProbeChange::default());
        assert_eq!(install_node(&node).unwrap(), Change::None, "the sets keep their elements");
        assert_eq!(sync(&["10.0.0.6:80"], stays()), ProbeChange { added: 1, removed: 1 });
        assert_eq!(sync(&["10.0.0.6:80"], Surplus::Goes), ProbeChange { added: 0, removed: 1 });
        remove_node().unwrap();
        assert!(matches!(
            sync_probes(&set(&first), Families::Both, &Surplus::Goes),
            Err(ApplyError::Kernel { .. })
        ));
    })
    .unwrap();
    assert_eq!(run(&ns, "nft", &["list", "ruleset"]), "");
}

// K10
#[test]
fn probe_targets_of_an_unused_family_are_ignored() {
    let ns = netns();
    ns.run(|| {
        install_node(&NodeRules { families: Families::V4, prober: 0, pods: None }).unwrap();
        let wanted = BTreeSet::from(["10.0.0.5:80".parse().unwrap(), "[fd00::5]:80".parse().unwrap()]);
        let change = sync_probes(&wanted, Families::V4, &Surplus::Goes).unwrap();
        assert_eq!(change, ProbeChange { added: 1, removed: 0 });
    })
    .unwrap();
}

// K20
#[test]
fn the_rule_that_keeps_pods_out_is_read_back_as_it_was_installed() {
    let ns = netns();
    let mut node = NodeRules { families: Families::Both, prober: 0, pods: None };
    ns.run(|| {
        assert_eq!(install_node(&node).unwrap(), Change::Made);
        for id in [4711, 4712] {
            node.pods = Some(PodsGroup { id, level: 1 });
            assert_eq!(install_node(&node).unwrap(), Change::Made, "{id}");
            assert_eq!(install_node(&node).unwrap(), Change::None, "{id}");
        }
    })
    .unwrap();
}

#[test]
fn nft_reads_the_nodes_rules_and_sets() {
    let ns = netns();
    let node = NodeRules { families: Families::Both, prober: 0, pods: None };
    ns.run(|| {
        install_node(&node).unwrap();
        sync_probes(&BTreeSet::from(["10.0.0.5:8080".parse().unwrap()]), Families::Both, &Surplus::Goes)
            .unwrap();
    })
    .unwrap();
    let theirs = run(&ns, "nft", &["-s", "-n", "list", "table", "inet", TABLE]);
    assert!(theirs.contains("elements = { 10.0.0.5 . 8080 }"), "{theirs}");
    assert!(theirs.contains("ip daddr . tcp dport @probes-v4 counter snat ip to 169.254.7.127"), "{theirs}");
}

// Upstream's agent leaves it to its successor when it ends (`cni.md` 3.7); a successor of another make has to take it
// away, or every process on the node's network goes on to look like a probe.
#[test]
fn upstreams_rules_on_a_node_are_taken_over_and_others_stay() {
    let ns = netns();
    for program in ["iptables-nft", "ip6tables-nft"] {
        for words in [
            "-N ISTIO_POSTRT",
            "-A ISTIO_POSTRT -p tcp -j MASQUERADE",
            "-A POSTROUTING -p tcp --dport 7777 -j MASQUERADE",
            "-I POSTROUTING 1 -j ISTIO_POSTRT",
        ] {
            let words = format!("-w -t nat {words}");
            run(&ns, program, &words.split(' ').collect::<Vec<_>>());
        }
    }
    ns.run(|| {
        let node = NodeRules { families: Families::Both, prober: 0, pods: None };
        assert_eq!(install_node(&node).unwrap(), Change::Made);
        assert_eq!(install_node(&node).unwrap(), Change::None);
    })
    .unwrap();
    let rules = run(&ns, "nft", &["-s", "list", "ruleset"]);
    assert!(!rules.contains("ISTIO_") && rules.matches("7777").count() == 2, "{rules}");
}
