//! Installing into folders as runtimes' networks leave them, on a real file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::plan::Way;
use super::*;

/// Primary configurations as networks write them: file name, content.
const PRIMARIES: [(&str, &str); 6] = [
    (
        "10-kindnet.conflist",
        r#"{"cniVersion":"0.3.1","name":"kindnet","plugins":[{"type":"ptp","ipMasq":false,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.244.0.0/24"}]]},"mtu":1500},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
    ),
    (
        "10-calico.conflist",
        r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","log_level":"info","datastore_type":"kubernetes","nodename":"n1","mtu":0,"ipam":{"type":"calico-ipam"},"policy":{"type":"k8s"},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}},{"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#,
    ),
    (
        "05-cilium.conflist",
        r#"{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni","enable-debug":false,"log-file":"/var/run/cilium/cilium-cni.log"}]}"#,
    ),
    (
        "10-flannel.conflist",
        r#"{"name":"cbr0","cniVersion":"1.0.0","disableCheck":true,"plugins":[{"type":"flannel","delegate":{"hairpinMode":true,"forceAddress":true,"isDefaultGateway":true}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
    ),
    ("87-podman-bridge.json", r#"{"cniVersion":"0.4.0","name":"podman","type":"bridge","bridge":"cni0"}"#),
    (
        "10-bridge.conf",
        r#"{"name":"mynet","type":"bridge","bridge":"cni0","ipam":{"type":"host-local","subnet":"10.1.0.0/16"}}"#,
    ),
];

struct Node {
    dir: tempfile::TempDir,
    site: Site,
}

fn chained() -> Way {
    Way::Chained { named: None, former: "02-istio-cni.conflist".into() }
}

fn owned() -> Way {
    Way::Owned { own: "02-istio-cni.conflist".into(), named: None }
}

impl Node {
    fn new(way: Way) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("net")).unwrap();
        fs::create_dir(at("bin")).unwrap();
        fs::write(at("plugin"), "#!program 1").unwrap();
        let told = Told {
            run_dir: Path::new("/run/x"),
            pod_namespace: "istio-system",
            excluded: vec!["kube-system".into()],
        };
        let (entry, mode) = (entry(&told), 0o600);
        let site = Site { net_dir: at("net"), bin_dir: at("bin"), program: at("plugin"), way, entry, mode };
        Self { dir, site }
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.site.net_dir.join(name), text).unwrap();
    }

    fn value(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.site.net_dir.join(name)).unwrap()).unwrap()
    }

    /// The types of a list's plugins.
    fn types(&self, name: &str) -> Vec<String> {
        let list = self.value(name);
        let all = list["plugins"].as_array().unwrap().iter();
        all.map(|it| it["type"].as_str().unwrap().to_owned()).collect()
    }

    fn pass(&self) -> Pass {
        self.site.pass().unwrap()
    }

    fn remove(&self) {
        remove(&self.site.net_dir, Some(&self.site.bin_dir), Some("02-istio-cni.conflist")).unwrap();
    }

    /// Names, bytes and permissions of everything in both folders.
    fn picture(&self) -> Vec<(String, Vec<u8>, u32)> {
        let mut all = Vec::new();
        for folder in ["net", "bin"] {
            for entry in fs::read_dir(self.dir.path().join(folder)).unwrap() {
                let entry = entry.unwrap();
                let mode = entry.metadata().unwrap().permissions().mode();
                let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
                all.push((name, fs::read(entry.path()).unwrap(), mode));
            }
        }
        all.sort();
        all
    }
}

