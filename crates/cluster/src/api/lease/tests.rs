//! The election, by a clock of ours and against a played API server.

use super::*;
use crate::api::tests::{client, fake::FakeApi};

const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";

fn held_by(holder: &str, renewed: &str) -> Term {
    Term {
        holder_identity: Some(holder.into()),
        renew_time: Some(renewed.into()),
        lease_duration_seconds: Some(15),
        ..Term::default()
    }
}

#[test]
fn a_lease_is_free_when_nobody_renewed_it_for_its_term_whatever_its_clock_says() {
    let (mut seen, begin) = (Seen::default(), clock::now());
    let at = |seconds| begin + Duration::from_secs(seconds);
    assert!(seen.is_free(&held_by("", "0"), "me", at(0)));
    assert!(seen.is_free(&held_by("me", "0"), "me", at(0)));
    for (renewed, seconds, free) in [
        ("1970", 0, false),
        ("1970", 14, false),
        ("2999", 15, false),
        ("2999", 29, false),
        ("2999", 30, true),
    ] {
        assert_eq!(seen.is_free(&held_by("other", renewed), "me", at(seconds)), free, "{renewed} {seconds}");
    }
}

fn candidate(identity: &str) -> Candidate {
    let (namespace, lease) = ("istio-system".into(), "istiod".into());
    Candidate { namespace, lease, identity: identity.into(), owner: None }
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_takes_over_when_it_steps_down() {
    let fake = FakeApi::start().await;
    let mut leads = Vec::new();
    let mut stops = Vec::new();
    let mut tasks = ambit_process::tasks::Tasks::new(&Stop::new());
    for identity in ["a", "b"] {
        let (told, leading) = watch::channel(false);
        let (client, stop) = (client(&fake).await, Stop::new());
        let heed = stop.clone();
        tasks.spawn("candidate", |_| candidate(identity).stand(client, told, heed));
        if identity == "a" {
            leading.clone().wait_for(|leads| *leads).await.unwrap();
        }
        leads.push(leading);
        stops.push(stop);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!*leads[1].borrow(), "one leads");
    stops[0].stop();
    // Sooner than the lease lapses: it was given back.
    tokio::time::timeout(TERM - EVERY, leads[1].wait_for(|leads| *leads)).await.unwrap().unwrap();
    assert!(!*leads[0].borrow());
    let lease = fake.object(LEASES, "istio-system", "istiod").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "b");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_leader_without_an_api_server_stops_leading_before_its_lease_lapses() {
    let mut fake = FakeApi::start().await;
    let (told, mut leading) = watch::channel(false);
    let (client, stop) = (client(&fake).await, Stop::new());
    let mut tasks = ambit_process::tasks::Tasks::new(&stop);
    tasks.spawn("candidate", |stop| candidate("a").stand(client, told, stop));
    leading.wait_for(|leads| *leads).await.unwrap();
    fake.fall();
    // The lease lapses a term after it was renewed, which was before this.
    tokio::time::timeout(TERM, leading.wait_for(|leads| !leads)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lease_belongs_to_whoever_held_it_last_and_to_no_former_namesake() {
    let fake = FakeApi::start().await;
    let client = client(&fake).await;
    let owners = || {
        let lease = fake.object(LEASES, "istio-system", "istiod").unwrap();
        let all = lease["metadata"]["ownerReferences"].as_array().unwrap().clone();
        all.iter().map(|it| format!("{} {}", it["name"], it["uid"]).replace('"', "")).collect::<Vec<_>>()
    };
    for (account, uid, wanted) in [
        ("istiod", "1", vec!["istiod 1"]),
        ("istiod", "2", vec!["istiod 2"]),
        ("istiod-canary", "3", vec!["istiod 2", "istiod-canary 3"]),
    ] {
        let me = Candidate { owner: Some(Owner::account(account, uid)), ..candidate("a") };
        assert!(me.attempt(&client, &mut Seen::default()).await.unwrap());
        assert_eq!(owners(), wanted);
    }
}

#[tokio::test]
async fn who_wrote_meanwhile_wins() {
    let fake = FakeApi::start().await;
    let (client, me) = (client(&fake).await, candidate("a"));
    let stale = json!({"name": "istiod", "namespace": "istio-system", "resourceVersion": "0"});
    fake.put(LEASES, json!({"metadata": {"name": "istiod", "namespace": "istio-system"}, "spec": {}}));
    let lease = Lease { metadata: stale, spec: held_by("a", "now") };
    assert!(!me.replace(&client, lease).await.unwrap());
    assert!(me.attempt(&client, &mut Seen::default()).await.unwrap());
}
