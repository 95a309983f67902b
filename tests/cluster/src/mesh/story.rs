//! A story's beginning and end: a cluster of its own, what to read where the story fails, and nothing left.
//! Owns what is printed of a failure. Output may be cut to its last part, so the reason comes last.

use anyhow::Result;

use super::SYSTEM;
use crate::lab::Lab;
use crate::wait::tail;

/// Lines of each text that is shown.
const SHOWN: usize = 30;
/// Bytes of the one line that says why.
const REASON: usize = 1500;

/// Tells a story on a cluster of its own: brings the cluster up, shows what to read where the story fails, and takes
/// the cluster down whatever happens.
///
/// # Errors
/// When the cluster or the story fails.
pub fn told(name: &str, story: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let done = Lab::up(name).and_then(|lab| {
        story(&lab).inspect_err(|_| show(&lab))?;
        lab.down()
    });
    done.inspect_err(|error| reason(name, error))
}

/// The same on a cluster that the caller has brought up, and takes down.
///
/// # Errors
/// When the story fails.
pub fn on(lab: &Lab, name: &str, story: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    story(lab).inspect_err(|error| {
        show(lab);
        reason(name, error);
    })
}

/// In one line, which the summary of all tiers repeats.
fn reason(name: &str, error: &anyhow::Error) {
    let lines: Vec<String> = format!("{error:#}").lines().map(|line| line.trim().to_owned()).collect();
    let mut line = lines.join(" | ");
    let end = (0..=REASON.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
    line.truncate(end);
    println!("\nwhy: {name}: {line}");
}

/// How things are. Of access lines there are thousands: they would hide the others.
fn show(lab: &Lab) {
    for node in lab.nodes().unwrap_or_default() {
        for log in node.logs() {
            eprintln!("--- {} ends with\n{}", log.display(), tail(&log));
        }
    }
    let logs = ["app=istiod", "app=ztunnel", "k8s-app=istio-cni-node"].map(|labels| {
        [
            "-n",
            SYSTEM,
            "logs",
            "-l",
            labels,
            "--tail=2000",
            "--prefix",
            "--ignore-errors",
            "--request-timeout=20s",
        ]
    });
    let states: [&[&str]; 3] = [
        &["get", "nodes", "-o", "wide", "--request-timeout=20s"],
        &["get", "events", "-A", "--sort-by=.lastTimestamp", "--request-timeout=20s"],
        &["get", "pods", "-A", "-o", "wide", "--request-timeout=20s"],
    ];
    for arguments in logs.iter().map(<[_; 9]>::as_slice).chain(states) {
        let said = lab.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<&str> = said.lines().filter(|line| !line.contains("\taccess\t")).collect();
        let last = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default();
        eprintln!("$ kubectl {}\n{}", arguments.join(" "), last.join("\n"));
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!("the machine's load: {}", load.trim());
}
