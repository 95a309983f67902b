//! The report that people attach: it is whole, and what is secret in the cluster is not in it.

use std::process::Command;
use std::time::{Duration, Instant};

use ambit_cluster_lab::Lab;
use anyhow::{Context as _, Result, ensure};

use crate::commands::Ambit;

/// In a secret, in a setting of the control plane, and in an object's annotation, as people leave such words behind.
const WORD: &str = "hunter2-is-nobodys-business";

/// A second was given; the answer that was waited for at its end may take ten more.
const HASTY: Duration = Duration::from_secs(12);

pub(super) fn is_whole_and_holds_no_secret(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let system = ["-n", "istio-system"];
    let kubectl = |arguments: &[&str]| lab.kubectl(&[&system, arguments].concat());
    kubectl(&["create", "secret", "generic", "left-behind", &format!("--from-literal=password={WORD}")])?;
    kubectl(&["annotate", "daemonset", "ztunnel", &format!("example.com/api-token={WORD}")])?;
    kubectl(&["create", "deployment", "careless", "--image=localhost/none:1", "--replicas=0"])?;
    kubectl(&["set", "env", "deployment/careless", &format!("DB_PASSWORD={WORD}")])?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("report.tar.gz");
    let out = path.display().to_string();
    let said = ambit.says(&["bug-report", "--out", &out])?;
    ensure!(said.contains("is written") && !said.contains("Not in it"), "{said}");
    let names = tar(&["-tzf", &out])?;
    for file in
        ["status.txt", "objects/authorizationpolicies.json", "syncz.json", "config_dump.json", "log.txt"]
    {
        ensure!(names.contains(file), "{file}: {names}");
    }
    let all = tar(&["-xzOf", &out])?;
    for words in ["The mesh is well.", "only-client", "workloadState", "careless"] {
        ensure!(all.contains(words), "{words} is not in the report");
    }
    ensure!(!all.contains(WORD), "the word is in the report");
    root_stays(lab, &all)?;
    let again = ambit.fails(&["bug-report", "--out", &out])?;
    ensure!(again.contains("cannot write"), "what is there is not overwritten: {again}");
    let hasty = folder.path().join("hasty.tar.gz").display().to_string();
    let begun = Instant::now();
    ambit.says(&["bug-report", "--out", &hasty, "--timeout", "1"])?;
    ensure!(begun.elapsed() < HASTY, "it took {:?}", begun.elapsed());
    ensure!(tar(&["-tzf", &hasty])?.contains("missing.txt"), "it is whole, however little there is in it");
    kubectl(&["delete", "secret/left-behind", "deployment/careless"])?;
    Ok(())
}

/// No line of the root's key, plain or as a secret's data has it, and no token.
fn root_stays(lab: &Lab, all: &str) -> Result<()> {
    let key =
        ["-n", "istio-system", "get", "secret", "istio-ca-secret", "-o", "jsonpath={.data.ca-key\\.pem}"];
    let coded = lab.kubectl(&key)?;
    let start = coded.get(..60).context("there is no key")?;
    ensure!(!all.contains(start), "the root's key is in the report");
    ensure!(!all.contains("PRIVATE KEY") && !all.contains("eyJhbGciOi"), "a key or a token is in the report");
    Ok(())
}

fn tar(arguments: &[&str]) -> Result<String> {
    let output = Command::new("tar").args(arguments).output().context("install tar: apt-get install tar")?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
