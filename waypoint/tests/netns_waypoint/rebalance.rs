//! Connections when replicas come (`waypoint.md` 9.1): kept ones are opened anew without a request lost, and only then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::nested::Nested;
use ambit_model::delta::Change;
use ambit_model::service::AppProtocol;
use ambit_model::workload::Workload;
use tokio::time::{Instant, sleep};

use crate::backend::{Speaks, backend};
use crate::client::{Client, empty, http1, http2, is_unseen};
use crate::scene::{PATIENCE, WAYPOINT, endpoint, endpoint_of, scene_with, shop};

const WEB: &str = "10.1.0.1:80";

/// A replica of the waypoint.
fn replica(name: &str, ip: &str) -> Change {
    let gateway = "shop/way.shop.svc.cluster.local".parse().unwrap();
    let services = BTreeMap::from([(gateway, BTreeMap::from([(15008, 15008)]))]);
    Change::Workload(Arc::new(Workload { services, ..endpoint(name, ip) }))
}

/// Asks until the waypoint says goodbye: by a header, or by taking no more requests.
async fn until_sent_away(client: &mut Client) -> u32 {
    let until = Instant::now() + PATIENCE;
    for asked in 0.. {
        assert!(Instant::now() < until, "nobody was sent away");
        let request = client.request("/").body(empty()).unwrap();
        match client.send(request).await {
            Ok(answer) if answer.headers().get("connection").is_some_and(|it| it == "close") => return asked,
            Ok(answer) => assert_eq!(answer.status(), 200),
            // Of HTTP/2: what comes after the goodbye may be asked elsewhere.
            Err(error) => {
                assert!(matches!(client, Client::Http2(_)) && is_unseen(&error), "lost: {error:?}");
                return asked;
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
    unreachable!()
}

/// What becomes of a kept connection of this version when a replica comes.
fn moves(speaks: Speaks, open: impl AsyncFn(Nested) -> Client + Send + Sync) {
    let world = shop(AppProtocol::Http11);
    scene_with(&[("WAYPOINT_REBALANCE_WINDOW", "1s")], &world, async |scene| {
        backend(scene, "one", "127.0.0.2", speaks).await;
        let mut old = open(scene.open("cart", WEB).await.unwrap()).await;
        // It is itself what becomes ready first. What is no replica of ours is none of its business, and neither is one
        // that goes.
        for change in [
            replica("way-1", WAYPOINT),
            Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))),
            Change::WorkloadGone("Kubernetes//Pod/shop/two".into()),
        ] {
            scene.plane.publish(&[change].into_iter().collect());
            stays(&mut old).await;
        }
        scene.plane.publish(&[replica("way-2", "127.0.0.8")].into_iter().collect());
        until_sent_away(&mut old).await;
        // Whoever has come back stays.
        let mut new = open(scene.open("cart", WEB).await.unwrap()).await;
        scene
            .plane
            .publish(&[Change::WorkloadGone("Kubernetes//Pod/shop/way-2".into())].into_iter().collect());
        stays(&mut new).await;
    });
}

/// For longer than a connection would take to move.
async fn stays(client: &mut Client) {
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(2500) {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.headers.contains_key("connection")), (200, false));
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn kept_connections_of_http1_are_opened_anew_when_a_replica_comes_and_no_request_is_lost() {
    moves(Speaks::Http1, http1);
}

#[test]
fn kept_connections_of_http2_are_opened_anew_when_a_replica_comes_and_no_request_is_lost() {
    moves(Speaks::Http2, http2);
}
