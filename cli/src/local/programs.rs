//! The programs of a mesh: istiod-lite, and on each node the CNI daemon and ztunnel.
//! Starts them in the order their files appear, keeps them running, overlaps two ztunnels on demand.
//! A ztunnel lives in a namespace of its own, as its pod would in a cluster: two of them get along on a node.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::kept::{Kept, Restart};
use super::launch::Launch;
use super::layout::{CONTROL_PLANE, Node, control_plane};
use super::pods::{Ground, Pods};
use super::process::Process;
use super::report::{Component, ComponentStatus};
use super::sandbox::Sandbox;
use super::tokens::{Issuer, Subject, TOKEN_LIFE, TokenError, public_key, write_private};
use super::waypoints::{ISTIOD, Look, Waypoints};
use super::world::World;
use crate::args::chain;

const SYSTEM: &str = "istio-system";

/// All programs.
pub(crate) struct Programs {
    issuer: Issuer,
    tokens_until: Option<Instant>,
    istiod: Kept,
    cni: Vec<(Node, Kept)>,
    /// In the order they were started; the last of a node is its own, earlier ones drain.
    ztunnel: Vec<Ztunnel>,
    started: u32,
    waypoints: Waypoints,
}

struct Ztunnel {
    node: Node,
    sandbox: Sandbox,
    kept: Kept,
    retiring: bool,
}

/// Why programs could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("cannot make {path}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("no room for ztunnel on {node}: {why}")]
    Sandbox { node: String, why: String },
    #[error("there is no {0}")]
    Unknown(Component),
}

/// The programs a mesh needs beside `ambit`.
pub(crate) const BINARIES: [&str; 5] =
    ["istiod-lite", "ambit-cni-node", "ambit-cni", "ztunnel", "ambit-waypoint"];

impl Programs {
    /// Everything that can start at once; ztunnels follow when the control plane has made its root.
    pub(crate) fn new(ground: &Ground, now: Instant) -> Result<Self, ProgramError> {
        let dir = ground.mesh.control_plane();
        for node in &ground.nodes {
            let path = ground.mesh.node(&node.name);
            fs::create_dir_all(&path).map_err(|source| ProgramError::Directory { path, source })?;
        }
        let issuer = Issuer::make(&dir)?;
        let (host, _) = ISTIOD;
        let hosts = control_plane().map(|net| format!("{} {host} {host}.cluster.local\n", net.addr()));
        let path = dir.join("hosts");
        fs::write(&path, format!("127.0.0.1 localhost\n::1 localhost\n{}", hosts.concat()))
            .map_err(|source| ProgramError::Directory { path, source })?;
        let cni = ground
            .nodes
            .iter()
            .map(|node| (node.clone(), Kept::new(cni(ground, node), Restart::Always, now)));
        Ok(Self {
            issuer,
            tokens_until: None,
            istiod: Kept::new(istiod(ground), Restart::Always, now),
            cni: cni.collect(),
            ztunnel: Vec::new(),
            started: 0,
            waypoints: Waypoints::new(&ground.mesh),
        })
    }

    /// Looks at every program; starts what is due.
    pub(crate) fn tend(&mut self, ground: &Ground, pods: &mut Pods, now: Instant) {
        if let Err(error) = self.tend_all(ground, pods, now) {
            tracing::warn!(error = chain(&error), "a program is not as it should be");
        }
    }

