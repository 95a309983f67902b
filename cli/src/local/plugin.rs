//! Calls the CNI plugin as a container runtime does: environment, configuration on standard input, result
//! or error on standard output. https://www.cni.dev/docs/spec/#section-2-execution-protocol

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

/// The plugin's own limit towards the node daemon is 5 s; it must have answered well before this.
const PLUGIN_LIMIT: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The version of the CNI specification that is spoken.
const CNI_VERSION: &str = "1.1.0";

/// One pod's attachment, as the plugin is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) plugin: PathBuf,
    /// Where the node's daemon listens.
    pub(crate) agent_run_dir: PathBuf,
    pub(crate) container_id: String,
    pub(crate) netns: PathBuf,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    /// The outer link, the pod's addresses and the way out: what the plugin before ours would have made.
    pub(crate) link: String,
    pub(crate) addresses: Vec<(IpNet, IpAddr)>,
}

/// Why the plugin did not say yes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("cannot run the CNI plugin {plugin}")]
    NotRun { plugin: PathBuf, source: io::Error },
    #[error("the CNI plugin did not answer within {PLUGIN_LIMIT:?}")]
    Silent,
    #[error("the CNI plugin refused: {msg} (code {code})")]
    Refused { code: u32, msg: String },
    #[error("the CNI plugin failed without an error message, {status}")]
    Mute { status: std::process::ExitStatus },
    #[error("the CNI plugin said yes without a result; is {plugin} the plugin?")]
    NoResult { plugin: PathBuf },
}

/// The error object of the specification.
#[derive(Debug, Deserialize)]
struct Refusal {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

/// The result of `ADD`; only that there is one matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Success {
    #[serde(rename = "cniVersion")]
    _cni_version: String,
}

/// Calls `ADD`: the pod may start only when this is `Ok`.
pub(crate) fn add(attachment: &Attachment) -> Result<(), PluginError> {
    call(attachment, "ADD")
}

/// Calls `DEL`.
pub(crate) fn del(attachment: &Attachment) -> Result<(), PluginError> {
    call(attachment, "DEL")
}

fn call(attachment: &Attachment, verb: &str) -> Result<(), PluginError> {
    let not_run = |source| PluginError::NotRun { plugin: attachment.plugin.clone(), source };
    let mut child = Command::new(&attachment.plugin)
        .env_clear()
        .envs(environment(attachment, verb))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(not_run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that ends without reading says why on its output.
        let _unread = stdin.write_all(configuration(attachment).to_string().as_bytes());
    }
    let until = Instant::now() + PLUGIN_LIMIT;
    let status = loop {
        match child.try_wait().map_err(not_run)? {
            Some(status) => break status,
            None if Instant::now() >= until => {
                let _ended = child.kill().and_then(|()| child.wait());
                return Err(PluginError::Silent);
            }
            None => std::thread::park_timeout(LOOK_AGAIN),
        }
    };
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(not_run)?;
    }
    if status.success() {
        let result = verb != "ADD" || serde_json::from_str::<Success>(&said).is_ok();
        // Whoever starts a pod on a mere exit status starts it outside of the mesh.
        return result
            .then_some(())
            .ok_or_else(|| PluginError::NoResult { plugin: attachment.plugin.clone() });
    }
    Err(match serde_json::from_str::<Refusal>(&said) {
        Ok(Refusal { code, msg, details }) if details.is_empty() => PluginError::Refused { code, msg },
        Ok(Refusal { code, msg, details }) => PluginError::Refused { code, msg: format!("{msg}: {details}") },
        Err(_) => PluginError::Mute { status },
    })
}

fn environment(attachment: &Attachment, verb: &str) -> Vec<(&'static str, String)> {
    let Attachment { namespace, pod, uid, container_id, .. } = attachment;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    vec![
        ("CNI_COMMAND", verb.to_owned()),
        ("CNI_CONTAINERID", container_id.clone()),
        ("CNI_NETNS", path(&attachment.netns)),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_PATH", attachment.plugin.parent().map(path).unwrap_or_default()),
        (
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod};\
                 K8S_POD_INFRA_CONTAINER_ID={container_id};K8S_POD_UID={uid}"
            ),
        ),
    ]
}

fn configuration(attachment: &Attachment) -> Value {
    let ips: Vec<_> = attachment
        .addresses
        .iter()
        .map(|(net, gateway)| json!({ "interface": 1, "address": net.to_string(), "gateway": gateway }))
        .collect();
    let routes: Vec<_> = attachment
        .addresses
        .iter()
        .map(|(net, gateway)| json!({ "dst": if net.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }, "gw": gateway }))
        .collect();
    json!({
        "cniVersion": CNI_VERSION,
        "name": "ambit-local",
        "type": "ambit-cni",
        "ambient_enabled": true,
        "cni_agent_run_dir": attachment.agent_run_dir,
        "prevResult": {
            "cniVersion": CNI_VERSION,
            "interfaces": [{ "name": attachment.link }, { "name": "eth0", "sandbox": attachment.netns }],
            "ips": ips,
            "routes": routes,
            "dns": {},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn attachment(dir: &Path, script: &str) -> Attachment {
        let plugin = dir.join("plugin");
        std::fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&plugin, PermissionsExt::from_mode(0o755)).unwrap();
        Attachment {
            plugin,
            agent_run_dir: "/run/x".into(),
            container_id: "c1".into(),
            netns: "/run/netns/x".into(),
            namespace: "shop".into(),
            pod: "web".into(),
            uid: "u-1".into(),
            link: "v1".into(),
            addresses: vec![("10.244.1.2/24".parse().unwrap(), "10.244.1.1".parse().unwrap())],
        }
    }

    #[test]
    fn the_plugin_gets_command_arguments_and_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let script = "/bin/cat > ${CNI_PATH}/in; echo \"$CNI_COMMAND $CNI_ARGS\" > ${CNI_PATH}/env; \
                      echo '{\"cniVersion\": \"1.1.0\"}'";
        add(&attachment(dir.path(), script)).unwrap();
        let env = std::fs::read_to_string(dir.path().join("env")).unwrap();
        assert!(env.starts_with("ADD IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;"), "{env}");
        let conf: Value = serde_json::from_slice(&std::fs::read(dir.path().join("in")).unwrap()).unwrap();
        assert_eq!(conf["prevResult"]["ips"][0]["address"], "10.244.1.2/24");
        assert_eq!(conf["cni_agent_run_dir"], "/run/x");
    }

    #[test]
    fn a_refusal_carries_the_plugins_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"echo '{"code": 11, "msg": "not now", "details": "no ztunnel"}'; exit 1"#;
        let refused = add(&attachment(dir.path(), script));
        assert!(
            matches!(&refused, Err(PluginError::Refused { code: 11, msg }) if msg == "not now: no ztunnel"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_yes_without_a_result_is_no_consent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(add(&attachment(dir.path(), "exit 0")), Err(PluginError::NoResult { .. })));
        del(&attachment(dir.path(), "exit 0")).unwrap();
    }

    #[test]
    fn a_plugin_that_dies_without_a_word_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(del(&attachment(dir.path(), "exit 3")), Err(PluginError::Mute { .. })));
    }
}
