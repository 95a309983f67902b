//! Others who are asked whether requests may come in (`waypoint.md` 4.8): what they are shown, what follows from what
//! they say, and what from what they do not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_kit::Tokens;
use ambit_model::authentication::{Authentication, KeySource, PATIENCE as KEYS_WAIT, Place, TokenRule};
use ambit_model::delta::Change;
use ambit_model::http_route::{
    Backend, Cors, Filters, HeaderMatch, Match, Names, Parent, PathMatch, Route, Rule, TimeLimit, Timeouts,
    Upstream, ValueMatch,
};
use ambit_model::policy::TextMatch;
use ambit_model::provider::{Authorizer, BodyShown, OverHttp, Provider, ProviderKind, Speaks as Asks, Which};
use ambit_model::request_policy::{
    Operation, RequestAction, RequestPolicy, RequestRule, Requirement, Source, Target, TextOf, text_match,
};
use ambit_model::service::AppProtocol;
use ambit_model::workload::{Tunnel, Workload};
use serde_json::json;

use crate::authorizer::{Authorizer as Asked, Says, authorizer, field, header, no, number, yes};
use crate::backend::{Seen, Speaks, backend};
use crate::client::{Answer, Client, empty, full, http1, http2};
use crate::routes;
use crate::scene::{PATIENCE, Scene, endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";

/// The service `web`.
pub(crate) fn web() -> Target {
    Target::Service("shop/web.shop.svc.cluster.local".parse().unwrap())
}

fn policy(name: &str, action: RequestAction, rule: RequestRule) -> Change {
    let key = format!("shop/{name}").parse().unwrap();
    Change::RequestPolicy(Arc::new(RequestPolicy {
        key,
        targets: vec![web()],
        action,
        rules: vec![rule],
        dry_run: false,
    }))
}

fn to_path(path: &str) -> RequestRule {
    let mut operation = Operation::default();
    operation.paths.any.push(path.parse().unwrap());
    RequestRule { to: vec![operation], ..RequestRule::default() }
}

/// Whoever comes to these paths is asked about.
pub(crate) fn ask(path: &str) -> Change {
    policy("ask", RequestAction::Custom { provider: Some("them".into()) }, to_path(path))
}

/// Somebody who is asked, by the name `authz`.
pub(crate) fn them(speaks: Asks) -> Authorizer {
    Authorizer {
        at: "shop/authz.shop.svc.cluster.local:80".parse().unwrap(),
        speaks,
        shown: Which::All,
        // Long enough for two cores that also compile.
        patience: Duration::from_secs(60),
        fail_open: false,
        error_status: 403,
        reroute: false,
        body: None,
    }
}

/// The same, as policies name it.
pub(crate) fn provider(whom: Authorizer) -> Change {
    let kind = ProviderKind::Authorizer(Arc::new(whom));
    Change::Provider(Arc::new(Provider { name: "them".into(), kind }))
}

/// The shop, and who is asked at 127.0.0.5.
pub(crate) fn world(protocol: AppProtocol, tunnel: Tunnel) -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(Change::Service(Arc::new(service("authz", "10.1.0.5", protocol))));
    let endpoint = Workload { tunnel, ..endpoint_of("authz", "authz", "127.0.0.5") };
    world.push(Change::Workload(Arc::new(endpoint)));
    world
}

fn publish(scene: &Scene, changes: impl IntoIterator<Item = Change>) {
    scene.plane.publish(&changes.into_iter().collect());
}

