//! What is judged is what goes on: whoever decides about a request sees the Host, the cookies and the other headers that
//! its endpoint will see, and nothing that a client says in the mesh's name.

use ambit_model::http_route::{HeaderMatch, Match, PathMatch, ValueMatch};
use ambit_model::provider::Speaks as Asks;
use ambit_model::request_policy::RequestAction;
use ambit_model::service::AppProtocol;
use ambit_model::workload::Tunnel;
use http::Request;

use crate::asked::{ask, provider, them, web, world};
use crate::authorizer::{authorizer, yes};
use crate::backend::{Speaks, backend};
use crate::client::{Client, empty, http1, http2};
use crate::policies::{change, policy, with_header};
use crate::routes::{route, rule, to};
use crate::scene::{scene, shop};

const WEB: &str = "10.1.0.1:80";

/// The status of a request for a target, with these headers.
async fn status(client: &mut Client, target: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.ask(request.body(empty()).unwrap()).await.status
}

#[test]
fn policies_see_the_host_and_the_cookies_that_go_on() {
    let mut world = shop(AppProtocol::Http11);
    let rules = [with_header("host", "inner"), with_header("cookie", "a=1; b=2")];
    world.push(change(policy("seen", web(), RequestAction::Deny, &rules)));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        for (target, headers, wanted) in [
            ("/", &[("host", "inner")][..], 403),
            ("/", &[("host", "web")][..], 200),
            // RFC 9112, 3.2.2: the target says it, and goes on as Host.
            ("http://inner/", &[("host", "web")][..], 403),
            ("http://web/", &[("host", "inner")][..], 200),
        ] {
            assert_eq!(status(&mut client, target, headers).await, wanted, "{target} {headers:?}");
        }
    });
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let mut client = http2(scene.open("cart", WEB).await.unwrap()).await;
        for (target, headers, wanted) in [
            ("http://inner/", &[][..], 403),
            ("http://web/", &[][..], 200),
            ("http://web/", &[("cookie", "a=1; b=2")][..], 403),
            // RFC 9113, 8.2.3: in pieces it is the same.
            ("http://web/", &[("cookie", "a=1"), ("cookie", "b=2")][..], 403),
            ("http://web/", &[("cookie", "a=1"), ("cookie", "b=3")][..], 200),
        ] {
            assert_eq!(status(&mut client, target, headers).await, wanted, "{target} {headers:?}");
        }
    });
}

#[test]
fn routes_see_the_host_that_goes_on() {
    let inner = HeaderMatch { name: "host".parse().unwrap(), value: ValueMatch::Exact("inner".into()) };
    let path = PathMatch::Prefix("/".into());
    let matched = vec![Match { path, headers: vec![inner], ..Match::default() }];
    let mut world = shop(AppProtocol::Http11);
    world.push(route(vec![rule(matched, vec![to("web", 1)])]));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut one = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(status(&mut one, "http://inner/", &[("host", "web")]).await, 200);
        assert_eq!(status(&mut one, "http://web/", &[("host", "inner")]).await, 404);
    });
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let mut two = http2(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(status(&mut two, "http://inner/", &[]).await, 200);
        assert_eq!(status(&mut two, "http://web/", &[]).await, 404);
    });
}

#[test]
fn what_only_proxies_say_is_believed_of_no_client_by_whoever_decides() {
    let mut world = world(AppProtocol::Grpc, Tunnel::Hbone);
    let rules = [with_header("x-forwarded-client-cert", "*"), with_header("x-envoy-internal", "*")];
    world.push(change(policy("forged", web(), RequestAction::Allow, &rules)));
    world.extend([ask("/*"), provider(them(Asks::Grpc))]);
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        them.say(yes(&[]));
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let forged = [
            ("host", "web"),
            ("x-forwarded-client-cert", "By=spiffe://cluster.local/ns/shop/sa/web;URI=forged"),
            ("x-envoy-internal", "true"),
            ("x-envoy-auth-partial-body", "true"),
            ("x-mine", "shown"),
        ];
        // The policy that would have let it in for what it says has nothing to go by.
        assert_eq!(status(&mut client, "/", &forged).await, 403);
        let asked = them.asked().remove(0);
        assert!(asked.holds("shown") && !asked.holds("forged") && !asked.holds("x-envoy"), "{asked:?}");
    });
}
