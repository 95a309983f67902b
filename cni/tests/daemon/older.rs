//! A pod whose rules the kernel's older packet filter holds. Needs the `iptables-legacy` program.

use std::process::Command;

use ambit_sys::netns::Netns;

use super::{ambient, stage};
use crate::stage::{filter, pod};

// K27
#[test]
fn rules_of_the_older_packet_filter_are_left_and_told_of_with_what_helps() {
    let stage = stage(&[ambient(), pod("web", "u-1"), pod("db", "u-2")]);
    let _ztunnel = stage.ztunnel();
    let (older, plain) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let legacy = |words: &[&str]| {
        let output = older.run(|| Command::new("iptables-legacy").args(words).output()).unwrap();
        let output = output.expect("needs iptables-legacy: apt-get install iptables");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    legacy(&["-t", "nat", "-N", "ISTIO_OUTPUT"]);
    legacy(&["-t", "nat", "-A", "OUTPUT", "-j", "ISTIO_OUTPUT"]);
    let before = legacy(&["-t", "nat", "-S"]);
    for (name, uid, netns) in [("web", "u-1", &older), ("db", "u-2", &plain)] {
        assert!(stage.plugin("ADD", name, uid, netns).good, "{}", stage.log());
        assert!(filter(netns).contains("redirect to :15001"));
    }
    assert_eq!(legacy(&["-t", "nat", "-S"]), before);
    let log = stage.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("iptables-legacy")).collect();
    let [told] = told[..] else { panic!("{told:?}") };
    assert!(told.contains("shop/web") && told.contains("nat (IPv4)") && told.contains("restart"), "{told}");
}
