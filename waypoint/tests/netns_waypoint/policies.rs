//! Policies of requests in force (`waypoint.md` 4.3): who is kept out, by what, what is said of it, and from when on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ambit_hbone::pool::OpenError;
use ambit_model::delta::Change;
use ambit_model::policy::Condition;
use ambit_model::request_policy::{
    Operation, RequestAction, RequestPolicy, RequestRule, Requirement, Source, Target, TextOf, text_match,
};
use ambit_model::service::AppProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::backend::{Speaks, backend};
use crate::client::{empty, http1, http2};
use crate::scene::{PATIENCE, scene, shop};

const WEB: &str = "10.1.0.1:80";

fn web() -> Target {
    Target::Service("shop/web.shop.svc.cluster.local".parse().unwrap())
}

pub(crate) fn way() -> Target {
    Target::Waypoint { namespace: "shop".parse().unwrap(), name: "way".into() }
}

pub(crate) fn policy(
    name: &str,
    target: Target,
    action: RequestAction,
    rules: &[RequestRule],
) -> RequestPolicy {
    let key = format!("shop/{name}").parse().unwrap();
    RequestPolicy { key, targets: vec![target], action, rules: rules.to_vec(), dry_run: false }
}

pub(crate) fn change(policy: RequestPolicy) -> Change {
    Change::RequestPolicy(Arc::new(policy))
}

pub(crate) fn any<T>(values: impl IntoIterator<Item = T>) -> Condition<T> {
    Condition { any: values.into_iter().collect(), none: Vec::new() }
}

pub(crate) fn to_path(path: &str) -> RequestRule {
    let paths = any([path.parse().unwrap()]);
    RequestRule { to: vec![Operation { paths, ..Operation::default() }], ..RequestRule::default() }
}

pub(crate) fn from_account(name: &str) -> RequestRule {
    let principals = any([text_match(&format!("cluster.local/ns/shop/sa/{name}"))]);
    RequestRule { from: vec![Source { principals, ..Source::default() }], ..RequestRule::default() }
}

pub(crate) fn with_header(name: &str, value: &str) -> RequestRule {
    let of = TextOf::Header(name.parse().unwrap());
    let when = vec![Requirement::Text { of, values: any([text_match(value)]) }];
    RequestRule { when, ..RequestRule::default() }
}

#[test]
fn a_path_is_denied_in_whatever_form_it_comes_and_records_say_by_which_policy() {
    let mut world = shop(AppProtocol::Http11);
    world.push(change(policy("admin", web(), RequestAction::Deny, &[to_path("/none"), to_path("/admin/*")])));
    scene(&world, async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        for path in ["/admin/x", "/public/../admin/x", "/%61dmin/x?a=b", "/./admin/", "/x\\..\\admin/x"] {
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.body.as_str()), (403, "RBAC: access denied"), "{path}");
            assert_eq!(answer.headers["content-type"], "text/plain");
        }
        assert_eq!(one.requests.load(Ordering::SeqCst), 0, "nothing of it reaches the endpoint");
        for path in ["/", "/administrator", "/admin/../public"] {
            assert_eq!(client.get(path).await.status, 200, "{path}");
        }
        let line = scene.logged(&["request complete", "response_code=403", "path=\"/admin/x\""]);
        for part in [
            "response_code_details=\"rbac_access_denied_matched_policy[shop-admin-policy[1]]\"",
            "response_flags=\"-\"",
            "policy=\"shop/admin\"",
            "source_principal=spiffe://cluster.local/ns/shop/sa/cart",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let counted = metrics.lines().any(|line| {
            line.starts_with("istio_requests_total{")
                && line.contains("response_code=\"403\"")
                && line.ends_with(" 5")
        });
        assert!(counted, "{metrics}");
        // What is known of policies can be seen, and decided by once more.
        let dump = scene.get(15000, "/config_dump").await.unwrap();
        let dump: serde_json::Value = serde_json::from_str(dump.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(dump["requestPolicies"][0]["name"], "admin", "{dump:#}");
        assert_eq!(dump["requestPolicies"][0]["rules"][1]["to"][0]["paths"][0], "/admin/*", "{dump:#}");
        let resources = scene.get(15000, "/resources").await.unwrap();
        let known = ambit_wire::local::read_lines(resources.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(known.changes, world[2..]);
    });
}

