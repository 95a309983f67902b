//! Every chart, in every profile, on every platform, with and without a revision: passed by Helm's own checks, and every
//! object of it accepted by a real API server. Owns that; nothing of it is kept by the cluster.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::{SYSTEM, chart};
use anyhow::{Context as _, Result, ensure};

const PLATFORMS: [&str; 7] = ["", "gke", "k3d", "k3s", "microk8s", "minikube", "openshift"];
const PROFILES: [&str; 2] = ["", "ambient"];
/// Those whose objects are named by revision; in the chart of all, with the chart before it.
const REVISIONS: [&str; 2] = ["", "canary"];
/// One at a time leaves a processor idle.
const AT_ONCE: usize = 2;

/// One way to set a chart up.
type Way = (&'static str, Vec<String>);

pub(crate) fn are_accepted(lab: &Lab) -> Result<()> {
    let ways = Mutex::new(ways());
    let wanted = ways.lock().unwrap().len();
    let found = std::thread::scope(|scope| {
        let work = || -> Result<(usize, BTreeSet<String>)> {
            let (mut rendered, mut objects) = (0, BTreeSet::new());
            loop {
                let next = ways.lock().unwrap().pop();
                let Some((name, values)) = next else { return Ok((rendered, objects)) };
                let text = render(name, &values)?;
                objects.extend(text.split("\n---\n").map(str::to_owned));
                rendered += 1;
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|it| it.join().unwrap()).collect::<Result<Vec<_>>>()
    })?;
    let rendered: usize = found.iter().map(|(rendered, _)| rendered).sum();
    let objects: BTreeSet<String> = found.into_iter().flat_map(|(_, objects)| objects).collect();
    ensure!(rendered == wanted && objects.len() > 40, "{rendered} ways, {} objects", objects.len());
    // Unknown fields are refused too, not only told of. The same object of several ways is judged once.
    let all = objects.into_iter().collect::<Vec<_>>().join("\n---\n");
    let said = lab.kubectl_with(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &all)?;
    ensure!(said.lines().all(|line| line.contains("(server dry run)")), "{said}");
    Ok(())
}

/// All of them.
fn ways() -> Vec<Way> {
    let mut all = Vec::new();
    for name in ["base", "istiod-lite", "cni", "ztunnel", "ambit"] {
        for platform in PLATFORMS {
            for (profile, revision) in
                PROFILES.iter().flat_map(|it| REVISIONS.iter().map(move |rev| (it, rev)))
            {
                let has_revision = ["istiod-lite", "ztunnel", "ambit"].contains(&name);
                if !revision.is_empty() && !has_revision {
                    continue;
                }
                let mut values = vec![format!("global.platform={platform}")];
                // The chart of all has none of its own.
                let parts: &[&str] = if name == "ambit" { &["istiod-lite.", "ztunnel."] } else { &[""] };
                values.extend(parts.iter().map(|part| format!("{part}profile={profile}")));
                if has_revision {
                    values.extend(parts.iter().map(|part| format!("{part}revision={revision}")));
                }
                all.push((name, values));
            }
        }
    }
    all
}

/// What it makes; Helm's own checks come first.
fn render(name: &str, values: &[String]) -> Result<String> {
    let (program, folder) = (ambit_cluster_lab::helm()?, chart(name));
    let run = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words).args(values.iter().flat_map(|value| ["--set", value]));
        let output = command.env("KUBECONFIG", "/dev/null").output().context("helm cannot be run")?;
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "helm {} {values:?}: {wrong}{said}", words.join(" "));
        Ok(said)
    };
    run(&["lint", "--strict", &folder])?;
    run(&["template", "ambit", &folder, "-n", SYSTEM, "--kube-version", "1.34.0"])
}
