//! A story's beginning and end: a cluster of its own, what to read where the story fails, and nothing left.
//! Owns what is printed of a failure. Output may be cut to its last part, so the reason comes last.

use std::collections::BTreeSet;

use anyhow::Result;

use super::SYSTEM;
use crate::lab::Lab;
use crate::wait::tail;

/// Lines of each text that is shown.
const SHOWN: usize = 30;
/// Whoever does not answer is not waited for.
const HURRY: &str = "--request-timeout=20s";
/// The label of pods that are made for gateways.
const WAYPOINT: &str = "gateway.networking.k8s.io/gateway-name";
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

/// What asks for the logs of some pods.
fn logs(space: &str, labels: &str) -> [String; 9] {
    let words = ["-n", space, "logs", "-l", labels, "--tail=2000", "--prefix", "--ignore-errors"];
    let mut all: [String; 9] = Default::default();
    all.iter_mut().zip(words.into_iter().chain([HURRY])).for_each(|(word, it)| it.clone_into(word));
    all
}

/// Where there are waypoints: anywhere.
fn spaces_of_waypoints(lab: &Lab) -> BTreeSet<String> {
    let names = "jsonpath={range .items[*]}{.metadata.namespace}{\"\\n\"}{end}";
    let said = lab.kubectl(&["get", "pods", "-A", "-l", WAYPOINT, "-o", names, HURRY]).unwrap_or_default();
    said.lines().map(str::to_owned).collect()
}

/// How things are. Of access lines there are thousands: they would hide the others.
fn show(lab: &Lab) {
    for node in lab.nodes().unwrap_or_default() {
        for log in node.logs() {
            eprintln!("--- {} ends with\n{}", log.display(), tail(&log));
        }
    }
    let states: [&[&str]; 3] = [
        &["get", "nodes", "-o", "wide", HURRY],
        &["get", "events", "-A", "--sort-by=.lastTimestamp", HURRY],
        &["get", "pods", "-A", "-o", "wide", HURRY],
    ];
    let parts = ["app=istiod", "app=ztunnel", "k8s-app=istio-cni-node"].map(|it| logs(SYSTEM, it));
    let waypoints = spaces_of_waypoints(lab);
    let waypoints = waypoints.iter().map(|space| logs(space, WAYPOINT));
    for arguments in waypoints.chain(parts) {
        show_end(lab, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    states.iter().for_each(|arguments| show_end(lab, arguments));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!("the machine's load: {}", load.trim());
}

fn show_end(lab: &Lab, arguments: &[&str]) {
    let said = lab.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"));
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains("\taccess\t")).collect();
    let last = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default();
    eprintln!("$ kubectl {}\n{}", arguments.join(" "), last.join("\n"));
}
