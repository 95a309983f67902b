//! Servers that clients ask for with TLS which the waypoint does not end: below a wildcard, and in policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambit_hbone::pool::OpenError;
use ambit_model::delta::Change;
use ambit_model::request_policy::{RequestAction, RequestRule, Requirement, TextOf, text_match};
use ambit_model::service::AppProtocol;
use ambit_process::net::TcpListener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Speaks, backend};
use crate::client::raw;
use crate::outside::{NAMES, OUTSIDE, plain, wildcard};
use crate::policies::{any, change, policy, way};
use crate::routed::hello;
use crate::scene::{HOSTS, Scene, scene, scene_with, shop};

const WEB: &str = "10.1.0.1:80";

/// Says `there` to whoever begins to speak, and counts them.
async fn there(scene: &mut Scene, ip: &str) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((ip, 8080)).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    scene.tasks.spawn("there", move |stop| async move {
        loop {
            let (mut tcp, _) = tokio::select! {
                taken = listener.accept() => taken.unwrap(),
                () = stop.stopped() => return,
            };
            let mut first = [0; 1024];
            if let Ok(1..) = tcp.read(&mut first).await {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = tcp.write_all(b"there").await;
            }
        }
    });
    count
}

/// What is answered to a client that begins so; none where nothing is opened to it.
async fn begins(scene: &Scene, bytes: &[u8]) -> Option<String> {
    match scene.open("cart", WEB).await {
        Ok(stream) => Some(raw(stream, bytes).await),
        Err(OpenError::Refused { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_client_of_tls_gets_to_the_host_below_a_wildcard_that_it_asks_for_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    std::fs::write(&file, NAMES).unwrap();
    let mut world = wildcard(AppProtocol::Tls).to_vec();
    world.push(Change::Workload(Arc::new(plain("pod", "127.0.0.49"))));
    let settings = [("DYNAMIC_DNS_RANGES", "127.0.0.48/30"), (HOSTS, file.to_str().unwrap())];
    scene_with(&settings, &world, async |scene| {
        let outside = there(scene, OUTSIDE).await;
        let hidden = [there(scene, "127.0.0.60").await, there(scene, "127.0.0.49").await];
        for (bytes, wanted) in [
            (hello("a.example.com"), "there"),
            (hello("A.Example.com"), "there"),
            // At an address that nobody has allowed, at one of the mesh, and nowhere.
            (hello("private.example.com"), ""),
            (hello("pod.example.com"), ""),
            (hello("nobody.example.com"), ""),
            // Not below the wildcard, whatever has the name; nobody in particular; no TLS.
            (hello("a.example.org"), ""),
            (hello("example.com"), ""),
            (hello(""), ""),
            (b"GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n".to_vec(), ""),
        ] {
            let answer = begins(scene, &bytes).await;
            assert_eq!(answer.as_deref(), Some(wanted), "{}", String::from_utf8_lossy(&bytes));
        }
        assert_eq!(outside.load(Ordering::SeqCst), 2);
        assert!(hidden.iter().all(|count| count.load(Ordering::SeqCst) == 0));
    });
}

#[test]
fn policies_hold_for_the_server_that_a_client_of_tls_asks_for() {
    let of = |name: &str| {
        let when = vec![Requirement::Text { of: TextOf::Sni, values: any([text_match(name)]) }];
        RequestRule { when, ..RequestRule::default() }
    };
    let allow = |name: &str| change(policy("p", way(), RequestAction::Allow, &[of(name)]));
    let deny = |name: &str| change(policy("p", way(), RequestAction::Deny, &[of(name)]));
    let in_tls = AppProtocol::Tls;
    for (protocol, policy, server, wanted) in [
        (in_tls, allow("db.example"), "db.example", Some("one")),
        (in_tls, allow("DB.example"), "db.EXAMPLE", Some("one")),
        (in_tls, allow("*.example"), "db.example", Some("one")),
        (in_tls, allow("db.example"), "other.example", Some("")),
        (in_tls, allow("db.example"), "", Some("")),
        (in_tls, deny("db.example"), "other.example", Some("one")),
        (in_tls, deny("db.example"), "DB.example", Some("")),
        // Whoever names nobody may mean the one that is denied.
        (in_tls, deny("db.example"), "", Some("")),
        // Where nobody says that TLS is spoken, nobody listens for it: it is read strictly, before anything is opened.
        (AppProtocol::Tcp, allow("db.example"), "db.example", None),
        (AppProtocol::Tcp, deny("other.example"), "db.example", None),
    ] {
        let mut world = shop(protocol);
        world.push(policy);
        scene(&world, async |scene| {
            backend(scene, "one", "127.0.0.2", Speaks::Raw("one")).await;
            let answer = begins(scene, &hello(server)).await;
            assert_eq!(answer.as_deref(), wanted, "{protocol:?} {server}");
        });
    }
}