#[test]
fn every_networks_configuration_gets_our_plugin_last_and_all_else_stays() {
    for (name, text) in PRIMARIES {
        let node = Node::new(chained());
        node.put(name, text);
        fs::set_permissions(node.site.net_dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        let before = node.picture();
        assert_eq!(node.pass(), Pass::Changed, "{name}");
        let target = format!("{}.conflist", name.rsplit_once('.').unwrap().0);
        assert_eq!(node.types(&target).last().unwrap(), "ambit-cni", "{name}");
        let path = node.site.net_dir.join(&target);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644, "{name}");
        let (list, original) = (node.value(&target), serde_json::from_str::<Value>(text).unwrap());
        let mut plugins = list["plugins"].as_array().unwrap().clone();
        let ours = plugins.pop().unwrap();
        assert_eq!(ours, node.site.entry);
        assert!(ours.get("cniVersion").is_none());
        match original.get("plugins") {
            Some(former) => assert_eq!(former.as_array().unwrap(), &plugins, "{name}"),
            None => {
                assert_eq!(plugins.len(), 1);
                assert_eq!((&plugins[0]["type"], &list["name"]), (&json!("bridge"), &original["name"]));
                assert!(!node.site.net_dir.join(name).exists(), "the runtime must not find {name} first");
            }
        }
        assert_eq!(node.pass(), Pass::Valid, "{name}");
        node.remove();
        assert_eq!(node.picture(), before, "{name}");
        node.remove();
        assert_eq!(node.picture(), before, "{name}");
    }
}

#[test]
fn a_number_that_only_just_has_a_nearest_value_does_not_keep_a_file_from_being_restored() {
    let node = Node::new(chained());
    let number = "165000000000000000000002290396647540391937";
    let list = format!(r#"{{"name":"n","cniVersion":"0.3.1","plugins":[{{"type":"ptp","mtu":{number}}}]}}"#);
    node.put("10-a.conflist", &list);
    let before = node.picture();
    assert_eq!((node.pass(), node.pass()), (Pass::Changed, Pass::Valid));
    node.remove();
    assert_eq!(node.picture(), before);
}

// K30
#[test]
fn what_a_crash_left_is_cleared_and_never_read() {
    let node = Node::new(chained());
    let (name, text) = PRIMARIES[0];
    node.put(name, text);
    node.put(&format!("{name}.ambit-tmp"), "{\"half");
    fs::write(node.site.bin_dir.join("ambit-cni.ambit-tmp"), "#!pro").unwrap();
    // Between writing the list and removing the single file it came from.
    assert_eq!(node.pass(), Pass::Changed);
    let names: Vec<_> = node.picture().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["bin/ambit-cni", "net/10-kindnet.conflist", "net/10-kindnet.conflist.ambit-original"]);
    let mode = fs::metadata(node.site.bin_dir.join("ambit-cni")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);

    let node = Node::new(chained());
    node.put("10-bridge.conf", PRIMARIES[5].1);
    assert_eq!(node.pass(), Pass::Changed);
    node.put("10-bridge.conf", PRIMARIES[5].1);
    assert_eq!(node.pass(), Pass::Changed);
    assert!(!node.site.net_dir.join("10-bridge.conf").exists());
    assert_eq!(node.types("10-bridge.conflist"), ["bridge", "ambit-cni"]);
}

#[test]
fn a_program_that_was_deleted_truncated_or_is_older_is_replaced() {
    let node = Node::new(chained());
    node.put(PRIMARIES[0].0, PRIMARIES[0].1);
    node.pass();
    let program = node.site.bin_dir.join("ambit-cni");
    fs::remove_file(&program).unwrap();
    assert_eq!(node.pass(), Pass::Changed);
    fs::write(&program, "").unwrap();
    assert_eq!(node.pass(), Pass::Changed);
    fs::write(&node.site.program, "#!program 2").unwrap();
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(fs::read(&program).unwrap(), b"#!program 2");
    assert_eq!(node.pass(), Pass::Valid);
}

// K24
#[test]
fn a_primary_that_is_rewritten_is_followed_in_all_it_says() {
    for way in [chained(), owned()] {
        let node = Node::new(way.clone());
        let (name, text) = PRIMARIES[1];
        node.put(name, text);
        node.pass();
        let changed = text.replace("\"mtu\":0", "\"mtu\":1400");
        node.put(name, &changed);
        assert_eq!(node.pass(), Pass::Changed, "{way:?}");
        let target = if way == chained() { name } else { "02-istio-cni.conflist" };
        assert_eq!(node.value(target)["plugins"][0]["mtu"], 1400);
        assert_eq!(node.types(target), ["calico", "portmap", "bandwidth", "ambit-cni"]);
        assert_eq!(node.pass(), Pass::Valid);
        node.remove();
        assert_eq!(fs::read_to_string(node.site.net_dir.join(name)).unwrap(), changed, "as it was rewritten");
    }
}