async fn get(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.request(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.ask(request.body(empty()).unwrap()).await
}

#[test]
fn who_is_asked_by_grpc_sees_the_request_and_says_what_becomes_of_it() {
    let mut world = world(AppProtocol::Grpc, Tunnel::Hbone);
    world.extend([ask("/a*"), provider(them(Asks::Grpc))]);
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // Nobody is asked about what no policy is about.
        assert_eq!(client.get("/other").await.status, 200);
        assert!(them.asked().is_empty());
        let removed = [field(5, "authorization"), field(8, "token")].concat();
        them.say(yes(&[
            field(2, header("x-user", "jane")),
            field(2, header("host", "elsewhere")),
            field(6, header("x-by", "them")),
            field(7, [field(1, "as"), field(2, "jane")].concat()),
            removed,
        ]));
        let headers = [("authorization", "secret"), ("x-user", "root"), ("x-more", "1"), ("x-more", "2")];
        let answer = get(&mut client, "/x/../a?token=t&b=c", &headers).await;
        assert_eq!((answer.status, answer.headers["x-by"].to_str().unwrap()), (200, "them"), "{answer:?}");
        let line = answer.body.lines().nth(1).unwrap();
        assert_eq!(line, "GET /a?b=c&as=jane HTTP/1.1");
        let seen = one.last.lock().unwrap().clone();
        assert_eq!((&seen["x-user"], &seen["host"]), (&"jane".parse().unwrap(), &"web".parse().unwrap()));
        assert_eq!(seen.get("authorization"), None);
        is_shown_everything(&them);
        says_no(scene, &one, &them).await;
        // What they change is what policies judge.
        them.say(yes(&[field(2, header("x-user", "jane"))]));
        let of = TextOf::Header("x-user".parse().unwrap());
        let mut requirement = Requirement::Text { of, values: Default::default() };
        if let Requirement::Text { values, .. } = &mut requirement {
            values.any.push(text_match("jane"));
        }
        let rule = RequestRule { when: vec![requirement], ..RequestRule::default() };
        publish(scene, [policy("jane", RequestAction::Deny, rule)]);
        assert_eq!(get(&mut client, "/a", &[]).await.body, "RBAC: access denied");
        assert_eq!(get(&mut client, "/b", &[("x-user", "jane")]).await.status, 403);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        for (outcome, count) in [("allowed", 2), ("denied", 2)] {
            let line =
                format!("ambit_waypoint_ext_authz_total{{provider=\"them\",outcome=\"{outcome}\"}} {count}");
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }
    });
}

fn is_shown_everything(them: &Asked) {
    let asked = them.asked();
    let [question] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(question.headers["content-type"], "application/grpc");
    assert!(question.line.ends_with("/envoy.service.auth.v3.Authorization/Check"), "{}", question.line);
    for (what, part) in [
        ("who asks", field(4, "spiffe://cluster.local/ns/shop/sa/cart")),
        ("who is asked", field(4, "spiffe://cluster.local/ns/shop/sa/way")),
        ("the method", field(2, "GET")),
        // In the one form that policies, routes and endpoints are shown.
        ("the path", field(4, "/a?token=t&b=c")),
        ("the host", field(5, "web")),
        ("the version", field(10, "HTTP/1.1")),
        ("a header", field(3, [field(1, "authorization"), field(2, "secret")].concat())),
        ("headers", field(3, [field(1, "x-more"), field(2, "1,2")].concat())),
    ] {
        assert!(question.holds(&part), "{what}: {question:?}");
    }
}

