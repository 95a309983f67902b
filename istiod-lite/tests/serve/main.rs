//! The control plane as a whole over real sockets on loopback: a tunnel's own client code subscribes and asks for
//! certificates, manifests change, the control plane goes and comes back.

#![cfg(test)]

mod place;
mod seen;
mod telling;
mod times;

use std::time::{Duration, Instant};

use ambit_istiod_lite::config::Run;
use ambit_istiod_lite::run::ControlPlane;
use ambit_model::name::Identity;
use ambit_tls::issue::{IssueError, Issuer, Token};

use crate::place::{POLICY, Place, Running, Tunnel, WORLD, authority, eventually};

#[tokio::test]
async fn a_subscriber_is_told_the_world_then_each_change_and_after_a_restart_only_what_changed() {
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let mut tunnel = Tunnel::start(&place, running.addresses);
    let mut first = tunnel.changes(3).await;
    first.sort();
    assert_eq!(first, ["+service web", "+workload cart-1 []", "+workload web-1 []"]);

    let start = Instant::now();
    place.write("policy.yaml", &POLICY.replace("NAME", "first"));
    assert_eq!(tunnel.next().await, ["+policy shop/first"], "a policy comes before those that list it");
    println!("policy file to subscriber: {:?}", start.elapsed());
    assert_eq!(tunnel.next().await, [r#"+workload web-1 ["shop/first"]"#]);
    let layer = place.path("mesh.overlay/istiod/AuthorizationPolicy_shop_first.json");
    let told = eventually(|| std::fs::read_to_string(&layer).ok()).await;
    assert!(told.contains("ZtunnelAccepted") && told.contains("Accepted"), "{told}");

    place.write("broken.yaml", "kind: [");
    place.write("policy.yaml", &POLICY.replace("NAME", "second"));
    let mut changes = tunnel.changes(3).await;
    changes.sort();
    assert_eq!(changes, ["+policy shop/second", r#"+workload web-1 ["shop/second"]"#, "-policy shop/first"]);

    eventually(|| (!layer.exists()).then_some(())).await;
    let port = running.end().await;
    std::fs::remove_file(place.path("mesh/policy.yaml")).unwrap();
    let running = Running::start(&place, port).await;
    let mut changes = tunnel.changes(2).await;
    changes.sort();
    assert_eq!(changes, ["+workload web-1 []", "-policy shop/second"], "only what changed meanwhile");
    running.end().await;
}

#[tokio::test]
async fn a_tunnel_gets_certificates_for_the_pods_of_its_node_and_for_no_others() {
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let ca = authority(&place, running.addresses, Token::Static(place.token("n1")));
    let who = |text: &str| format!("spiffe://cluster.local/ns/shop/sa/{text}").parse::<Identity>().unwrap();
    let credential = ca.issue(&who("web")).await.unwrap();
    assert_eq!(*credential.identity(), who("web"));
    assert!(matches!(ca.issue(&who("cart")).await, Err(IssueError::Refused(_))), "it runs on another node");
    let unknown = authority(&place, running.addresses, Token::Static("no.such.token".into()));
    assert!(matches!(unknown.issue(&who("web")).await, Err(IssueError::Refused(_))));
    // The pod is written while its tunnel already asks.
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let pod = WORLD
            .split("---")
            .next()
            .unwrap()
            .replace("web-1", "late-1")
            .replace("AccountName: web", "AccountName: late");
        place.write("late.yaml", &pod);
    };
    let late_who = who("late");
    let (answer, ()) = tokio::join!(ca.issue(&late_who), late);
    answer.unwrap();
    running.end().await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_with_what_to_do() {
    let place = Place::new();
    let taken = ambit_process::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    type Spoil<'a> = Box<dyn Fn(&mut Run) + 'a>;
    let cases: [(Spoil<'_>, &str); 3] = [
        (
            Box::new(|run| run.cluster.source = Some("/nonexistent".into())),
            "name a folder of manifests that exists",
        ),
        (Box::new(|run| run.token_key = Some("/nonexistent".into())), "(--token-key)"),
        (Box::new(move |run| run.http_addr.set_port(port)), "stop what uses it, or choose another address"),
    ];
    for (spoil, told) in cases {
        let mut config = place.config(0);
        spoil(&mut config);
        let Err(error) = Box::pin(ControlPlane::open(config)).await else { panic!("it starts: {told}") };
        assert!(error.to_string().contains(told), "{error}");
    }
}
