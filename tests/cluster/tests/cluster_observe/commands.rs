//! `ambit` as a person with a kubeconfig runs it. Owns the running; what is run and seen is the story's.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ambit_cluster_lab::Lab;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The program, and the cluster that it is to look at.
pub(super) struct Ambit {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Ambit {
    /// The one that was built with this test.
    pub(super) fn of(lab: &Lab) -> Result<Self> {
        let own = std::env::current_exe()?;
        let folder =
            own.parent().and_then(|deps| deps.parent()).context("a test is in a folder of a folder")?;
        let program = folder.join("ambit");
        ensure!(program.is_file(), "{} is not built: cargo build -p ambit-cli", program.display());
        Ok(Self { program, kubeconfig: lab.kubeconfig() })
    }

    /// What came of it, whatever it was.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--kubeconfig").arg(&self.kubeconfig);
        command.output().with_context(|| format!("{} cannot be run", self.program.display()))
    }

    /// What it says where it succeeds.
    pub(super) fn says(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ambit {}: {}\n{said}{wrong}", arguments.join(" "), output.status);
        Ok(said)
    }

    /// The same, read as JSON.
    pub(super) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.says(arguments)?;
        serde_json::from_str(&said)
            .with_context(|| format!("ambit {} says no JSON: {said}", arguments.join(" ")))
    }

    /// Runs every command of a page of the documents that needs a cluster, as it stands there.
    pub(super) fn follow(&self, page: &str) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let blocks = text.split("```console cluster\n").skip(1).filter_map(|it| it.split("```").next());
        let commands: Vec<&str> =
            blocks.flat_map(str::lines).filter_map(|it| it.strip_prefix("$ ambit ")).collect();
        ensure!(!commands.is_empty(), "{page} has no command");
        commands.iter().try_for_each(|it| self.says(&it.split_whitespace().collect::<Vec<_>>()).map(drop))
    }

    /// What it says, on both outputs, where it fails with the code for that.
    pub(super) fn fails(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(output.status.code() == Some(1), "ambit {}: {}\n{said}", arguments.join(" "), output.status);
        Ok(said)
    }
}
