//! A reader of the documents with a cluster before him: runs what they show, and says what was not as they show it.
//! Owns what he has on the path. How commands are judged is the transcript's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::programs::programs;
use crate::lab::Lab;

/// Blocks that are run on a cluster.
const MARK: &str = "console cluster";
/// Also what is taken down at the end takes its time on two cores.
const LIMIT: &str = "600";

/// Whoever follows a document.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    path: std::ffi::OsString,
    kubeconfig: PathBuf,
}

impl Reader {
    /// One who has our programs, `kubectl` and `helm` of this cluster, and a folder of his own.
    pub fn of(lab: &Lab) -> Result<Self> {
        let folder = lab.layout().dir().join("reader");
        fs::create_dir_all(&folder)?;
        let old = std::env::var_os("PATH").unwrap_or_default();
        let all = [lab.layout().bin(), programs()?].into_iter().chain(std::env::split_paths(&old));
        Ok(Self { path: std::env::join_paths(all)?, folder, kubeconfig: lab.kubeconfig() })
    }

    /// His own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Does what a document of `docs` says, all of it; tells what was not as it says.
    pub fn follow(&self, document: &str) -> Result<Vec<String>> {
        self.go_through(document, &text(document)?)
    }

    /// Does what a document says below one heading, which must be as it says.
    pub fn follow_section(&self, document: &str, heading: &str) -> Result<()> {
        let text = text(document)?;
        let begin = format!("\n## {heading}\n");
        let (_, section) = text.split_once(&begin).with_context(|| format!("no heading {heading:?}"))?;
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let wrong = self.go_through(&format!("{document}, {heading}"), section)?;
        ensure!(wrong.is_empty(), "not as the document says:\n{}", wrong.join("\n"));
        Ok(())
    }

    fn go_through(&self, name: &str, text: &str) -> Result<Vec<String>> {
        // Those of `console run` are run by the tier of the documents, those of `console helm` by another story.
        let others = ["console", "sh", "bash"];
        let unseen: Vec<_> = others.iter().flat_map(|kind| ambit_transcript::steps(text, kind)).collect();
        ensure!(unseen.is_empty(), "{name} has commands that nobody runs: {unseen:?}");
        let steps = ambit_transcript::steps(text, MARK);
        ensure!(!steps.is_empty(), "{name} has no block marked `{MARK}`");
        let mut wrong = Vec::new();
        for verdict in ambit_transcript::run(name, &steps, self.shell(), "")? {
            eprintln!("docs {} ... {}", verdict.what, verdict.complaint.as_deref().unwrap_or("ok"));
            if let Some(complaint) = verdict.complaint {
                wrong.push(format!("{}: {complaint}\n{}", verdict.what, verdict.seen));
            }
        }
        Ok(wrong)
    }

    fn shell(&self) -> Command {
        let mut shell = Command::new("timeout");
        shell
            .args(["--kill-after=5", LIMIT, "bash", "-c"])
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.folder.join("kubectl.cache"))
            .env("AMBIT", documents().join(".."))
            .env_remove("HELM")
            .current_dir(&self.folder);
        for (name, dir) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            shell.env(name, self.folder.join(dir));
        }
        shell
    }
}

/// The text of a document.
fn text(document: &str) -> Result<String> {
    fs::read_to_string(documents().join(document)).with_context(|| document.to_owned())
}

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}
