//! Sessions in force (`waypoint.md` 2.13): a client stays with the endpoint that it was given, whatever weights say, and
//! goes on with another where that is gone or its time is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::http_route::{Kept, Rule, Session};
use ambit_model::service::AppProtocol;
use http::HeaderMap;

use crate::backend::{Speaks, backend};
use crate::client::{Client, empty, http1};
use crate::routes::{prefix, route, rule, to};
use crate::scene::{Scene, endpoint, endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

/// `web` with the endpoints `one` and `three`, `other` with `two` and `four`, and a route that halves requests between
/// them: where one endpoint goes, no share of them has nobody to go to.
fn world(session: Session) -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Workload(Arc::new(endpoint("three", "127.0.0.4"))));
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Http11))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "four", "127.0.0.5"))));
    world.push(shared(session));
    world
}

fn shared(session: Session) -> Change {
    route(vec![Rule { session: Some(session), ..rule(prefix("/cart"), vec![to("web", 1), to("other", 1)]) }])
}

fn in_cookie(permanent: bool, absolute: Option<u64>, idle: Option<u64>) -> Session {
    let kept = Kept::Cookie { name: "stay".parse().unwrap(), path: None, permanent };
    Session { kept, absolute: absolute.map(Duration::from_secs), idle: idle.map(Duration::from_secs) }
}

async fn open(scene: &mut Scene) -> Client {
    for (name, ip) in
        [("one", "127.0.0.2"), ("two", "127.0.0.3"), ("three", "127.0.0.4"), ("four", "127.0.0.5")]
    {
        backend(scene, name, ip, Speaks::Http1).await;
    }
    http1(scene.open("cart", WEB).await.unwrap()).await
}

/// Who has answered, and what the client is told.
async fn ask(client: &mut Client, header: &str, value: &str) -> (String, HeaderMap) {
    let mut request = client.request("/cart/1");
    if !value.is_empty() {
        request = request.header(header, value);
    }
    let answer = client.ask(request.body(empty()).unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    (answer.body.split_whitespace().next().unwrap_or_default().to_owned(), answer.headers)
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let told = headers.get("set-cookie")?.to_str().unwrap();
    Some(told.split(';').next().unwrap().to_owned())
}

#[test]
fn a_client_stays_with_its_endpoint_until_that_is_gone() {
    scene(&world(in_cookie(false, None, None)), async |scene| {
        let mut client = open(scene).await;
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let (first, headers) = ask(&mut client, "cookie", "").await;
            let told = headers["set-cookie"].to_str().unwrap();
            assert!(told.ends_with("; Path=/cart; HttpOnly; SameSite=Lax"), "{told}");
            let kept = cookie(&headers).unwrap();
            let (again, headers) = ask(&mut client, "cookie", &format!("a=b; {kept}")).await;
            assert_eq!((again.as_str(), cookie(&headers)), (first.as_str(), None), "it knows that already");
            seen.insert(first);
        }
        assert_eq!(seen.len(), 4, "without a session every endpoint is chosen: {seen:?}");
        // What is no token of ours is passed over, and a new one is given.
        for forged in ["stay=", "stay=AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "stay=%00", "stay=one"] {
            let (_, headers) = ask(&mut client, "cookie", forged).await;
            assert!(cookie(&headers).is_some_and(|it| it != forged), "{forged}");
        }
        let kept = loop {
            let (first, headers) = ask(&mut client, "cookie", "").await;
            if first == "two" {
                break cookie(&headers).unwrap();
            }
        };
        let gone = Change::WorkloadGone("Kubernetes//Pod/shop/two".into());
        scene.plane.publish(&[gone].into_iter().collect());
        let (other, headers) = ask(&mut client, "cookie", &kept).await;
        assert!(other != "two" && !other.is_empty(), "{other}");
        let (same, _) = ask(&mut client, "cookie", &cookie(&headers).unwrap()).await;
        assert_eq!(same, other);
    });
}

#[test]
fn a_session_ends_with_its_time_and_is_told_again_as_long_as_it_is_used() {
    scene(&world(in_cookie(true, Some(3600), Some(600))), async |scene| {
        let mut client = open(scene).await;
        let (first, headers) = ask(&mut client, "cookie", "").await;
        assert!(headers["set-cookie"].to_str().unwrap().contains("; Max-Age=3600;"), "{headers:?}");
        let mut kept = cookie(&headers).unwrap();
        for _ in 0..20 {
            let (again, headers) = ask(&mut client, "cookie", &kept).await;
            assert_eq!(again, first);
            kept = cookie(&headers).unwrap();
        }
        // From now on a second is long.
        scene.plane.publish(&[shared(in_cookie(false, Some(1), None))].into_iter().collect());
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            seen.insert(ask(&mut client, "cookie", &kept).await.0);
        }
        assert!(seen.len() > 1, "{seen:?}");
    });
}

#[test]
fn clients_that_keep_no_cookies_send_a_header_back() {
    let session = Session { kept: Kept::Header("x-stay".parse().unwrap()), ..in_cookie(false, None, None) };
    scene(&world(session), async |scene| {
        let mut client = open(scene).await;
        let (first, headers) = ask(&mut client, "x-stay", "").await;
        let kept = headers["x-stay"].to_str().unwrap().to_owned();
        for _ in 0..20 {
            let (again, headers) = ask(&mut client, "x-stay", &kept).await;
            assert_eq!((again.as_str(), headers.contains_key("x-stay")), (first.as_str(), false));
        }
    });
}