// K23
#[test]
fn a_primary_that_comes_later_and_first_is_followed_and_the_former_is_left_as_it_was_on_removal() {
    let node = Node::new(chained());
    assert_eq!(node.pass(), Pass::NoPrimary);
    node.put(PRIMARIES[0].0, PRIMARIES[0].1);
    assert_eq!(node.pass(), Pass::Changed);
    node.put(PRIMARIES[2].0, PRIMARIES[2].1);
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(node.types("05-cilium.conflist"), ["cilium-cni", "ambit-cni"]);
    node.remove();
    for (name, text) in [PRIMARIES[0], PRIMARIES[2]] {
        assert_eq!(fs::read_to_string(node.site.net_dir.join(name)).unwrap(), text);
    }
    // And one that is replaced by a file of another name.
    let node = Node::new(chained());
    node.put(PRIMARIES[1].0, PRIMARIES[1].1);
    node.pass();
    fs::remove_file(node.site.net_dir.join(PRIMARIES[1].0)).unwrap();
    assert_eq!(node.pass(), Pass::NoPrimary);
    node.put(PRIMARIES[3].0, PRIMARIES[3].1);
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(node.types(PRIMARIES[3].0), ["flannel", "portmap", "ambit-cni"]);
}

#[test]
fn a_named_primary_is_used_wherever_it_sorts_under_either_ending_and_waited_for() {
    let named = Some("50-mine.conf".to_owned());
    let node = Node::new(Way::Chained { named, former: "02-istio-cni.conflist".into() });
    node.put(PRIMARIES[0].0, PRIMARIES[0].1);
    assert_eq!(node.pass(), Pass::NoPrimary);
    node.put("50-mine.conflist", PRIMARIES[3].1);
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(node.types("50-mine.conflist"), ["flannel", "portmap", "ambit-cni"]);
    assert_eq!(node.types(PRIMARIES[0].0), ["ptp", "portmap"]);
    assert_eq!(node.pass(), Pass::Valid);
}

