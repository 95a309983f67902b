//! What is said of a pod is proven: its certificate, too.

use ambit_sys::netns::Netns;
use serde_json::{Value, json};

use super::leave::get;
use super::{ambient, stage};
use crate::stage::{Manner, Stage, filter, namespace, pod};

/// A pod that the cluster knows to run.
fn running() -> Value {
    let mut pod = pod("web", "u-1");
    pod["status"] = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.5" }, { "ip": "fd00::5" }] });
    pod
}

fn says(stage: &Stage, word: &str) -> bool {
    stage.redirection("web").as_deref() == Some(word)
}

#[test]
fn a_running_pod_is_not_redirected_and_not_said_to_be_in_before_its_certificate_is_there() {
    let stage = stage(&[namespace(None), running()]);
    let ztunnel = stage.ztunnel();
    ztunnel.answer(Manner::Awaits);
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    stage.tell(&[ambient(), running()]);
    stage.eventually("it is pending", || says(&stage, "pending"));
    assert_eq!(filter(&netns), "", "its traffic would stop");
    assert!(stage.log().contains("certificate did not come"), "{}", stage.log());
    let counted = |line: &str| get(&stage, "/metrics").contains(line);
    // What is written on the pod is written before it is counted.
    stage.eventually("it is counted", || counted("ambit_cni_pending_pods 1\n"));
    ztunnel.answer(Manner::Holds);
    stage.eventually("it is in", || says(&stage, "enabled"));
    assert!(filter(&netns).contains("redirect to :15001"));
    for line in ["ambit_cni_enrolled_pods 1\n", "ambit_cni_pending_pods 0\n", "ambit_cni_unproven_pods 0\n"] {
        stage.eventually(line, || counted(line));
    }
}

#[test]
fn a_pod_in_the_mesh_is_proven_again_and_again_and_stays_in_without_a_certificate() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    // A pod that starts has no address yet, and nobody makes out a certificate for it.
    ztunnel.answer(Manner::Awaits);
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good, "{}", stage.log());
    assert!(says(&stage, "enabled") && filter(&netns).contains("redirect to :15001"));
    let unproven =
        |count: u8| get(&stage, "/metrics").contains(&format!("ambit_cni_unproven_pods {count}\n"));
    stage.eventually("it is counted", || unproven(1));
    ztunnel.answer(Manner::Holds);
    stage.eventually("it is proven", || unproven(0));
    ztunnel.answer(Manner::Awaits);
    stage.eventually("it is found without one", || unproven(1));
    assert!(says(&stage, "enabled") && filter(&netns).contains("redirect to :15001"), "nothing falls back");
    assert!(stage.plugin("DEL", "web", "u-1", &netns).good);
    stage.eventually("nobody is counted", || unproven(0));
}

#[test]
fn a_ztunnel_that_does_not_tell_of_certificates_is_taken_at_its_word_and_asked_once() {
    let stage = stage(&[ambient(), running()]);
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    assert!(says(&stage, "enabled"));
    std::thread::park_timeout(std::time::Duration::from_millis(2500));
    let asked = ztunnel.heard().into_iter().filter(|it| it == "add u-1").count();
    assert_eq!(asked, 1, "{:?}", ztunnel.heard());
}
