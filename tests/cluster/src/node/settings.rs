//! What a node's programs are told. Texts and arguments; nothing is started here.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::images;
use crate::layout::{Layout, node_name};
use crate::spec::Spec;

/// Where programs are looked for on a node.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/cni/bin";
/// Where the settings are, on the node.
const HOME: &str = "etc/ambit-lab";
/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A program that a node keeps running.
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) arguments: Vec<String>,
}

/// The programs, in the order in which they are started.
pub(super) fn programs(spec: &Spec, number: u8) -> Vec<Program> {
    let name = node_name(number);
    let kubelet = [
        format!("--config=/{HOME}/kubelet.json"),
        format!("--kubeconfig=/{HOME}/kubelet.conf"),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", spec.slot.node(number)),
        "--root-dir=/var/lib/kubelet".to_owned(),
        "-v=2".to_owned(),
    ];
    let proxy = crate::plane::proxy(&format!("/{HOME}/kube-proxy.conf"), spec, &name);
    vec![
        Program { name: "containerd", arguments: vec![format!("--config=/{HOME}/containerd.toml")] },
        Program { name: "kubelet", arguments: kubelet.to_vec() },
        Program { name: "kube-proxy", arguments: proxy },
    ]
}

/// Everything that must be read from the cluster's folder, which the node will not see.
pub(super) struct Texts(Vec<(String, Vec<u8>)>);

impl Texts {
    pub(super) fn read(layout: &Layout, spec: &Spec, number: u8) -> Result<Self> {
        let name = node_name(number);
        let mut texts = Vec::new();
        for (to, from) in [
            ("ca.crt", layout.pki("ca.crt")),
            ("kubelet.crt", layout.pki(&format!("{name}.crt"))),
            ("kubelet.key", layout.pki(&format!("{name}.key"))),
            ("kubelet.conf", layout.kubeconfig(&name)),
            ("kube-proxy.conf", layout.kubeconfig("kube-proxy")),
        ] {
            texts
                .push((format!("{HOME}/{to}"), fs::read(&from).with_context(|| from.display().to_string())?));
        }
        let kubelet = kubelet(spec).to_string();
        texts.push((format!("{HOME}/kubelet.json"), kubelet.into_bytes()));
        texts.push((format!("{HOME}/containerd.toml"), containerd().into_bytes()));
        texts.push(("etc/hostname".to_owned(), format!("{name}\n").into_bytes()));
        texts.push(("etc/machine-id".to_owned(), machine_id(layout.name(), &name).into_bytes()));
        // Pods that ask for the node's own resolver find nobody: names outside the cluster do not exist here.
        texts.push((
            "etc/resolv.conf".to_owned(),
            format!("nameserver {}\n", spec.slot.machine()).into_bytes(),
        ));
        Ok(Self(texts))
    }

    /// Writes them to the node's disk, once it is the root.
    pub(super) fn write(&self, spec: &Spec, number: u8) -> Result<()> {
        let root = Path::new("/");
        fs::create_dir_all(root.join(HOME))?;
        for (path, text) in &self.0 {
            let path = root.join(path);
            // On this machine it may be a link to somewhere that a node does not have.
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
                fs::remove_file(&path)?;
            }
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        network(spec, number)
    }
}

/// The CNI plugins and their list. Both are left alone when they are there: after a reboot they are as whoever
/// changed them left them.
fn network(spec: &Spec, number: u8) -> Result<()> {
    let list = Path::new("/etc/cni/net.d/10-lab.conflist");
    let marker = Path::new("/").join(HOME).join("network-made");
    if marker.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(PLUGINS).context("CNI plugins")?.flatten() {
        let to = Path::new("/opt/cni/bin").join(entry.file_name());
        fs::copy(entry.path(), &to).with_context(|| to.display().to_string())?;
    }
    let ranges = json!([[{ "subnet": spec.slot.node_pods(number) }]]);
    // Addresses are given out from `/run`: after a reboot all are free.
    let ipam = json!({
        "type": "host-local", "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": "/run/cni/ipam",
    });
    let bridge = json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true, "mtu": 1500,
        "ipam": ipam,
    });
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let whole = json!({ "cniVersion": "0.4.0", "name": "lab", "plugins": [bridge, portmap] });
    fs::write(list, format!("{whole:#}\n")).with_context(|| list.display().to_string())?;
    fs::write(marker, "").context("the node's own settings")
}

/// containerd 1.6. It may not lower what the kernel kills first, and must not ask for AppArmor, which may be off.
fn containerd() -> String {
    format!(
        "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"/var/lib/containerd/opt\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{}\"\n  restrict_oom_score_adj = true\n  \
         disable_apparmor = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/opt/cni/bin\"\n  conf_dir = \"/etc/cni/net.d\"\n",
        images::PAUSE
    )
}

/// No pod is evicted for what else fills this machine. Pods are in groups by quality of service, as everywhere: by
/// their names a process's pod is found. What bounds them all is the cluster's own group.
fn kubelet(spec: &Spec) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "x509": { "clientCAFile": format!("/{HOME}/ca.crt") },
            "webhook": { "enabled": true },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "tlsCertFile": format!("/{HOME}/kubelet.crt"),
        "tlsPrivateKeyFile": format!("/{HOME}/kubelet.key"),
        "clusterDNS": [spec.slot.dns()],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "oomScoreAdj": 0,
        "maxPods": 250,
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "featureGates": {
            "ClusterTrustBundle": spec.wish.trust_bundles,
            "ClusterTrustBundleProjection": spec.wish.trust_bundles,
        },
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 20,
        "syncFrequency": "10s",
    })
}

fn machine_id(cluster: &str, node: &str) -> String {
    let digest = digest(&SHA256, format!("{cluster}/{node}").as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
}