#[test]
fn files_that_a_runtime_would_not_use_are_passed_over() {
    let node = Node::new(chained());
    for (name, text) in [
        ("00-empty.conflist", ""),
        ("01-half.conflist", "{\"name\":"),
        ("02-nameless.conflist", r#"{"plugins":[{"type":"x"}]}"#),
        ("03-none.conflist", r#"{"name":"x","plugins":[]}"#),
        ("04-typeless.conflist", r#"{"name":"x","plugins":[{}]}"#),
        ("05-typeless.conf", r#"{"name":"x"}"#),
        ("06-array.conf", "[]"),
        ("07-old.conflist.bak", PRIMARIES[0].1),
        ("README", "x"),
        ("YYY-istio-cni.conf", r#"{"name":"istio-cni","type":"istio-cni"}"#),
    ] {
        node.put(name, text);
    }
    assert_eq!(node.pass(), Pass::NoPrimary);
    fs::create_dir(node.site.net_dir.join("08-folder.conflist")).unwrap();
    node.put("99-last.conflist", PRIMARIES[2].1);
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(node.types("99-last.conflist"), ["cilium-cni", "ambit-cni"]);
}

#[test]
fn upstreams_entry_is_replaced_and_never_kept_beside_ours() {
    let node = Node::new(chained());
    let (name, text) = PRIMARIES[0];
    let theirs = text.replace(
        r#"{"type":"portmap","#,
        r#"{"type":"istio-cni","ambient_enabled":true},{"type":"istio-cni"},{"type":"portmap","#,
    );
    node.put(name, &theirs);
    node.put("02-istio-cni.conflist", &theirs);
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(node.types(name), ["ptp", "portmap", "ambit-cni"]);
    assert!(!node.site.net_dir.join("02-istio-cni.conflist").exists(), "a copy that nobody keeps");
    node.remove();
    assert_eq!(node.types(name), ["ptp", "portmap"]);
}

#[test]
fn the_owned_copy_leaves_the_primary_alone_and_is_gone_after_removal() {
    let node = Node::new(owned());
    node.put(PRIMARIES[1].0, PRIMARIES[1].1);
    let before = node.picture();
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(fs::read_to_string(node.site.net_dir.join(PRIMARIES[1].0)).unwrap(), PRIMARIES[1].1);
    assert_eq!(node.types("02-istio-cni.conflist"), ["calico", "portmap", "bandwidth", "ambit-cni"]);
    assert_eq!(node.pass(), Pass::Valid);
    fs::remove_file(node.site.net_dir.join("02-istio-cni.conflist")).unwrap();
    assert_eq!(node.pass(), Pass::Changed);
    node.remove();
    assert_eq!(node.picture(), before);
}

#[test]
fn a_change_of_ways_leaves_one_entry_in_force() {
    let mut node = Node::new(owned());
    node.put(PRIMARIES[0].0, PRIMARIES[0].1);
    node.pass();
    node.site.way = chained();
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(node.types(PRIMARIES[0].0), ["ptp", "portmap", "ambit-cni"]);
    assert!(!node.site.net_dir.join("02-istio-cni.conflist").exists());
    node.site.way = owned();
    assert_eq!(node.pass(), Pass::Changed);
    assert_eq!(node.types("02-istio-cni.conflist"), ["ptp", "portmap", "ambit-cni"]);
    node.remove();
    assert_eq!(fs::read_to_string(node.site.net_dir.join(PRIMARIES[0].0)).unwrap(), PRIMARIES[0].1);
}

#[test]
fn alone_it_is_a_configuration_of_its_own() {
    let mut node = Node::new(Way::Standalone { own: "istio-cni.conf".into() });
    node.site.mode = 0o640;
    node.put(PRIMARIES[0].0, PRIMARIES[0].1);
    let before = node.picture();
    assert_eq!(node.pass(), Pass::Changed);
    let value = node.value("istio-cni.conf");
    assert_eq!((&value["type"], &value["name"]), (&json!("ambit-cni"), &json!("ambit-cni")));
    let mode = fs::metadata(node.site.net_dir.join("istio-cni.conf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(node.pass(), Pass::Valid);
    node.remove();
    assert_eq!(node.picture(), before);
}

#[test]
fn folders_that_are_not_there_are_told_with_their_names() {
    let mut node = Node::new(chained());
    node.site.net_dir = "/nowhere/net".into();
    let error = node.site.pass().unwrap_err();
    assert!(
        matches!(&error, InstallError::Configuration { .. }) && error.to_string().contains("/nowhere/net")
    );
    node.site.bin_dir = "/nowhere/bin".into();
    let error = node.site.pass().unwrap_err();
    assert!(matches!(&error, InstallError::Program { .. }) && error.to_string().contains("/nowhere/bin"));
    remove(&node.site.net_dir, Some(&node.site.bin_dir), None).unwrap();
}

#[test]
fn a_single_configuration_without_a_name_becomes_a_list_that_a_runtime_reads() {
    for text in [r#"{"type":"bridge"}"#, r#"{"type":"bridge","name":""}"#, r#"{"type":"bridge","name":7}"#] {
        let node = Node::new(chained());
        node.put("10-x.conf", text);
        assert_eq!(node.pass(), Pass::Changed, "{text}");
        assert_eq!(node.value("10-x.conflist")["name"], "k8s-pod-network", "{text}");
        assert_eq!(node.pass(), Pass::Valid, "{text}");
        node.remove();
        assert_eq!(fs::read_to_string(node.site.net_dir.join("10-x.conf")).unwrap(), text);
    }
}