/// A no, to both kinds of clients.
async fn says_no(scene: &Scene, one: &Seen, them: &Asked) {
    let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
    let before = one.requests.load(Ordering::SeqCst);
    them.say(no(&[field(1, [8, 0x91, 3]), field(2, header("x-why", "late")), field(3, "go home")]));
    let answer = get(&mut client, "/a", &[]).await;
    let why = answer.headers["x-why"].to_str().unwrap();
    assert_eq!((answer.status, answer.body.as_str(), why), (401, "go home", "late"));
    let mut calls = http2(scene.open("cart", WEB).await.unwrap()).await;
    let call = calls.request("/a.B/C").method("POST").header("content-type", "application/grpc");
    let answer = calls.ask(call.body(empty()).unwrap()).await;
    assert_eq!((answer.status, answer.headers["grpc-status"].to_str().unwrap()), (200, "16"));
    assert_eq!(one.requests.load(Ordering::SeqCst), before, "nothing of it reaches the endpoint");
    let line = scene.logged(&["request complete", "response_code=401", "response_flags=\"UAEX\""]);
    for part in ["\"ext_authz_denied\"", "policy=\"shop/ask\"", "ext_authz=\"them: denied\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn without_a_word_a_request_is_refused_unless_it_was_said_to_go_on() {
    let mut world = world(AppProtocol::Grpc, Tunnel::Hbone);
    world.extend([ask("/*"), provider(them(Asks::Grpc))]);
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(client.get("/a").await.status, 403, "nobody is there to be asked");
        let asked = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        let hurried = Authorizer { patience: Duration::from_millis(200), ..them(Asks::Grpc) };
        for (what, says) in [
            ("nothing", Says::Nothing),
            ("a failure", Says::Failed),
            ("no message", Says::Bytes(b"nonsense")),
            ("another message", Says::Message(b"\xff\xff\xff".to_vec())),
            ("a header that is none", yes(&[field(2, header("a b", "c"))])),
            ("a status that is none", no(&[field(1, number(1, 42))])),
        ] {
            asked.say(says.clone());
            let quiet = if matches!(says, Says::Nothing) { hurried.clone() } else { them(Asks::Grpc) };
            publish(scene, [provider(Authorizer { error_status: 503, ..quiet.clone() })]);
            let before = one.requests.load(Ordering::SeqCst);
            assert_eq!(client.get("/a").await.status, 503, "{what}");
            assert_eq!(one.requests.load(Ordering::SeqCst), before, "{what}");
            publish(scene, [provider(Authorizer { fail_open: true, ..quiet })]);
            assert_eq!(client.get("/a").await.status, 200, "{what}");
        }
        scene.logged(&["response_code=503", "UAEX", "ext_authz_error", "ext_authz=\"them: failed\""]);
        scene.logged(&["response_code=200", "ext_authz=\"them: failed_open\""]);
        // Somebody whom nobody knows is asked nothing, whatever was said of him before.
        publish(scene, [Change::ProviderGone("them".into())]);
        assert_eq!(client.get("/a").await.status, 403);
        let elsewhere =
            Authorizer { at: "nobody.shop.svc.cluster.local:80".parse().unwrap(), ..them(Asks::Grpc) };
        publish(scene, [provider(elsewhere)]);
        assert_eq!(client.get("/a").await.status, 403);
        scene.logged(&["ext_authz_error", "no service is known at nobody.shop.svc.cluster.local:80"]);
    });
}

#[test]
fn of_a_body_they_see_what_they_are_to_see_and_the_endpoint_all_of_it() {
    let mut world = world(AppProtocol::Grpc, Tunnel::Hbone);
    world.push(ask("/*"));
    world.push(Change::Service(Arc::new(service("web", "10.1.0.1", AppProtocol::Http2))));
    let showing = |most, partial, raw| {
        let body = Some(BodyShown { most, partial, raw });
        provider(Authorizer { body, ..them(Asks::Grpc) })
    };
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let them = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        them.say(yes(&[]));
        let part = |flag: &str| field(3, [field(1, "x-envoy-auth-partial-body"), field(2, flag)].concat());
        let mut first = http1(scene.open("cart", WEB).await.unwrap()).await;
        let mut second = http2(scene.open("cart", WEB).await.unwrap()).await;
        for client in [&mut first, &mut second] {
            for (shown, sent, status, parts) in [
                (showing(4, true, true), "body and more", 200, vec![field(12, "body"), part("true")]),
                (showing(4, true, false), "body and more", 200, vec![field(11, "body"), part("true")]),
                (showing(4, false, true), "body", 200, vec![field(12, "body"), part("false")]),
                (showing(4, false, true), "", 200, vec![part("false")]),
                (showing(4, false, true), "a body", 413, vec![]),
            ] {
                publish(scene, [shown]);
                let request = client.request("/count").method("POST").body(full(sent)).unwrap();
                let answer = client.ask(request).await;
                assert_eq!(answer.status, status, "{sent}: {answer:?}");
                let asked = them.asked();
                if status != 200 {
                    assert!(asked.is_empty() && answer.body == "Payload Too Large", "{answer:?}");
                    continue;
                }
                assert!(answer.body.starts_with(&format!("{} ", sent.len())), "{sent}: {answer:?}");
                assert_eq!(asked.len(), 1);
                parts.iter().for_each(|it| assert!(asked[0].holds(it), "{sent}: {asked:?}"));
            }
        }
    });
}

