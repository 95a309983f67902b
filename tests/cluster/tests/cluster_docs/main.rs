//! What documents say about a cluster, done as they say it: every command of install, enrol, policies, troubleshoot and
//! upgrade, from their text, in one cluster, one after the other; and what they claim, watched from outside: what was readable on
//! the wire, and that nodes and the API server's objects are afterwards as they were before. Owns that. How commands are judged is the transcript's.

#![cfg(test)]

mod objects;
mod refusals;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ambit_cluster_lab::mesh::{Traces, told};
use ambit_cluster_lab::{APP, Frames, Lab};
use anyhow::{Context as _, Result, ensure};

/// In the order in which a reader comes to them.
const DOCUMENTS: [&str; 5] = ["install.md", "enrol.md", "policies.md", "troubleshoot.md", "upgrade.md"];
/// Requests of the documents that pass in plaintext, before the mesh and after it, and those that must not. A pod that
/// has just left may still be carried: its peers learn of it first.
const READABLE: [&[u8]; 2] = [b"/in-the-clear", b"/uninstalled"];
const CARRIED: [&[u8]; 6] =
    [b"/carried", b"/from-inside", b"/allowed-by-name", b"/upgraded", b"/rolled-back", b"/back-again"];
/// Pods on a busy machine, from nothing.
const PODS: Duration = Duration::from_secs(180);
/// Also what is taken down at the end takes its time on two cores.
const LIMIT: &str = "600";

#[test]
fn what_documents_say_about_a_cluster_is_so() {
    told("docs", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    let tools = Tools::lay_out(lab)?;
    first_pods(lab)?;
    let before = (Traces::of(lab)?, objects::all(lab)?);
    refusals::are_told(lab, &tools.folder)?;
    // All of it is told at once: a document takes a minute.
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let capture = lab.capture()?;
        wrong.extend(tools.run(lab, document)?);
        let seen = tell_from_the_wire(document, &capture.finish());
        wrong.extend(seen.err().map(|error| format!("{error:#}")));
    }
    ensure!(wrong.is_empty(), "not as the documents say:\n{}", wrong.join("\n"));
    lab.wait("nodes to be as they were", Duration::from_secs(180), || {
        let now = Traces::of(lab)?;
        ensure!(now == before.0, "left:\n{}", now.beside(&before.0));
        Ok(())
    })?;
    lab.wait("no object to be left", Duration::from_secs(180), || {
        let now = objects::all(lab)?;
        let (left, gone) = (now.difference(&before.1), before.1.difference(&now));
        ensure!(now == before.1, "left: {:#?}\ngone: {:#?}", Vec::from_iter(left), Vec::from_iter(gone));
        Ok(())
    })
}

/// The runtime makes ready what it needs for pods when it sees the first of them.
fn first_pods(lab: &Lab) -> Result<()> {
    let pod = |node: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: first-{node}, namespace: default, labels: {{app: first}}}}, \
             spec: {{nodeName: {node}, terminationGracePeriodSeconds: 1, containers: [{{name: app, image: '{APP}'}}]}}}}"
        )
    };
    let pods: Vec<String> = lab.nodes()?.iter().map(|node| pod(&node.name())).collect();
    lab.apply(&pods.join("\n---\n"))?;
    lab.pods_ready("default", "app=first", PODS)?;
    lab.kubectl(&["delete", "pods", "-l", "app=first", "--wait", "--timeout=120s"]).map(drop)
}

/// Each request of a document was readable, or was not.
fn tell_from_the_wire(document: &str, frames: &Frames) -> Result<()> {
    let text = std::fs::read(documents().join(document))?;
    let is_asked = |request: &&[u8]| text.windows(request.len()).any(|it| it == *request);
    for request in READABLE.into_iter().filter(is_asked) {
        let request = String::from_utf8_lossy(request);
        ensure!(frames.contain(request.as_bytes()), "{document}: {request} was not seen on the wire");
    }
    for request in CARRIED.into_iter().filter(is_asked) {
        let request = String::from_utf8_lossy(request);
        ensure!(!frames.contain(request.as_bytes()), "{document}: {request} was readable on the wire");
        ensure!(frames.with_port(15008) > 0, "{document}: nothing went through a tunnel");
    }
    Ok(())
}

/// What a reader has on the path.
struct Tools {
    folder: PathBuf,
    path: std::ffi::OsString,
}

impl Tools {
    fn lay_out(lab: &Lab) -> Result<Self> {
        let folder = lab.layout().dir().join("reader");
        std::fs::create_dir_all(&folder)?;
        let programs =
            Path::new(env!("CARGO_BIN_EXE_ambit-lab")).parent().context("a program is in a folder")?;
        let old = std::env::var_os("PATH").unwrap_or_default();
        let all = [lab.layout().bin(), programs.to_owned()].into_iter().chain(std::env::split_paths(&old));
        Ok(Self { path: std::env::join_paths(all)?, folder })
    }

    /// Does what a document says; what was not as it says.
    fn run(&self, lab: &Lab, document: &str) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(documents().join(document))?;
        // Those of `console run` are run by the tier of the documents, those of `console helm` by another story.
        let others = ["console", "sh", "bash"];
        let unseen: Vec<_> = others.iter().flat_map(|kind| ambit_transcript::steps(&text, kind)).collect();
        ensure!(unseen.is_empty(), "{document} has commands that nobody runs: {unseen:?}");
        let steps = ambit_transcript::steps(&text, "console cluster");
        ensure!(!steps.is_empty(), "{document} has no block marked `console cluster`");
        let mut shell = Command::new("timeout");
        shell
            .args(["--kill-after=5", LIMIT, "bash", "-c"])
            .env("PATH", &self.path)
            .env("KUBECONFIG", lab.kubeconfig())
            .env("KUBECACHEDIR", self.folder.join("kubectl.cache"))
            .env("AMBIT", documents().join(".."))
            .env_remove("HELM")
            .current_dir(&self.folder);
        for (name, dir) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            shell.env(name, self.folder.join(dir));
        }
        let mut wrong = Vec::new();
        for verdict in ambit_transcript::run(document, &steps, shell, "")? {
            eprintln!("docs {} ... {}", verdict.what, verdict.complaint.as_deref().unwrap_or("ok"));
            if let Some(complaint) = verdict.complaint {
                wrong.push(format!("{}: {complaint}\n{}", verdict.what, verdict.seen));
            }
        }
        Ok(wrong)
    }
}

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}
