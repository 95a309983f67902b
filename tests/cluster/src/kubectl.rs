//! `kubectl`, as the administrator of a cluster.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::layout::Layout;
use crate::spec::Spec;

/// No call takes longer, but those that a person watches.
const LIMIT: &str = "90";

/// A command that the caller starts; it has no limit of its own.
pub fn command(layout: &Layout, spec: &Spec) -> Command {
    let mut command = Command::new(&spec.kube);
    command.arg("kubectl");
    configure(&mut command, layout);
    command
}

/// Runs it to its end and returns what it printed.
pub fn run(layout: &Layout, spec: &Spec, arguments: &[&str]) -> Result<String> {
    run_with(layout, spec, arguments, "")
}

/// As [`run`], with something to read.
pub fn run_with(layout: &Layout, spec: &Spec, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT]).arg(&spec.kube).arg("kubectl").args(arguments);
    configure(&mut command, layout);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading all; its own complaint is the better one.
        let _unread = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return String::from_utf8(output.stdout).context("kubectl printed no text");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = if output.status.code() == Some(124) { "no answer in time" } else { said.trim() };
    bail!("kubectl {}: {why}", arguments.join(" "))
}

fn configure(command: &mut Command, layout: &Layout) {
    command
        .env("KUBECONFIG", layout.kubeconfig("admin"))
        // What it learns of the API is kept with the cluster, not in the user's home.
        .env("KUBECACHEDIR", layout.dir().join("kubectl"));
}
