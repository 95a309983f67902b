//! A cluster as tests use it: up, told what to be, looked at, broken, gone at the end whatever happened.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::binaries;
use crate::capture::Capture;
use crate::guard::Guard;
use crate::kubectl;
use crate::layout::Layout;
use crate::node::Node;
use crate::plane::Component;
use crate::process::Process;
use crate::spec::{Spec, Wish};
use crate::{up, wait};

/// Where clusters are unless told: on a disk, for containers' layers.
pub const STATE: &str = "/var/lib/ambit-lab";
/// Nodes of a test's cluster.
const NODES: u8 = 2;

/// A cluster that is up. One that [`Lab::up`] made is taken down when this is dropped.
#[derive(Debug)]
pub struct Lab {
    layout: Layout,
    spec: Spec,
    owned: bool,
    _guard: Option<Guard>,
}

impl Lab {
    /// Brings up a cluster for one test. Its name is made of `story` and this process's id, so that the same test
    /// may run twice at a time.
    pub fn up(story: &str) -> Result<Self> {
        Self::up_as(story, Wish::default())
    }

    /// The same, with what Kubernetes does not have by itself.
    pub fn up_as(story: &str, wish: Wish) -> Result<Self> {
        let layout = Layout::new(Path::new(STATE), &format!("{story}-{}", std::process::id()));
        let mut say = |step: &str| eprintln!("{step}");
        let guard = Guard::start(&layout)?;
        let spec = match up::up(&layout, (NODES, wish), Process::own(), &mut say) {
            Ok(spec) => spec,
            Err(error) => {
                if let Err(left) = up::down(&layout) {
                    eprintln!("cluster {} stays behind: {left:#}", layout.name());
                }
                return Err(error);
            }
        };
        Ok(Self { layout, spec, owned: true, _guard: Some(guard) })
    }

    /// A cluster that is up already, and stays up.
    pub fn attach(layout: &Layout) -> Result<Self> {
        Ok(Self { layout: layout.clone(), spec: Spec::read(layout)?, owned: false, _guard: None })
    }

    /// The file that tells programs how to reach the API server as its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("admin")
    }

    /// Where the cluster keeps things, for logs above all.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its addresses and size.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Runs `kubectl`, at most 90 seconds; returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl::run(&self.layout, &self.spec, arguments)
    }

    /// As [`Lab::kubectl`], with something to read.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        kubectl::run_with(&self.layout, &self.spec, arguments, input)
    }

    /// A `kubectl` that the caller starts, to run in the background.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = kubectl::command(&self.layout, &self.spec);
        command.args(arguments);
        command
    }

    /// Runs Helm, at most ten minutes; returns what it printed.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let words: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let output = self.helm_command(&words)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {}: {}", arguments.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Helm with the cluster's configuration and none of the user's, for the caller to start.
    pub fn helm_command(&self, arguments: &[String]) -> Result<Command> {
        let helm = binaries::build(&binaries::cache())?.helm;
        let home = self.layout.dir().join("helm");
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", "600"]).arg(helm).args(arguments);
        command.env("KUBECONFIG", self.kubeconfig());
        for (name, dir) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(name, home.join(dir));
        }
        Ok(command)
    }

    /// Applies objects written as YAML.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        kubectl::run_with(&self.layout, &self.spec, &["apply", "-f", "-"], yaml).map(drop)
    }

    /// Deletes objects written as YAML, and waits until they are gone.
    pub fn delete(&self, yaml: &str) -> Result<()> {
        let arguments = ["delete", "--ignore-not-found", "--wait", "-f", "-"];
        kubectl::run_with(&self.layout, &self.spec, &arguments, yaml).map(drop)
    }

    /// Runs a command in a pod (`NAMESPACE/NAME`); returns what it printed.
    pub fn pod_exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        let (namespace, name) = pod.split_once('/').context("a pod is called NAMESPACE/NAME")?;
        let mut arguments = vec!["-n", namespace, "exec", name, "--"];
        arguments.extend(command);
        self.kubectl(&arguments)
    }

    /// Looks until there is a result, at most for `limit`; the error then says what was waited for.
    pub fn wait<T>(&self, what: &str, limit: Duration, look: impl FnMut() -> Result<T>) -> Result<T> {
        wait::wait(what, limit, &[], look)
    }

    /// Waits until at least one pod has these labels, and all that have them are ready.
    pub fn pods_ready(&self, namespace: &str, labels: &str, limit: Duration) -> Result<()> {
        let states = "jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=='Ready')].status},\
                      {.metadata.deletionTimestamp} {end}";
        self.wait(&format!("pods {labels} in {namespace}"), limit, || {
            let said = self.kubectl(&["-n", namespace, "get", "pods", "-l", labels, "-o", states])?;
            let all_ready = said.split_whitespace().all(|state| state.ends_with("=True,"));
            ensure!(all_ready && !said.trim().is_empty(), "pods are {said:?}");
            Ok(())
        })
    }

    /// A node by name: `n1`, `n2`.
    pub fn node(&self, name: &str) -> Result<Node> {
        Node::find(&self.layout, &self.spec, name)
    }

    /// All nodes.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        self.spec.each_node().map(|(_, name)| self.node(&name)).collect()
    }

    /// Starts a node that has crashed, and waits until the cluster knows that it is ready.
    pub fn start_node(&self, name: &str) -> Result<()> {
        self.node(name)?.start(&self.spec)?;
        up::nodes_ready(&self.layout, &self.spec)
    }

    /// Crashes a node and starts it again.
    pub fn reboot(&self, name: &str) -> Result<()> {
        self.node(name)?.reboot(&self.spec)?;
        up::nodes_ready(&self.layout, &self.spec)
    }

    /// Ends a part of the control plane without a warning.
    pub fn kill(&self, component: Component) -> Result<()> {
        component.kill(&self.layout)
    }

    /// Starts a part of the control plane again.
    pub fn start(&self, component: Component) -> Result<()> {
        component.start(&self.layout, &self.spec)
    }

    /// Gives every node the image in this tar.
    pub fn import_image(&self, tar: &Path) -> Result<()> {
        let nodes = self.nodes()?;
        std::thread::scope(|scope| {
            let imports: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.import_image(tar))).collect();
            imports.into_iter().try_for_each(|import| match import.join() {
                Ok(imported) => imported,
                Err(_) => bail!("a thread panicked"),
            })
        })
    }

    /// Starts taking every frame that passes between hosts.
    pub fn capture(&self) -> Result<Capture> {
        Capture::start(&self.layout)
    }

    /// Takes the cluster down, and says so when something of it is left.
    pub fn down(mut self) -> Result<()> {
        self.owned = false;
        up::down(&self.layout)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned
            && let Err(error) = up::down(&self.layout)
        {
            eprintln!("cluster {} stays behind: {error:#}", self.layout.name());
        }
    }
}
