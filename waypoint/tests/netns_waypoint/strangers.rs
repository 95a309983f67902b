//! Whoever comes from outside the mesh, led to the waypoint by the pod that it came to: taken for nobody, at its own
//! address, and of nobody but that pod.

use std::sync::Arc;

use ambit_hbone::pool::OpenError;
use ambit_model::delta::Change;
use ambit_model::request_policy::{RequestAction, RequestRule, Source};
use ambit_model::service::AppProtocol;

use crate::backend::{Speaks, backend};
use crate::client::{empty, http1};
use crate::policies::{any, change, from_account, policy, to_path, way};
use crate::scene::{endpoint, scene_with, service, shop};

const ONE: &str = "127.0.0.2:8080";
const STRANGER: &str = "192.0.2.7:999";

fn from(source: Source) -> RequestRule {
    RequestRule { from: vec![source], ..RequestRule::default() }
}

#[test]
fn a_stranger_is_nobody_at_its_own_address_and_is_believed_of_nobody_but_the_pod_it_came_to() {
    let mut world = shop(AppProtocol::Http11);
    let mut pod = endpoint("one", "127.0.0.2");
    pod.waypoint = service("x", "10.1.0.9", AppProtocol::Tcp).waypoint;
    world.push(Change::Workload(Arc::new(pod)));
    world.push(change(policy("admin", way(), RequestAction::Deny, &[to_path("/admin/*")])));
    scene_with(&[("XFCC_INCLUDE_CLIENT_IDENTITY", "true")], &world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let (stream, understood) = scene.lead(("one", "127.0.0.2"), Some(STRANGER), ONE).await.unwrap();
        assert!(understood);
        let mut stranger = http1(stream).await;
        let (stream, understood) = scene.lead(("one", "127.0.0.2"), None, ONE).await.unwrap();
        assert!(!understood);
        let mut itself = http1(stream).await;

        // What the pod's services say of its port counts at its own address, too: its clients may take their time.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        // The application is told who asks, where that is known.
        let answer = stranger.get("/stranger").await;
        assert!(answer.body.starts_with("one at 127.0.0.2:8080"), "{answer:?}");
        assert!(!one.last.lock().unwrap().contains_key("x-forwarded-client-cert"));
        assert_eq!(itself.get("/itself").await.status, 200);
        assert!(one.last.lock().unwrap().contains_key("x-forwarded-client-cert"));
        let line = scene.logged(&["request complete", "path=\"/stranger\""]);
        assert!(line.contains(&format!("downstream_remote_address={STRANGER}")), "{line}");
        assert!(!line.contains("source_principal") && !line.contains("source_workload"), "{line}");
        let line = scene.logged(&["request complete", "path=\"/itself\""]);
        assert!(line.contains("source_principal=spiffe://cluster.local/ns/shop/sa/one"), "{line}");
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let unknown = |line: &&str| {
            line.starts_with("istio_requests_total{") && line.contains("source_principal=\"unknown\"")
        };
        assert_eq!(metrics.lines().filter(unknown).count(), 1, "{metrics}");

        // Policies: by what is asked, by who asks, by where it is; whom it came by is only its own word.
        assert_eq!(stranger.get("/admin/x").await.status, 403);
        let blocks = |text: &str| any([text.parse().unwrap()]);
        let there = from(Source { ip_blocks: blocks("192.0.2.0/24"), ..Source::default() });
        let elsewhere = from(Source { ip_blocks: blocks("127.0.0.0/8"), ..Source::default() });
        let passed_on = from(Source { remote_ip_blocks: blocks("10.0.0.0/8"), ..Source::default() });
        for (name, action, rule, wanted) in [
            ("the pod's own account", RequestAction::Allow, from_account("one"), (403, 200)),
            ("all but the pod's own account", RequestAction::Deny, not_from("one"), (403, 200)),
            ("where the stranger is", RequestAction::Allow, there, (200, 403)),
            ("where the pod is", RequestAction::Allow, elsewhere, (403, 200)),
            ("whom it came by", RequestAction::Allow, passed_on, (403, 200)),
        ] {
            scene.plane.publish(&[change(policy("b", way(), action, &[rule]))].into_iter().collect());
            let mut seen = Vec::new();
            for client in [&mut stranger, &mut itself] {
                let request =
                    client.request("/").header("x-forwarded-for", "10.0.0.1").body(empty()).unwrap();
                seen.push(client.ask(request).await.status);
            }
            assert_eq!((seen[0], seen[1]), wanted, "{name}");
        }

        for (who, stranger, authority) in [
            (("cart", "127.0.0.3"), STRANGER, ONE),
            (("cart", "127.0.0.2"), STRANGER, ONE),
            (("one", "127.0.0.3"), STRANGER, ONE),
            (("one", "127.0.0.2"), STRANGER, "10.1.0.1:80"),
            (("one", "127.0.0.2"), "", ONE),
        ] {
            let asked = scene.lead(who, Some(stranger), authority).await;
            let Err(OpenError::Refused { status }) = asked else { panic!("{who:?} {authority}") };
            assert_eq!(status, 400, "{who:?} {authority}");
        }
        scene.logged(&[
            "connection refused",
            "and spiffe://cluster.local/ns/shop/sa/cart is not at 127.0.0.3",
        ]);
    });
}

fn not_from(account: &str) -> RequestRule {
    let mut rule = from_account(account);
    for source in &mut rule.from {
        std::mem::swap(&mut source.principals.any, &mut source.principals.none);
    }
    rule
}
