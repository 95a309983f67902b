//! One attempt at a pod's network: a namespace, its link to the node, its addresses, the CNI plugin's consent.
//! Undone in reverse when a step fails. When to try, and again: `pods`.

use std::net::IpAddr;
use std::path::PathBuf;

use super::ipam::gateway;
use super::layout::{self, Node};
use super::links::{self, LinkError, Step};
use super::mesh::Mesh;
use super::plugin::{self, Attachment, PluginError};
use super::space;

/// What is wanted: a pod's name, where it runs, what addresses it has.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) mesh: Mesh,
    pub(crate) node: Node,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    /// Counted from 1: each attempt has a namespace and a link of its own, as with a kubelet.
    pub(crate) attempt: u32,
    pub(crate) addresses: Vec<IpAddr>,
    /// Shares its node's namespace and addresses: there is nothing to make.
    pub(crate) host_network: bool,
    /// The plugin; none in a mesh of nodes and pods only.
    pub(crate) plugin: Option<PathBuf>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

impl Sandbox {
    /// The namespace's name.
    pub(crate) fn space(&self) -> String {
        format!("pod-{}-{}-{}", self.namespace, self.pod, self.tag())
    }

    pub(crate) fn pin(&self) -> PathBuf {
        if self.host_network { self.node_pin() } else { self.mesh.space(&self.space()) }
    }

    /// The node's namespace.
    pub(crate) fn node_pin(&self) -> PathBuf {
        self.mesh.space(&self.node.space())
    }

    /// Makes it; leaves nothing behind when that fails. Blocks.
    pub(crate) fn make(&self) -> Result<(), SandboxError> {
        if self.host_network {
            return Ok(());
        }
        links::make_space(&self.pin())?;
        let made = self.attach();
        if made.is_err() {
            self.remove();
        }
        made
    }

    fn attach(&self) -> Result<(), SandboxError> {
        links::furnish(&self.node_pin(), &layout::pod_outside(&self.mesh, &self.link(), &self.space()))?;
        links::furnish(&self.pin(), &layout::pod_inside(&self.node, &self.addresses))?;
        match &self.plugin {
            Some(plugin) => {
                let begun = std::time::Instant::now();
                plugin::add(&self.attachment(plugin.clone()))?;
                let ms = begun.elapsed().as_secs_f64() * 1000.0;
                tracing::info!(pod = self.pod, ms, "plugin ADD");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes it down. Each step is tried whatever became of the others; `down` finds what is left. Blocks.
    pub(crate) fn remove(&self) {
        if self.host_network {
            return;
        }
        if let Some(plugin) = &self.plugin
            && let Err(error) = plugin::del(&self.attachment(plugin.clone()))
        {
            tracing::warn!(pod = self.pod, error = error.to_string(), "plugin DEL failed");
        }
        if let Err(error) = links::furnish(&self.node_pin(), &[Step::Gone { link: self.link() }]) {
            tracing::warn!(pod = self.pod, error = error.to_string(), "link not removed");
        }
        if let Err(error) = space::remove(&self.pin()) {
            tracing::warn!(pod = self.pod, error = error.to_string(), "namespace not removed");
        }
    }

    fn attachment(&self, plugin: PathBuf) -> Attachment {
        let addresses = self.node.pods().into_iter().flat_map(|pods| {
            let own = self.addresses.iter().filter(move |address| pods.contains(*address));
            own.filter_map(move |a| Some((ipnet::IpNet::new(*a, pods.prefix_len()).ok()?, gateway(pods))))
        });
        Attachment {
            plugin,
            agent_run_dir: self.mesh.node(&self.node.name),
            container_id: format!("{}{:04x}", self.uid.replace('-', ""), self.attempt),
            netns: self.pin(),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            link: self.link(),
            addresses: addresses.collect(),
        }
    }

    /// The link's outer end; the kernel allows 15 characters.
    fn link(&self) -> String {
        format!("v{}", self.tag())
    }

    fn tag(&self) -> String {
        let uid: String = self.uid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        format!("{uid}-{:x}", self.attempt)
    }
}