#[test]
fn they_see_the_token_that_does_not_go_on_and_may_put_another_in_its_place() {
    let tokens = Tokens::new();
    let mut world = world(AppProtocol::Grpc, Tunnel::Hbone);
    let rule = TokenRule {
        issuer: "me".into(),
        audiences: vec![],
        keys: KeySource::Inline(json!({"keys": [tokens.jwk("k")]}).to_string().into()),
        places: Place::usual(),
        forward: false,
        payload_header: None,
        claim_headers: vec![("x-sub".parse().unwrap(), "sub".into())],
        words: vec![],
        patience: KEYS_WAIT,
    };
    let (key, targets) = ("shop/issuers".parse().unwrap(), vec![web()]);
    world.push(Change::Authentication(Arc::new(Authentication {
        key,
        targets,
        rules: vec![Arc::new(rule)],
    })));
    let mut source = Source::default();
    source.request_principals.any.push("me/jane".into());
    // What a token says is not known yet: whoever comes is asked about.
    let rule = RequestRule { from: vec![source], ..RequestRule::default() };
    world.extend([
        policy("ask", RequestAction::Custom { provider: Some("them".into()) }, rule),
        provider(them(Asks::Grpc)),
    ]);
    let now = ambit_process::clock::now_system().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = |who: &str| tokens.sign_named("k", &json!({"iss": "me", "sub": who, "exp": now + 3600}));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        them.say(yes(&[]));
        let bearer = format!("Bearer {}", token("jane"));
        let headers = [("authorization", bearer.as_str()), ("x-sub", "root")];
        assert_eq!(get(&mut client, "/", &headers).await.status, 200);
        let asked = them.asked();
        assert!(asked[0].holds(&bearer), "{asked:?}");
        assert!(!asked[0].holds("root"), "what only the mesh sets is not what the client says");
        let seen = one.last.lock().unwrap().clone();
        assert_eq!((seen.get("authorization"), &seen["x-sub"]), (None, &"jane".parse().unwrap()));
        // In the query, it is in nobody's records, though they say no.
        them.say(no(&[]));
        let path = format!("/denied?access_token={}&b=c", token("jane"));
        assert_eq!(get(&mut client, &path, &[]).await.status, 403);
        scene.logged(&["request complete", "path=\"/denied?b=c\"", "ext_authz_denied"]);
        // One word for another: what they put there is what is believed.
        let other: &'static str = Box::leak(format!("Bearer {}", token("joe")).into_boxed_str());
        them.say(Says::Message(long_yes("authorization", other)));
        let answer = get(&mut client, "/", &[("authorization", "Bearer opaque")]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(one.last.lock().unwrap()["x-sub"], "joe");
        assert!(!scene.log().contains(&token("jane")));
    });
}

/// A yes with a header that is longer than small lengths.
fn long_yes(name: &str, value: &str) -> Vec<u8> {
    let long = |number: u8, of: &[u8]| {
        let low = u8::try_from(of.len() & 0x7f).unwrap() | 0x80;
        [&[number << 3 | 2, low, u8::try_from(of.len() >> 7).unwrap()], of].concat()
    };
    let pair = [field(1, name), long(2, value.as_bytes())].concat();
    [field(1, []), long(3, &long(2, &long(1, &pair)))].concat()
}

