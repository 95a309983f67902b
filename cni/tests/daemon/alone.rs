//! One pod's trouble is its own: a proxy that hangs whenever it is to carry a certain pod.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ambit_sys::netns::Netns;
use serde_json::Value;

use super::{ambient, code, stage};
use crate::stage::{Stage, Ztunnel, filter, namespace, pause, pod};

/// The plugin's patience is 30 s; who waits behind one hung request needs its 3 s and a new connection, and the rest
/// is for a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(20);

/// Sorts before all others, so that whatever goes by order meets it first.
const BAD: (&str, &str) = ("a-bad", "u-0");

/// Keeps a proxy connected that hangs about the bad pod, as often as it is thrown out.
fn with_stubborn_ztunnel(stage: &Stage, work: impl FnOnce()) {
    let (stop, socket) = (AtomicBool::new(false), stage.path("run/ztunnel.sock"));
    let was_there = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let ztunnel = Ztunnel::connect_mute(&socket, Some(BAD.1));
                while !ztunnel.is_closed() && !stop.load(Ordering::Relaxed) {
                    was_there.fetch_or(ztunnel.has_heard("snapshot"), Ordering::Relaxed);
                    pause();
                }
            }
        });
        // Also ends the proxy when the work fails.
        let _stop = OnDrop(&stop);
        stage.eventually("a ztunnel", || was_there.load(Ordering::Relaxed));
        work();
    });
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn objects(first: Value, pods: &[(&str, &str)]) -> Vec<Value> {
    std::iter::once(first).chain(pods.iter().map(|(name, uid)| pod(name, uid))).collect()
}

const GOOD: [(&str, &str); 5] = [("b", "u-1"), ("c", "u-2"), ("d", "u-3"), ("e", "u-4"), ("f", "u-5")];

fn start(stage: &Stage, (name, uid): (&str, &str), netns: &Netns) {
    let begun = Instant::now();
    let answer = stage.plugin("ADD", name, uid, netns);
    if uid == BAD.1 {
        assert_eq!(code(&answer), 11, "{answer:?}");
    } else {
        assert!(answer.good, "{name} {answer:?}\n{}", stage.log());
    }
    assert!(begun.elapsed() < DEADLINE, "{name} {:?}", begun.elapsed());
}

// K14
#[test]
fn pods_that_start_beside_one_that_ztunnel_hangs_about_start_in_time() {
    let all: Vec<_> = std::iter::once(BAD).chain(GOOD).collect();
    let stage = stage(&objects(ambient(), &all));
    with_stubborn_ztunnel(&stage, || {
        for _ in 0..3 {
            let pods = all.iter().map(|it| (it, Netns::anonymous().unwrap())).collect::<Vec<_>>();
            std::thread::scope(|scope| {
                for ((name, uid), netns) in &pods {
                    let stage = &stage;
                    scope.spawn(move || start(stage, (name, uid), netns));
                }
            });
            for ((name, uid), netns) in &pods[1..] {
                assert!(stage.plugin("DEL", name, uid, netns).good, "{name}");
            }
        }
    });
}

// K14
#[test]
fn running_pods_join_in_time_beside_one_that_ztunnel_hangs_about() {
    let all: Vec<_> = std::iter::once(BAD).chain(GOOD).collect();
    let stage = stage(&objects(namespace(None), &all));
    let pods = all.iter().map(|(name, uid)| (*name, *uid, Netns::anonymous().unwrap())).collect::<Vec<_>>();
    for (name, uid, netns) in &pods {
        assert!(stage.plugin("ADD", name, uid, netns).good);
    }
    with_stubborn_ztunnel(&stage, || {
        stage.tell(&objects(ambient(), &all));
        for (name, _, netns) in &pods[1..] {
            let word = || stage.redirection(name).as_deref() == Some("enabled");
            stage.eventually("enrolled", || word() && filter(netns).contains("redirect to :15001"));
        }
        stage.eventually("said of the bad one", || stage.redirection(BAD.0).as_deref() == Some("pending"));
        assert_eq!(filter(&pods[0].2), "", "nothing is redirected to nobody");
        // And they stay: a connection that ended is followed by one with everybody in it.
        std::thread::park_timeout(Duration::from_secs(4));
        for (name, uid, netns) in &pods[1..] {
            stage.eventually("carried", || stage.plugin("CHECK", name, uid, netns).good);
        }
    });
}
