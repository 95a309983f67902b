//! How long the plugin's ADD takes: 100 pods, 8 at a time, through the plugin's own program, against the daemon and a
//! ztunnel that is played. Needs root and both programs beside this one:
//! `cargo build --release -p ambit-cni -p ambit-cni-plugin && cargo run --release -p ambit-cni --example add_bench`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on ends"
)]

#[path = "../tests/daemon/stage.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod stage;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ambit_sys::netns::Netns;
use stage::{Stage, namespace, pod};

const PODS: usize = 100;
const AT_ONCE: usize = 8;

fn main() {
    let programs = std::env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_owned();
    let (daemon, plugin) = (programs.join("ambit-cni-node"), programs.join("ambit-cni"));
    assert!(daemon.exists() && plugin.exists(), "cargo build --release -p ambit-cni -p ambit-cni-plugin");
    let pods: Vec<_> = (0..PODS)
        .map(|n| (format!("p{n}"), format!("u-{n}"), Netns::anonymous().expect("needs root")))
        .collect();
    let mut objects = vec![namespace(Some("ambient"))];
    objects.extend(pods.iter().map(|(name, uid, _)| pod(name, uid)));
    let stage = Stage::with(daemon.to_str().unwrap(), &objects, &[]);
    let _ztunnel = stage.ztunnel();
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, uid, netns)) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let took = add(&stage, &plugin, (name, uid), netns);
                    times.lock().unwrap().push(took);
                }
            });
        }
    });
    let all = begun.elapsed();
    let mut times = times.into_inner().unwrap();
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!(
        "{PODS} pods, {AT_ONCE} at a time, in {all:?}: p50 {:?}, p99 {:?}, most {:?}",
        at(50),
        at(99),
        at(100)
    );
}

fn add(stage: &Stage, plugin: &Path, (name, uid): (&str, &str), netns: &Netns) -> Duration {
    let begun = Instant::now();
    let mut child = Command::new(plugin)
        .env_clear()
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", format!("c-{uid}"))
        .env("CNI_NETNS", format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd()))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/opt/cni/bin")
        .env("CNI_ARGS", format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_UID={uid}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stage.network().to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), stage.log());
    begun.elapsed()
}