#[test]
fn who_is_asked_by_http_sees_what_was_named_and_tells_what_was_named() {
    let these =
        |names: &[&str]| Which::These(names.iter().map(|it| TextMatch::Exact((*it).into())).collect());
    let how = OverHttp {
        prefix: "/check".into(),
        add: vec![("x-mesh".parse().unwrap(), "shop".parse().unwrap())],
        onward: these(&["x-user"]),
        back: these(&["x-seen"]),
        back_refused: these(&["x-why"]),
    };
    let asks =
        |how: &OverHttp| Authorizer { shown: these(&["cookie"]), ..them(Asks::Http(Box::new(how.clone()))) };
    let mut world = world(AppProtocol::Http11, Tunnel::None);
    world.extend([ask("/*"), provider(asks(&how))]);
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = authorizer(scene, None, ("127.0.0.5", false)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        them.say(Says::Http(200, &[("x-user", "jane"), ("x-seen", "1"), ("x-other", "1")], "ignored"));
        let headers = [("cookie", "a=b"), ("x-user", "root"), ("authorization", "me"), ("x-mesh", "forged")];
        let answer = get(&mut client, "/a?b=c", &headers).await;
        assert_eq!((answer.status, answer.headers["x-seen"].to_str().unwrap()), (200, "1"));
        assert_eq!(answer.headers.get("x-other"), None);
        let seen = one.last.lock().unwrap().clone();
        let users: Vec<_> = seen.get_all("x-user").iter().collect();
        assert_eq!((users, seen.get("x-other")), (vec![&"jane".parse().unwrap()], None));
        let asked = them.asked();
        let [question] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(question.line, "GET /check/a?b=c");
        let mut shown: Vec<_> = question
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        shown.sort();
        let wanted = ["authorization: me", "content-length: 0", "cookie: a=b", "host: web", "x-mesh: shop"];
        assert_eq!(shown, wanted);
        // Only 200 is a yes, and an error of theirs is no word.
        let before = one.requests.load(Ordering::SeqCst);
        let told =
            &[("x-why", "late"), ("x-other", "1"), ("location", "/login"), ("content-type", "text/html")];
        for (status, wanted) in [(403, 403), (302, 302), (201, 201), (500, 403), (503, 403)] {
            them.say(Says::Http(status, told, "<p>"));
            let answer = get(&mut client, "/a", &[]).await;
            assert_eq!(answer.status, wanted, "{status}");
            let is_theirs = status == wanted;
            let said = |name: &str| answer.headers.get(name).map(|it| it.to_str().unwrap());
            assert_eq!(said("x-why"), is_theirs.then_some("late"), "{status}");
            assert_eq!(said("content-type"), is_theirs.then_some("text/html"), "{status}");
            assert_eq!((said("x-other"), answer.body.as_str()), (None, if is_theirs { "<p>" } else { "" }));
        }
        assert_eq!(one.requests.load(Ordering::SeqCst), before);
        // A body, if they are to see one.
        them.asked();
        them.say(Says::Http(200, &[], ""));
        let body = Some(BodyShown { most: 4, partial: true, raw: false });
        publish(scene, [provider(Authorizer { body, ..asks(&how) })]);
        let request = client.request("/count").method("POST").body(full("body and more")).unwrap();
        assert!(client.ask(request).await.body.starts_with("13 "));
        let asked = them.asked();
        assert_eq!(
            (&asked[0].body[..], &asked[0].headers["content-length"]),
            (&b"body"[..], &"4".parse().unwrap())
        );
        assert_eq!(asked[0].headers["x-envoy-auth-partial-body"], "true");
    });
}

/// A route that wants them to be asked, and one that pages of other origins may use, and two that go by a header.
fn routed() -> Vec<Change> {
    let to = |service: &str| Backend {
        to: Ok(Upstream {
            service: format!("shop/{service}.shop.svc.cluster.local").parse().unwrap(),
            port: 80,
            subset: None,
        }),
        weight: 1,
        filters: Ok(Filters::default()),
    };
    let rule = |path: &str, user: Option<&str>, ask: Option<Authorizer>, backend: Backend| {
        let user = user.map(|user| HeaderMatch {
            name: "x-user".parse().unwrap(),
            value: ValueMatch::Exact(user.into()),
        });
        let path = PathMatch::Prefix(path.into());
        Arc::new(Rule {
            name: "".into(),
            matches: vec![Match { path, headers: user.into_iter().collect(), ..Match::default() }],
            filters: Ok(Filters { ask: ask.map(Arc::new), ..Filters::default() }),
            backends: vec![backend],
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
        })
    };
    let mut world = world(AppProtocol::Grpc, Tunnel::Hbone);
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Http11))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))));
    let parents = vec![Parent { service: "shop/web.shop.svc.cluster.local".parse().unwrap(), port: None }];
    world.push(Change::Route(Arc::new(Route {
        key: "HTTPRoute/shop/asked".parse().unwrap(),
        created_s: 1,
        parents,
        rules: vec![
            rule("/asked", None, Some(them(Asks::Grpc)), to("web")),
            rule("/pages", None, None, to("web")),
            rule("/", Some("jane"), None, to("other")),
            rule("/", None, None, to("web")),
        ],
    })));
    if let Some(Change::Route(route)) = world.last_mut() {
        let mut changed = Route::clone(route);
        let mut pages = Rule::clone(&changed.rules[1]);
        let cors = Cors { origins: Names::Any, methods: Names::Any, ..Cors::default() };
        pages.filters = Ok(Filters { cors: Some(Box::new(cors)), ..Filters::default() });
        changed.rules[1] = Arc::new(pages);
        *route = Arc::new(changed);
    }
    world.push(policy("never", RequestAction::Deny, to_path("/asked/never")));
    world
}

