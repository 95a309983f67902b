//! A client that asks all the while, over a new connection each time. Owns starting it and reading what it saw.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::Lab;

/// Asks until it is stopped, or forgotten.
#[derive(Debug)]
pub struct Load {
    child: Child,
    what: String,
}

/// What it saw.
#[derive(Debug)]
pub struct Seen {
    /// Questions that were asked.
    pub sent: u64,
    /// Those that were not answered.
    pub failed: u64,
    /// Its own words, a line each time that requests begin to pass or to fail.
    pub words: String,
}

impl Load {
    /// A pod (`NAMESPACE/NAME`) begins to ask for a page, again and again.
    pub fn start(lab: &Lab, pod: &str, url: &str) -> Result<Self> {
        let (namespace, name) = pod.split_once('/').context("a pod is called NAMESPACE/NAME")?;
        let mut words = vec!["-n", namespace, "exec", "-i", name, "--", "ambit", "pod", "load", url];
        words.extend(["--every-ms", "20"]);
        let mut command = lab.kubectl_command(&words);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, what: format!("{pod} asks {url}") })
    }

    /// Stops it.
    pub fn finish(mut self) -> Result<Seen> {
        // The end of its input is what it waits for.
        drop(self.child.stdin.take());
        let mut output = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut stdout, &mut output)?;
        }
        self.child.wait()?;
        let last = output.lines().last().with_context(|| format!("{} said nothing", self.what))?;
        let told: Value = serde_json::from_str(last).with_context(|| last.to_owned())?;
        let number = |name: &str| told[name].as_u64().with_context(|| format!("no {name} in {last}"));
        Ok(Seen { sent: number("sent")?, failed: number("failed")?, words: output.clone() })
    }

    /// Stops it: it has asked, and every question was answered.
    pub fn lost_nothing(self) -> Result<u64> {
        let what = self.what.clone();
        let seen = self.finish()?;
        ensure!(seen.sent > 20, "{what}: only {} questions", seen.sent);
        ensure!(seen.failed == 0, "{what}: {} of {} failed:\n{}", seen.failed, seen.sent, seen.words);
        Ok(seen.sent)
    }

    /// Stops it: it has asked, and was never let in.
    pub fn was_never_let_in(self) -> Result<u64> {
        let what = self.what.clone();
        let seen = self.finish()?;
        ensure!(seen.sent > 20, "{what}: only {} questions", seen.sent);
        ensure!(seen.failed == seen.sent, "{what}: let in\n{}", seen.words);
        Ok(seen.sent)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It has ended already, or nobody wants to know any more.
        let _ended = self.child.kill();
        let _gone = self.child.wait();
    }
}
