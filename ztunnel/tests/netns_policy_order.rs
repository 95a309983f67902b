//! A control plane that chooses a policy for a workload before it tells of the policy. One proxy in a namespace of
//! its own, a scripted control plane, and a peer that reads its tunnel frame by frame.

#[cfg(test)]
#[path = "scene/told.rs"]
mod told;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ambit_kit::pause;
    use ambit_wire::local;

    use super::told::{Told, target, world};

    /// `AUTHZ_POLICY_WAIT` of these tests.
    const WAIT: Duration = Duration::from_millis(1500);
    /// What a machine may take that is busy with other things: less than this is at once, or right after the wait.
    const SOON: Duration = Duration::from_secs(30);

    fn told(wait: &str) -> Told {
        Told::new(&[("AUTHZ_POLICY_WAIT", wait)])
    }

    /// A deny policy for one account, in force for whom it is chosen.
    fn deny(name: &str, account: &str) -> ambit_model::delta::Delta {
        let text = format!(
            "policies: [{{name: {name}, namespace: shop, scope: WorkloadSelector, action: Deny, dryRun: false, \
             rules: [[[{{namespaces: [], notNamespaces: [], serviceAccounts: [], notServiceAccounts: [], \
             principals: [!Exact cluster.local/ns/shop/sa/{account}], notPrincipals: [], sourceIps: [], \
             notSourceIps: [], destinationIps: [], notDestinationIps: [], destinationPorts: [], \
             notDestinationPorts: []}}]]]}}]"
        );
        local::parse(&text).unwrap()
    }

    #[test]
    fn a_new_connection_waits_for_the_policy_and_is_judged_by_it() {
        for (denied, given) in [("somebody", true), ("client", false)] {
            let scene = told("60s");
            scene.plane.publish(&world(&["shop/late"]));
            let pause_before = Duration::from_millis(500);
            let (was_given, after) = scene.ask_while(|| {
                pause(pause_before);
                scene.plane.publish(&deny("late", denied));
            });
            assert_eq!(was_given, given, "{denied}: {}", scene.log());
            assert!(after > Duration::from_millis(250), "{denied}: answered without the policy, {after:?}");
            assert!(after < SOON, "{denied}: the policy came, but the wait went on, {after:?}");
        }
    }

    #[test]
    fn a_new_connection_whose_policy_never_comes_is_refused_after_the_wait() {
        let scene = told("1500ms");
        scene.plane.publish(&world(&["shop/never"]));
        let (given, after) = scene.ask_while(|| ());
        assert!(!given, "let in without its policy\n{}", scene.log());
        assert!(after >= WAIT && after < WAIT + SOON, "{after:?}");
        scene.says("policy shop/never applies but is not known yet");
    }

    #[test]
    fn without_a_wait_a_policy_that_is_missing_refuses_at_once() {
        let scene = told("0");
        scene.plane.publish(&world(&["shop/never"]));
        let (given, after) = scene.ask_while(|| ());
        assert!(!given && after < SOON, "{given} {after:?}\n{}", scene.log());
    }

    #[test]
    fn a_live_connection_outlives_a_policy_that_comes_late_and_does_not_deny_it() {
        let wait = Duration::from_secs(10);
        let scene = told("10s");
        let mut peer = scene.peer();
        assert!(peer.connect(1, target()) && peer.ask(1), "{}", scene.log());
        scene.plane.publish(&world(&["shop/late"]));
        pause(Duration::from_millis(300));
        assert!(peer.ask(1), "cut before the wait is over\n{}", scene.log());
        scene.plane.publish(&deny("late", "somebody"));
        pause(wait + Duration::from_millis(500));
        assert!(peer.ask(1), "cut though its policy has come\n{}", scene.log());
    }

    #[test]
    fn a_live_connection_is_cut_when_its_policy_has_not_come_within_the_wait() {
        let wait = Duration::from_secs(5);
        let scene = told("5s");
        let mut peer = scene.peer();
        assert!(peer.connect(1, target()) && peer.ask(1), "{}", scene.log());
        let began = Instant::now();
        scene.plane.publish(&world(&["shop/never"]));
        assert!(peer.ask(1), "cut before the wait is over\n{}", scene.log());
        let end = peer.until_stream_ends(1);
        assert!(end.ends_stream(), "{end:?}");
        let after = began.elapsed();
        assert!(after > wait - Duration::from_millis(200) && after < wait + SOON, "{after:?}");
        scene.says("policy applies but is not known yet: shop/never");
    }

    #[test]
    fn a_live_connection_is_cut_at_once_by_a_policy_that_comes_late_and_denies_it() {
        let scene = told("60s");
        let mut peer = scene.peer();
        assert!(peer.connect(1, target()) && peer.ask(1), "{}", scene.log());
        scene.plane.publish(&world(&["shop/late"]));
        assert!(peer.ask(1), "cut before the wait is over\n{}", scene.log());
        let began = Instant::now();
        scene.plane.publish(&deny("late", "client"));
        peer.until_stream_ends(1);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}