#[test]
fn those_whom_nothing_allows_are_kept_out_of_all_that_routes_say_as_well() {
    let mut world = shop(AppProtocol::Http11);
    world.push(change(policy("cart", way(), RequestAction::Allow, &[from_account("cart")])));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut cart = http1(scene.open("cart", WEB).await.unwrap()).await;
        let mut guest = http1(scene.open("guest", WEB).await.unwrap()).await;
        let mut calls = http2(scene.open("guest", WEB).await.unwrap()).await;
        assert_eq!(cart.get("/").await.status, 200);
        assert_eq!(guest.get("/").await.status, 403);
        let call = calls.request("/a.B/C").method("POST").header("content-type", "application/grpc");
        let answer = calls.ask(call.body(empty()).unwrap()).await;
        let said = (answer.status, &answer.headers["grpc-status"], &answer.headers["grpc-message"]);
        assert_eq!(
            (said.0, said.1.as_bytes(), said.2.as_bytes()),
            (200, &b"7"[..], &b"RBAC: access denied"[..])
        );
        scene.logged(&["response_code_details=\"rbac_access_denied_matched_policy[none]\"", "sa/guest"]);
        // Who may not ask is not told that there is nothing to be asked for either.
        scene.plane.publish(&[nowhere()].into_iter().collect());
        assert_eq!((cart.get("/").await.status, guest.get("/").await.status), (404, 403));
    });
}

/// A route of the service `web` that nothing matches.
fn nowhere() -> Change {
    use ambit_model::http_route::{Filters, Match, Parent, PathMatch, Route, Rule, Timeouts};
    let matches = vec![Match { path: PathMatch::Exact("/never".into()), ..Match::default() }];
    let rule = Rule {
        name: "".into(),
        matches,
        filters: Ok(Filters::default()),
        backends: vec![],
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    };
    let service = "shop/web.shop.svc.cluster.local".parse().unwrap();
    Change::Route(Arc::new(Route {
        key: "HTTPRoute/shop/nowhere".parse().unwrap(),
        created_s: 1,
        parents: vec![Parent { service, port: None }],
        rules: vec![Arc::new(rule)],
    }))
}

#[test]
fn a_change_is_in_force_for_the_next_request_on_a_connection_that_is_open() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let gone = |name: &str| Change::RequestPolicyGone(format!("shop/{name}").parse().unwrap());
        let dry = RequestPolicy {
            dry_run: true,
            ..policy("dry", Target::Mesh, RequestAction::Deny, &[to_path("/*")])
        };
        for (step, changes, wanted) in [
            ("an audit", vec![change(policy("note", web(), RequestAction::Audit, &[to_path("/*")]))], 200),
            ("one that is tried out", vec![change(dry)], 200),
            (
                "a deny of all",
                vec![change(policy("a", Target::Mesh, RequestAction::Deny, &[to_path("/*")]))],
                403,
            ),
            (
                "the same of others",
                vec![change(policy("a", web(), RequestAction::Deny, &[from_account("x")]))],
                200,
            ),
            (
                "an allow of others",
                vec![change(policy("b", way(), RequestAction::Allow, &[from_account("x")]))],
                403,
            ),
            (
                "one of this",
                vec![change(policy("c", web(), RequestAction::Allow, &[from_account("cart")]))],
                200,
            ),
            (
                "an allow of nobody",
                vec![gone("c"), change(policy("b", way(), RequestAction::Allow, &[]))],
                403,
            ),
            ("none that allow", vec![gone("b")], 200),
            (
                "somebody to be asked whom nobody knows",
                vec![change(policy("d", web(), RequestAction::Custom { provider: None }, &[to_path("/*")]))],
                403,
            ),
            (
                "somebody to be asked who cannot be",
                vec![change(policy(
                    "d",
                    web(),
                    RequestAction::Custom { provider: Some("them".into()) },
                    &[to_path("/*")],
                ))],
                403,
            ),
            (
                "of something else",
                vec![change(policy(
                    "d",
                    web(),
                    RequestAction::Custom { provider: None },
                    &[to_path("/else")],
                ))],
                200,
            ),
        ] {
            scene.plane.publish(&changes.into_iter().collect());
            assert_eq!(client.get("/").await.status, wanted, "{step}");
        }
        let line = scene.logged(&["request complete", "dry_run"]);
        assert!(line.contains("audited_by=\"shop/note\""), "{line}");
        assert!(line.contains("dry_run=\"denied by rule 0 of policy shop/dry\""), "{line}");
        scene.logged(&["response_flags=\"UAEX\"", "response_code_details=\"ext_authz_error\""]);
    });
}