#[test]
fn a_route_may_want_it_too_and_goes_by_what_they_change_only_if_that_was_said() {
    let world = routed();
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
        let them_there = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        them_there.say(yes(&[
            field(2, header("x-user", "jane")),
            field(6, header("x-by", "them")),
            field(7, [field(1, "as"), field(2, "jane")].concat()),
        ]));
        let answer = get(&mut client, "/asked/a?b=c", &[]).await;
        assert_eq!((answer.status, answer.headers["x-by"].to_str().unwrap()), (200, "them"));
        assert_eq!(answer.body.lines().nth(1), Some("GET /asked/a?b=c&as=jane HTTP/1.1"));
        assert_eq!(one.last.lock().unwrap()["x-user"], "jane");
        assert!(them_there.asked()[0].holds(field(4, "/asked/a?b=c")));
        // Whom policies keep out is nobody's question, and other rules have none.
        assert_eq!(client.get("/asked/never").await.body, "RBAC: access denied");
        assert_eq!(client.get("/elsewhere").await.status, 200);
        assert!(them_there.asked().is_empty());
        them_there.say(no(&[field(3, "go home")]));
        let before = one.requests.load(Ordering::SeqCst);
        let answer = client.get("/asked/a").await;
        assert_eq!((answer.status, answer.body.as_str()), (403, "go home"));
        assert_eq!(one.requests.load(Ordering::SeqCst), before);
        scene.logged(&["UAEX", "ext_authz=\"HTTPRoute/shop/asked: denied\""]);
        is_not_asked_for_browsers(scene, &mut client, &them_there).await;
        // Of a policy's question the route knows nothing, unless it is to be chosen by what came of it.
        them_there.say(yes(&[field(2, header("x-user", "jane"))]));
        for (reroute, wanted) in [(false, "one at"), (true, "two at")] {
            publish(scene, [ask("/who"), provider(Authorizer { reroute, ..them(Asks::Grpc) })]);
            let answer = client.get("/who").await;
            assert!(answer.body.starts_with(wanted), "{reroute}: {answer:?}");
            assert!(answer.body.contains("x-user: jane"), "{reroute}: {answer:?}");
        }
    });
}

/// A browser is told what pages may ask without anybody being asked; the page's own request is asked about.
async fn is_not_asked_for_browsers(scene: &Scene, client: &mut Client, them_there: &Asked) {
    publish(scene, [ask("/pages"), provider(them(Asks::Grpc))]);
    let headers = [("origin", "https://a"), ("access-control-request-method", "PUT")];
    let mut preflight = client.request("/pages").method("OPTIONS");
    for (name, value) in headers {
        preflight = preflight.header(name, value);
    }
    them_there.asked();
    let answer = client.ask(preflight.body(empty()).unwrap()).await;
    assert_eq!((answer.status, them_there.asked().len()), (204, 0), "{answer:?}");
    assert_eq!(get(client, "/pages", &headers).await.status, 403);
}

#[test]
fn whom_a_route_asks_has_no_longer_than_the_route() {
    let timeouts = Timeouts { request: TimeLimit::After(Duration::from_secs(1)), ..Timeouts::default() };
    let filters = Ok(Filters { ask: Some(Arc::new(them(Asks::Grpc))), ..Filters::default() });
    let mut world = world(AppProtocol::Grpc, Tunnel::Hbone);
    world.push(routes::route(vec![Rule {
        filters,
        timeouts,
        ..routes::rule(routes::prefix("/"), vec![routes::to("web", 1)])
    }]));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them_there = authorizer(scene, Some("authz"), ("127.0.0.5", true)).await;
        them_there.say(Says::Nothing);
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let answer = tokio::time::timeout(PATIENCE, client.get("/a")).await.expect("an end");
        assert_eq!((answer.status, one.requests.load(Ordering::SeqCst)), (504, 0));
        assert_eq!(them_there.asked().len(), 1);
    });
}
