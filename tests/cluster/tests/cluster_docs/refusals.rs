//! What a user sees who installs where it cannot go well: each thing that is wrong is named with what to do, the exit
//! code says which sort it is, and nothing was made. Owns that, in a cluster without a mesh.

use std::path::{Path, PathBuf};
use std::process::Command;

use ambit_cluster_lab::Lab;
use anyhow::{Context as _, Result, ensure};

/// The account that may do nothing, in the words of the API server.
const NOBODY: &str = "system:serviceaccount:default:nobody";

/// A node agent of somebody else's under the name that ours has; no node wants it.
const AGENT: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: istio-cni-node, namespace: kube-system }
spec:
  selector: { matchLabels: { k8s-app: istio-cni-node } }
  template:
    metadata: { labels: { k8s-app: istio-cni-node } }
    spec:
      nodeSelector: { nobody: wants-it }
      containers: [{ name: install-cni, image: localhost/none:1 }]
";

/// Somebody who tries to install.
struct User<'a> {
    lab: &'a Lab,
    folder: PathBuf,
}

pub(crate) fn are_told(lab: &Lab, folder: &Path) -> Result<()> {
    let user = User { lab, folder: folder.to_owned() };
    user.cannot_reach_it()?;
    user.has_no_rights()?;
    user.gives_wrong_values()?;
    user.finds_somebody_elses()?;
    let made = lab.kubectl(&["get", "namespace", "istio-system", "--ignore-not-found", "-o", "name"])?;
    ensure!(made.trim().is_empty(), "there is {made}");
    Ok(())
}

impl User<'_> {
    /// Fails with this code, saying all of this.
    fn fails(&self, kubeconfig: &Path, words: &str, code: i32, wanted: &[&str]) -> Result<()> {
        let programs =
            Path::new(env!("CARGO_BIN_EXE_ambit-lab")).parent().context("a program is in a folder")?;
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120"]).arg(programs.join("ambit")).args(words.split(' '));
        command.env("KUBECONFIG", kubeconfig).env("HELM", ambit_cluster_lab::helm()?);
        for (name, dir) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(name, self.folder.join(dir));
        }
        let output = command.output().with_context(|| format!("ambit {words}"))?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.code() == Some(code), "ambit {words}: {}\n{said}", output.status);
        let missing = wanted.iter().find(|it| !said.contains(**it));
        ensure!(missing.is_none(), "ambit {words} does not say {missing:?}:\n{said}");
        eprintln!("docs: ambit {words} ... refused as it should be");
        Ok(())
    }

    /// A configuration of this user's, derived from the administrator's.
    fn config(&self, name: &str, change: &[&[&str]]) -> Result<PathBuf> {
        let file = self.folder.join(name);
        std::fs::copy(self.lab.kubeconfig(), &file)?;
        let path = file.display().to_string();
        for words in change {
            self.lab.kubectl(&[&["--kubeconfig", path.as_str(), "config"][..], *words].concat())?;
        }
        Ok(file)
    }

    fn cannot_reach_it(&self) -> Result<()> {
        let current =
            self.lab.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].name}"])?;
        let dead =
            self.config("dead", &[&["set-cluster", current.trim(), "--server=https://127.0.0.1:1"]])?;
        let away = ["the API server cannot be reached", "kubectl cluster-info"];
        for words in ["install -y", "upgrade -y", "uninstall -y", "check", "status"] {
            self.fails(&dead, words, 1, &away)?;
        }
        let contexts = ["cannot use the kubeconfig", "kubectl config get-contexts"];
        self.fails(&self.lab.kubeconfig(), "install -y --context elsewhere", 1, &contexts)?;
        self.fails(&self.folder.join("not-there"), "install -y", 1, &contexts)
    }

    fn has_no_rights(&self) -> Result<()> {
        self.lab.kubectl(&["create", "serviceaccount", "nobody"])?;
        let token = self.lab.kubectl(&["create", "token", "nobody"])?;
        let token = format!("--token={}", token.trim());
        let user = self.config(
            "nobody",
            &[&["set-credentials", "nobody", &token], &["set-context", "--current", "--user=nobody"]],
        )?;
        let wanted = ["✗ rights to install", "this account may not: ", "cluster-admin"];
        self.fails(&user, "install -y", 1, &wanted)?;
        // Whoever goes on all the same is told by the cluster what it was that he may not.
        self.fails(&user, "install -y --skip-check", 1, &["forbidden", NOBODY])?;
        let wrong = self.config(
            "unknown",
            &[&["set-credentials", "x", "--token=x"], &["set-context", "--current", "--user=x"]],
        )?;
        self.fails(&wrong, "install -y", 1, &["does not know this account", "log in to the cluster again"])?;
        self.lab.kubectl(&["delete", "serviceaccount", "nobody"]).map(drop)
    }

    /// Field, value, and what to do; also of several at once.
    fn gives_wrong_values(&self) -> Result<()> {
        for (words, wanted) in [
            (
                "--set ztunnel.logLevel=loud --set global.hubb=x",
                &["ztunnel.logLevel: 'loud'", "'hubb' not allowed"][..],
            ),
            ("--set cni.repair.enabled=true", &["cni.repair.enabled: there are no sidecars"]),
            ("--set istiod.replicaCount=2", &["istiod: values of the control plane go under istiod-lite"]),
            ("--platform mainframe", &["'mainframe'", "openshift"]),
            ("--set ztunnel", &["KEY=VALUE", "for example"]),
            ("-f /nonexistent.yaml", &["/nonexistent.yaml", "name a YAML file"]),
        ] {
            self.fails(&self.lab.kubeconfig(), &format!("install -y {words}"), 2, wanted)?;
        }
        Ok(())
    }

    fn finds_somebody_elses(&self) -> Result<()> {
        self.lab.apply(AGENT)?;
        let wanted = ["✗ other meshes", "kube-system/istio-cni-node", "docs/migrate.md", "cni.enabled=false"];
        self.fails(&self.lab.kubeconfig(), "install -y", 1, &wanted)?;
        self.lab.delete(AGENT)
    }
}