#[test]
fn headers_hosts_ports_and_addresses_are_those_of_the_very_request() {
    let ports = Operation { ports: any([8080]), ..Operation::default() };
    let hosts = Operation { hosts: any([text_match("web")]), ..Operation::default() };
    let forwarded =
        Source { remote_ip_blocks: any(["203.0.113.0/24".parse().unwrap()]), ..Source::default() };
    let rule = |to: Operation, from: Option<Source>| RequestRule {
        to: vec![to],
        from: from.into_iter().collect(),
        ..RequestRule::default()
    };
    let mut world = shop(AppProtocol::Http11);
    let rules = [
        with_header("x-role", "guest"),
        // What is dialled is the service's port, not the endpoint's.
        rule(ports, None),
        rule(hosts, Some(forwarded)),
    ];
    world.push(change(policy("many", web(), RequestAction::Deny, &rules)));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        for (headers, wanted) in [
            (&[][..], 200),
            (&[("x-role", "guest")][..], 403),
            (&[("x-role", "admin")][..], 200),
            // Of several, each counts: no second one hides the first.
            (&[("x-role", "admin"), ("x-role", "guest")][..], 403),
            (&[("x-role", "guest"), ("x-role", "guest")][..], 403),
            (&[("x-role", "admin"), ("x-role", "owner")][..], 200),
            (&[("x-forwarded-for", "203.0.113.7")][..], 403),
            (&[("x-forwarded-for", "203.0.113.7, 198.51.100.1")][..], 200),
        ] {
            let mut request = client.request("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            assert_eq!(client.ask(request.body(empty()).unwrap()).await.status, wanted, "{headers:?}");
        }
    });
}

#[test]
fn of_what_is_no_http_policies_of_requests_are_read_strictly() {
    for (step, policies, opens) in [
        ("a deny of a path", vec![policy("a", web(), RequestAction::Deny, &[to_path("/admin")])], false),
        ("an allow of a path", vec![policy("a", web(), RequestAction::Allow, &[to_path("/*")])], false),
        (
            "an allow of whom it is",
            vec![policy("a", web(), RequestAction::Allow, &[from_account("cart")])],
            true,
        ),
        ("a deny of others", vec![policy("a", web(), RequestAction::Deny, &[from_account("x")])], true),
    ] {
        let mut world = shop(AppProtocol::Tcp);
        world.extend(policies.into_iter().map(change));
        scene(&world, async |scene| {
            backend(scene, "one", "127.0.0.2", Speaks::Echo).await;
            match scene.open("cart", WEB).await {
                Ok(_) => assert!(opens, "{step}"),
                // As a node's proxy refuses what its policies deny.
                Err(OpenError::Refused { status }) => {
                    assert_eq!((opens, status.as_u16()), (false, 401), "{step}")
                }
                Err(other) => panic!("{step}: {other}"),
            }
        });
    }
}

#[test]
fn a_connection_that_is_only_carried_is_cut_when_a_policy_denies_it() {
    scene(&shop(AppProtocol::Tcp), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Echo).await;
        let mut stream = scene.open("cart", WEB).await.unwrap();
        let mut piece = [0; 4];
        let talk = async {
            stream.write_all(b"ping").await.unwrap();
            stream.read_exact(&mut piece).await.unwrap();
        };
        timeout(PATIENCE, talk).await.expect("an answer");
        let others = change(policy("a", web(), RequestAction::Deny, &[from_account("x")]));
        scene.plane.publish(&[others].into_iter().collect());
        let talk = async {
            stream.write_all(b"pong").await.unwrap();
            stream.read_exact(&mut piece).await.unwrap();
        };
        timeout(PATIENCE, talk).await.expect("an answer");
        assert_eq!(&piece, b"pong", "those whom it is not about go on");
        let all = change(policy("a", web(), RequestAction::Deny, &[from_account("cart")]));
        scene.plane.publish(&[all].into_iter().collect());
        let ended = timeout(PATIENCE, stream.read(&mut piece)).await.expect("an end");
        assert!(ended.is_err(), "cut, not ended: {ended:?}");
        scene.logged(&["connection complete", "denied by rule 0 of policy shop/a"]);
    });
}
