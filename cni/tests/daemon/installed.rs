//! The daemon keeps its plugin installed, whoever undoes it, and takes it off the node.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ambient, stage_with};
use crate::stage::Stage;

pub(crate) const LIST: &str =
    r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp"},{"type":"portmap"}]}"#;

/// Folders of a runtime, with a network in it if one is given.
pub(crate) fn folders(list: Option<&str>) -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["net", "bin"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("plugin"), "#!plugin").unwrap();
    if let Some(list) = list {
        fs::write(dir.path().join("net/10-net.conflist"), list).unwrap();
    }
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let flags = [("--cni-net-dir", at("net")), ("--cni-bin-dir", at("bin")), ("--cni-plugin", at("plugin"))];
    let more = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    let excluded = ["--exclude-namespaces".to_owned(), "kube-system".to_owned()];
    let more = more.chain(excluded).collect();
    (dir, more)
}

pub(crate) fn is_last(dir: &tempfile::TempDir, name: &str) -> bool {
    let Ok(bytes) = fs::read(dir.path().join("net").join(name)) else { return false };
    let list: Value = serde_json::from_slice(&bytes).expect("a half-written list");
    let plugins = list["plugins"].as_array().unwrap();
    plugins.last().unwrap()["type"] == "ambit-cni"
        && plugins.iter().filter(|it| it["type"] == "ambit-cni").count() == 1
}

fn ready(stage: &Stage) -> String {
    super::leave::get(stage, "/readyz")
}

// K23, K30, K31
#[test]
fn the_plugin_is_installed_and_put_back_whoever_takes_it_away() {
    let (dir, more) = folders(None);
    let stage = stage_with(&[ambient()], &more);
    stage.eventually("not ready without a network", || ready(&stage).ends_with("pending: install\n"));
    fs::write(dir.path().join("net/10-net.conflist"), LIST).unwrap();
    stage.eventually("installed", || is_last(&dir, "10-net.conflist"));
    stage.eventually("ready", || ready(&stage).starts_with("HTTP/1.1 200"));
    assert_eq!(fs::read(dir.path().join("bin/ambit-cni")).unwrap(), b"#!plugin");
    let list: Value =
        serde_json::from_slice(&fs::read(dir.path().join("net/10-net.conflist")).unwrap()).unwrap();
    let told = &list["plugins"][2];
    assert_eq!(told["cni_agent_run_dir"], json!(stage.path("run")));
    assert_eq!(told["exclude_namespaces"], json!(["kube-system"]));

    fs::write(dir.path().join("net/10-net.conflist"), LIST).unwrap();
    stage.eventually("the rewritten list", || is_last(&dir, "10-net.conflist"));
    fs::remove_file(dir.path().join("bin/ambit-cni")).unwrap();
    stage.eventually("the deleted program", || dir.path().join("bin/ambit-cni").exists());
    fs::write(dir.path().join("net/05-first.conflist"), LIST).unwrap();
    stage.eventually("a network that sorts first", || is_last(&dir, "05-first.conflist"));
    assert!(ready(&stage).starts_with("HTTP/1.1 200"), "it never was unready since");
    let metrics = super::leave::get(&stage, "/metrics");
    assert!(metrics.contains("istio_cni_install_ready 1\n"), "{metrics}");
}

#[test]
fn a_daemon_that_ends_leaves_the_plugin_for_its_successor_and_uninstalling_takes_it_off() {
    let (dir, more) = folders(Some(LIST));
    let mut stage = stage_with(&[ambient()], &more);
    stage.eventually("installed", || is_last(&dir, "10-net.conflist"));
    stage.kill();
    assert!(is_last(&dir, "10-net.conflist"), "pods wait for the next daemon, they do not start in plain");
    stage.start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ambit-cni-node"));
    command.args(["uninstall", "--unenrol", "--run-dir"]).arg(stage.path("run"));
    command.arg("--cni-net-dir").arg(dir.path().join("net"));
    command.arg("--cni-bin-dir").arg(dir.path().join("bin"));
    let output = stage.node.run(|| command.output().unwrap()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::thread::park_timeout(Duration::from_secs(1));
    assert_eq!(fs::read_to_string(dir.path().join("net/10-net.conflist")).unwrap(), LIST);
    assert_eq!(fs::read_dir(dir.path().join("net")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path().join("bin")).unwrap().count(), 0);
}
