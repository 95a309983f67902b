//! What documents say about a cluster, done as they say it: every command of install, enrol, policies, troubleshoot and
//! upgrade, from their text, in one cluster, one after the other; and what they claim, watched from outside: what was readable on
//! the wire, and that nodes and the API server's objects are afterwards as they were before. Owns that. How commands are judged is the transcript's.

#![cfg(test)]

mod objects;
mod refusals;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_cluster_lab::mesh::{Reader, Traces, told};
use ambit_cluster_lab::{APP, Frames, Lab};
use anyhow::{Result, ensure};

/// In the order in which a reader comes to them.
const DOCUMENTS: [&str; 5] = ["install.md", "enrol.md", "policies.md", "troubleshoot.md", "upgrade.md"];
/// Requests of the documents that pass in plaintext, before the mesh and after it, and those that must not. A pod that
/// has just left may still be carried: its peers learn of it first.
const READABLE: [&[u8]; 2] = [b"/in-the-clear", b"/uninstalled"];
const CARRIED: [&[u8]; 6] =
    [b"/carried", b"/from-inside", b"/allowed-by-name", b"/upgraded", b"/rolled-back", b"/back-again"];
/// Pods on a busy machine, from nothing.
const PODS: Duration = Duration::from_secs(180);

#[test]
fn what_documents_say_about_a_cluster_is_so() {
    told("docs", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    let reader = Reader::of(lab)?;
    first_pods(lab)?;
    let before = (Traces::of(lab)?, objects::all(lab)?);
    refusals::are_told(lab, reader.folder())?;
    // All of it is told at once: a document takes a minute.
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let capture = lab.capture()?;
        wrong.extend(reader.follow(document)?);
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

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}
