//! Headers that the waypoint adds (`waypoint.md` 1.6): which there are without a word, and that each is as the mesh's
//! configuration says, from the next request on.

use std::time::Duration;

use ambit_model::http_route::{Filters, PathChange, Rewrite, Rule, TimeLimit, Timeouts};
use ambit_model::service::AppProtocol;
use ambit_model::telemetry::{HeaderWords, ProxyHeader, Scope, Server, Telemetry};

use crate::backend::{Speaks, backend};
use crate::client::{Answer, Client, http1};
use crate::routes::{prefix, route, rule, to};
use crate::scene::{scene, shop};
use crate::telemetry::{in_force, said, told};

const WEB: &str = "10.1.0.1:80";

/// What only a waypoint says to endpoints here, of `/api/x`.
const USUAL: [&str; 5] = [
    "x-request-id: ",
    "x-envoy-attempt-count: 1",
    "x-envoy-original-path: /api/x",
    "x-envoy-original-host: web",
    "x-envoy-expected-rq-timeout-ms: 5000",
];
const BESIDE: [&str; 3] = [
    "x-forwarded-host: web",
    "x-forwarded-port: 80",
    "x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/way;URI=spiffe://cluster.local/ns/shop/sa/cart",
];
const TOOK: &str = "x-envoy-upstream-service-time";

fn rewritten() -> Rule {
    let rewrite = Rewrite {
        hostname: Some("inside.example".parse().unwrap()),
        port: None,
        path: Some(PathChange::Prefix("/v1".parse().unwrap())),
    };
    let filters = Filters { rewrite: Some(Box::new(rewrite)), ..Filters::default() };
    let timeouts = Timeouts { request: TimeLimit::After(Duration::from_secs(5)), ..Timeouts::default() };
    Rule { filters: Ok(filters), timeouts, ..rule(prefix("/api"), vec![to("web", 1)]) }
}

/// What an endpoint is told, and what both kinds of answers say.
async fn ask(client: &mut Client) -> (Answer, Answer) {
    let passed = client.get("/api/x").await;
    assert_eq!(passed.status, 200, "{passed:?}");
    let own = client.get("/nowhere").await;
    assert_eq!(own.status, 404, "{own:?}");
    (passed, own)
}

/// Which of these an endpoint was told.
fn among<'a>(all: &[&'a str], answer: &Answer) -> Vec<&'a str> {
    all.iter().copied().filter(|it| answer.body.contains(it)).collect()
}

fn server(answer: &Answer) -> Option<&str> {
    answer.headers.get("server").map(|it| it.to_str().unwrap())
}

#[test]
fn headers_are_added_as_the_meshs_configuration_says() {
    let mut world = shop(AppProtocol::Http11);
    world.push(route(vec![rewritten()]));
    let words = HeaderWords {
        told: vec![ProxyHeader::Host, ProxyHeader::Port, ProxyHeader::Client],
        untold: vec![ProxyHeader::RequestId, ProxyHeader::Attempts, ProxyHeader::Details],
        server: Some(Server::Is("shop".parse().unwrap())),
    };
    let usual = |headers: HeaderWords| Telemetry { headers, ..said("mesh:configuration", Scope::Usual) };
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let (passed, own) = ask(&mut client).await;
        assert_eq!((among(&USUAL, &passed), among(&BESIDE, &passed)), (USUAL.to_vec(), vec![]), "{passed:?}");
        assert!(passed.headers.contains_key(TOOK), "{passed:?}");
        assert_eq!((server(&passed), server(&own)), (None, Some("ambit-waypoint")));

        in_force(scene, vec![told(&usual(words))], &["mesh:configuration"]).await;
        let (passed, own) = ask(&mut client).await;
        assert_eq!(
            (among(&USUAL, &passed), among(&BESIDE, &passed)),
            (vec![], BESIDE.to_vec()),
            "{passed:?}"
        );
        assert!(!passed.headers.contains_key(TOOK), "{passed:?}");
        assert_eq!((server(&passed), server(&own)), (Some("shop"), Some("shop")));

        let untold = HeaderWords { server: Some(Server::Untold), ..HeaderWords::default() };
        in_force(scene, vec![told(&usual(untold))], &["mesh:configuration"]).await;
        // Both texts are of that name: the former one may still be in force.
        let deadline = tokio::time::Instant::now() + crate::scene::PATIENCE;
        while server(&ask(&mut client).await.1).is_some() {
            assert!(tokio::time::Instant::now() < deadline, "a server is named all the same");
        }
        let (passed, own) = ask(&mut client).await;
        assert_eq!(among(&USUAL, &passed), USUAL, "{passed:?}");
        assert_eq!((server(&passed), server(&own)), (None, None));
    });
}