    fn tend_all(&mut self, ground: &Ground, pods: &mut Pods, now: Instant) -> Result<(), ProgramError> {
        self.renew_tokens(ground, now)?;
        let all =
            self.cni.iter_mut().map(|(_, kept)| kept).chain(self.ztunnel.iter_mut().map(|z| &mut z.kept));
        for kept in std::iter::once(&mut self.istiod).chain(all) {
            match kept.tend(&ground.mesh, now) {
                Ok(Some(status)) => {
                    tracing::warn!(program = kept.launch.name, status = %status, "program ended");
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(error = chain(&error), "program not started"),
            }
        }
        self.ztunnel.retain(|z| {
            let gone = z.retiring && z.kept.pid().is_none();
            if gone {
                z.sandbox.remove();
                pods.release(&z.sandbox.addresses);
            }
            !gone
        });
        if ground.mesh.root_certificate().exists() {
            for node in &ground.nodes {
                if !self.ztunnel.iter().any(|z| z.node == *node) {
                    self.add_ztunnel(ground, pods, node, now)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at the waypoints that the world's gateways ask for.
    pub(crate) fn tend_waypoints(&mut self, ground: &Ground, world: &World, pods: &Pods, now: Instant) {
        // A waypoint cannot prove itself before there is anything to believe in.
        if ground.mesh.root_certificate().exists() {
            self.waypoints.tend(&Look { ground, world, pods, issuer: &self.issuer, now });
        }
    }

    pub(crate) fn waypoints(&self) -> &Waypoints {
        &self.waypoints
    }

    pub(crate) fn kill(&mut self, ground: &Ground, component: &Component) -> Result<(), ProgramError> {
        self.find(component)?.kill(&ground.mesh);
        Ok(())
    }

    pub(crate) fn start(&mut self, component: &Component, now: Instant) -> Result<(), ProgramError> {
        self.find(component)?.start(now);
        Ok(())
    }

    /// Starts a second ztunnel on the node.
    pub(crate) fn overlap(
        &mut self,
        ground: &Ground,
        pods: &mut Pods,
        node: &str,
        now: Instant,
    ) -> Result<(), ProgramError> {
        let unknown = || ProgramError::Unknown(Component::Ztunnel(node.to_owned()));
        let node = ground.nodes.iter().find(|n| n.name == node).cloned().ok_or_else(unknown)?;
        self.add_ztunnel(ground, pods, &node, now)
    }

    /// Lets every ztunnel of the node but the newest end.
    pub(crate) fn retire(&mut self, node: &str) {
        let newest = self.ztunnel.iter().rposition(|z| z.node.name == node);
        for (at, z) in self.ztunnel.iter_mut().enumerate() {
            if z.node.name == node && Some(at) != newest {
                z.retiring = true;
                z.kept.retire();
            }
        }
    }

    /// Every process, those of the data plane first: the order in which they are to end.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let nodes = self.ztunnel.iter().map(|z| &z.kept).chain(self.cni.iter().map(|(_, kept)| kept));
        nodes.chain(std::iter::once(&self.istiod)).filter_map(Kept::process).collect()
    }

    pub(crate) fn status(&self, ground: &Ground) -> Vec<ComponentStatus> {
        let one = |component, kept: &Kept| ComponentStatus {
            component,
            pid: kept.pid(),
            stopped: kept.is_stopped(),
            restarts: kept.restarts(),
            space: kept.launch.space.clone(),
            log: kept.log(&ground.mesh),
        };
        let cni = self.cni.iter().map(|(node, kept)| one(Component::Cni(node.name.clone()), kept));
        let ztunnel = self.ztunnel.iter().map(|z| one(Component::Ztunnel(z.node.name.clone()), &z.kept));
        std::iter::once(one(Component::Istiod, &self.istiod)).chain(cni).chain(ztunnel).collect()
    }

    fn find(&mut self, component: &Component) -> Result<&mut Kept, ProgramError> {
        let unknown = || ProgramError::Unknown(component.clone());
        match component {
            Component::Istiod => Some(&mut self.istiod),
            Component::Cni(node) => self.cni.iter_mut().find(|(n, _)| n.name == *node).map(|(_, kept)| kept),
            Component::Ztunnel(node) => {
                self.ztunnel.iter_mut().rev().find(|z| z.node.name == *node).map(|z| &mut z.kept)
            }
        }
        .ok_or_else(unknown)
    }

    fn add_ztunnel(
        &mut self,
        ground: &Ground,
        pods: &mut Pods,
        node: &Node,
        now: Instant,
    ) -> Result<(), ProgramError> {
        self.started = self.started.saturating_add(1);
        let sandbox = Sandbox {
            mesh: ground.mesh.clone(),
            node: node.clone(),
            namespace: SYSTEM.to_owned(),
            pod: format!("ztunnel-{}", node.name),
            uid: format!("{:08x}", 0x0a17_0000_u32.saturating_add(self.started)),
            attempt: self.started,
            addresses: pods.lease(node),
            host_network: false,
            plugin: None,
        };
        sandbox
            .make()
            .map_err(|error| ProgramError::Sandbox { node: node.name.clone(), why: chain(&error) })?;
        let kept = Kept::new(ztunnel(ground, &sandbox, self.started), Restart::Always, now);
        self.ztunnel.push(Ztunnel { node: node.clone(), sandbox, kept, retiring: false });
        Ok(())
    }

    fn renew_tokens(&mut self, ground: &Ground, now: Instant) -> Result<(), ProgramError> {
        if self.tokens_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        for node in &ground.nodes {
            let subject = Subject {
                namespace: SYSTEM.to_owned(),
                service_account: "ztunnel".to_owned(),
                pod: format!("ztunnel-{}", node.name),
                uid: format!("ztunnel-{}", node.name),
                node: node.name.clone(),
            };
            let token = self.issuer.sign(&subject, jsonwebtoken::get_current_timestamp())?;
            write_private(&ground.mesh.node(&node.name).join("token"), token.as_bytes())?;
        }
        self.tokens_until = Some(now + TOKEN_LIFE / 2);
        Ok(())
    }
}

fn istiod(ground: &Ground) -> Launch {
    let dir = ground.mesh.control_plane();
    let mut command = program(ground, "istiod-lite");
    command.push("run".into());
    sources(ground, &mut command);
    flag(&mut command, "--state", dir.join("state"));
    flag(&mut command, "--token-key", public_key(&dir));
    keep("istiod", "istiod", ground.mesh.space(CONTROL_PLANE), command)
}

fn cni(ground: &Ground, node: &Node) -> Launch {
    let mut command = program(ground, "ambit-cni-node");
    sources(ground, &mut command);
    flag(&mut command, "--node-name", &node.name);
    flag(&mut command, "--run-dir", ground.mesh.node(&node.name));
    let name = format!("cni-{}", node.name);
    keep(&name, &name, ground.mesh.space(&node.space()), command)
}

fn ztunnel(ground: &Ground, sandbox: &Sandbox, generation: u32) -> Launch {
    let node = &sandbox.node;
    let dir = ground.mesh.node(&node.name);
    let log = format!("ztunnel-{}", node.name);
    let mut launch = keep(&format!("{log}-{generation}"), &log, sandbox.pin(), program(ground, "ztunnel"));
    launch.hosts = Some(ground.mesh.control_plane().join("hosts"));
    let control_plane = format!("https://{}:{}", ISTIOD.0, ISTIOD.1);
    let text = |text: &str| OsString::from(text);
    launch.env = vec![
        (text("PROXY_MODE"), text("shared")),
        (text("NODE_NAME"), text(&node.name)),
        (text("POD_NAME"), text(&sandbox.pod)),
        (text("POD_NAMESPACE"), text(SYSTEM)),
        (text("SERVICE_ACCOUNT"), text("ztunnel")),
        (text("XDS_ADDRESS"), text(&control_plane)),
        (text("CA_ADDRESS"), text(&control_plane)),
        (text("XDS_ROOT_CA"), ground.mesh.root_certificate().into()),
        (text("CA_ROOT_CA"), ground.mesh.root_certificate().into()),
        (text("AUTH_TOKEN"), dir.join("token").into()),
        (text("INPOD_UDS"), dir.join("ztunnel.sock").into()),
    ];
    launch.env.extend(sandbox.addresses.first().map(|ip| (text("INSTANCE_IP"), text(&ip.to_string()))));
    launch
}

fn keep(name: &str, log: &str, space: PathBuf, command: Vec<OsString>) -> Launch {
    Launch {
        name: name.to_owned(),
        log: log.to_owned(),
        space,
        hosts: None,
        resolv: None,
        command,
        env: Vec::new(),
        inherit_env: true,
    }
}

fn program(ground: &Ground, name: &str) -> Vec<OsString> {
    vec![ground.spec.bin_dir.join(name).into()]
}

fn sources(ground: &Ground, command: &mut Vec<OsString>) {
    flag(command, "--source", &ground.spec.source);
    flag(command, "--overlay", ground.mesh.overlay());
}

fn flag(command: &mut Vec<OsString>, name: &str, value: impl AsRef<OsStr>) {
    command.push(name.into());
    command.push(value.as_ref().into());
}
