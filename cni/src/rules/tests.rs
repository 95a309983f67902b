//! The rules, compared with the golden texts beside this file.

use std::path::Path;

use super::*;

fn pod(families: Families) -> PodRules {
    PodRules { families, dns: false, bypass_inbound: false, inner_interfaces: Vec::new() }
}

/// Compares with the golden file; `AMBIT_GOLDEN=write` writes it instead.
fn golden(name: &str, table: &Table) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules/golden").join(name);
    let text = table.to_string();
    if std::env::var_os("AMBIT_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{name} differs; look at it, then AMBIT_GOLDEN=write cargo test.\n{text}");
}

#[test]
fn a_pods_rules_are_the_golden_ones() {
    let interfaces = || vec!["tap0".parse().unwrap(), "net1".parse().unwrap()];
    for (families, suffix) in [(Families::V4, "v4"), (Families::Both, "both")] {
        golden(&format!("pod-{suffix}.nft"), &pod_table(&pod(families)));
        let names = PodRules { dns: true, ..pod(families) };
        golden(&format!("pod-dns-{suffix}.nft"), &pod_table(&names));
        golden(&format!("pod-dns-leaving-{suffix}.nft"), &leaving_table(&names));
        golden(&format!("pod-dns-parting-{suffix}.nft"), &parting_table(&names));
        let bypass = PodRules { bypass_inbound: true, ..pod(families) };
        golden(&format!("pod-bypass-{suffix}.nft"), &pod_table(&bypass));
        let inner = PodRules { inner_interfaces: interfaces(), ..pod(families) };
        golden(&format!("pod-inner-{suffix}.nft"), &pod_table(&inner));
        let both = PodRules { inner_interfaces: interfaces(), ..bypass };
        golden(&format!("pod-bypass-inner-{suffix}.nft"), &pod_table(&both));
        let node = NodeRules { families, prober: 0, pods: None };
        golden(&format!("node-{suffix}.nft"), &node_table(&node));
        let pods = Some(PodsGroup { id: 4711, level: 1 });
        golden(&format!("node-pods-{suffix}.nft"), &node_table(&NodeRules { pods, ..node }));
    }
}

// K19
#[test]
fn an_interface_name_that_could_be_anything_else_is_refused() {
    for text in ["eth0", "tap-1.5@x", "123456789012345"] {
        assert_eq!(text.parse::<InterfaceName>().unwrap().as_str(), text);
    }
    let long = "1234567890123456";
    for text in ["", long, "a b", "a/b", "a\nb", "a\"b", "a;\u{7}", "..", ".", "a:b", "e*"] {
        assert!(text.parse::<InterfaceName>().is_err(), "{text:?}");
    }
}

#[test]
fn an_address_of_an_unused_family_does_not_exist() {
    assert!(Families::V4.has("10.0.0.1".parse().unwrap()));
    assert!(!Families::V4.has("fd00::1".parse().unwrap()));
    assert!(Families::Both.has("fd00::1".parse().unwrap()));
}

// K22
#[test]
fn the_nodes_source_translation_comes_before_the_networks_own() {
    // Where networks masquerade: NF_IP_PRI_NAT_SRC.
    const SRCNAT: i32 = 100;
    let pods = Some(PodsGroup { id: 1, level: 1 });
    for pods in [None, pods] {
        let table = node_table(&NodeRules { families: Families::Both, prober: 0, pods });
        let last = table.chains.iter().filter(|it| it.hook == Hook::Postrouting);
        assert!(last.clone().count() == 1 && last.map(|it| it.priority).all(|it| it < SRCNAT));
    }
}
