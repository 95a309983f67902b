//! Tables of the specification, golden cases, and any routes against asking all of them one by one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http_route::{Around, Choice, ClaimMatch, HeaderMatch, More};
use crate::name::Namespace;
use crate::request_policy::Claim;
use crate::sample::{matching, request, route, rule};

/// A route of rules `matches -> service`; matches are parted by `|`.
fn of(key: &str, rules: &[(&str, &str)]) -> Arc<Route> {
    let rule = |(matches, to): &(&str, &str)| {
        let matches = matches.split('|').filter(|it| !it.trim().is_empty()).map(matching).collect();
        rule(matches, &format!("ns/{to}"))
    };
    Arc::new(route(key, "ns/s", rules.iter().map(rule).collect()))
}

fn http(rules: &[(&str, &str)]) -> Table {
    Table::new(RouteKind::Http, [&of("HTTPRoute/ns/r", rules)])
}

/// Whom a request is sent to; 404: to nobody.
fn sent(table: &Table, asked: &str) -> String {
    let request = request(asked);
    match table.choose(&request.asked()) {
        Choice::Found(found) => found.rule.name.as_str().trim_start_matches("ns/").into(),
        Choice::NoMatch(_) => "404".into(),
        Choice::NoRoutes => "default".into(),
    }
}

fn check(table: &Table, cases: &[(&str, &str)]) {
    for (asked, wanted) in cases {
        assert_eq!(sent(table, asked), *wanted, "{asked}");
    }
}

#[test]
fn paths_headers_and_methods_match_as_the_conformance_suite_asks() {
    let table = http(&[("/|version:one", "v1"), ("/v2|version:two", "v2")]);
    check(
        &table,
        &[
            ("/", "v1"),
            ("/example", "v1"),
            ("/ version:one", "v1"),
            ("/v2example", "v1"),
            ("/foo/v2/example", "v1"),
            ("/v2", "v2"),
            ("/v2/example", "v2"),
            ("/v2/", "v2"),
            ("/ version:two", "v2"),
        ],
    );
}

#[test]
fn parameters_match_as_the_conformance_suite_asks() {
    let table = http(&[
        ("?animal=whale", "v1"),
        ("?animal=dolphin", "v2"),
        ("/path1 ?animal=whale", "v1"),
        ("version:one ?animal=whale", "v2"),
        ("/path3 ?animal=shark|/path4 version:three ?animal=kraken", "v1"),
        ("/path5 ?animal=hydra", "v1"),
        ("?animal=hydra", "v2"),
    ]);
    check(
        &table,
        &[
            ("/?animal=whale", "v1"),
            ("/?animal=dolphin", "v2"),
            ("/?animal=dolphin&color=blue", "v2"),
            ("/?color=blue", "404"),
            ("/?animal=dog", "404"),
            ("/?animal=whaledolphin", "404"),
            ("/", "404"),
            ("/path1?animal=whale", "v1"),
            ("/?animal=whale version:one", "v2"),
            ("/path3?animal=shark", "v1"),
            ("/path4?animal=kraken version:three", "v1"),
            ("/?animal=shark", "404"),
            ("/path4?animal=kraken", "404"),
            ("/path5?animal=hydra", "v1"),
        ],
    );
}

#[test]
fn a_path_matches_exactly_by_elements_or_by_a_pattern() {
    for (path, yes, no) in [
        ("=/one", vec!["/one"], vec!["/one/", "/one/x", "/One", "/", "/on"]),
        ("/abc", vec!["/abc", "/abc/", "/abc/def"], vec!["/abcd", "/ABC", "/", "/x/abc"]),
        ("/abc/", vec!["/abc", "/abc/", "/abc/def"], vec!["/abcd", "/"]),
        ("/", vec!["/", "/a", "/a/b"], vec![]),
        ("~/a/[0-9]+", vec!["/a/1", "/a/22"], vec!["/a/", "/a/1/", "/b/a/1"]),
        ("/a/b", vec!["/a/b", "/a/b/c", "/a/./b", "/a/c/../b"], vec!["/a", "/a//b", "/a%2Fb"]),
    ] {
        let table = http(&[(path, "yes")]);
        for asked in yes {
            assert_eq!(sent(&table, asked), "yes", "{path} {asked}");
        }
        for asked in no {
            assert_eq!(sent(&table, asked), "404", "{path} {asked}");
        }
    }
}

#[test]
fn headers_are_compared_whole_joined_and_by_the_first_demand_of_a_name() {
    let table =
        http(&[("x-a:one", "a"), ("x-b:one,two", "b"), ("x-c:~v[0-9] x-c:never", "c"), ("cookie:a;", "d")]);
    check(
        &table,
        &[
            ("/ x-a:one", "a"),
            ("/ X-A:one", "a"),
            ("/ x-a:One", "404"),
            ("/ x-a:one x-a:two", "404"),
            ("/ x-b:one x-b:two", "b"),
            ("/ x-b:one,two", "b"),
            ("/ x-c:v1", "c"),
            ("/ x-c:v12", "404"),
            ("/", "404"),
        ],
    );
}

#[test]
fn parts_of_a_cookie_are_joined_as_cookies_are() {
    let mut one = matching("/");
    let value = ValueMatch::Exact("a=1; b=2".into());
    one.headers.push(HeaderMatch { name: http::header::COOKIE, value });
    let table = Table::new(
        RouteKind::Http,
        [&Arc::new(route("HTTPRoute/ns/r", "ns/s", vec![rule(vec![one], "ns/v1")]))],
    );
    check(&table, &[("/ cookie:a=1 cookie:b=2", "v1"), ("/ cookie:a=1", "404")]);
}

#[test]
fn a_parameter_is_the_first_of_its_name_as_it_came_or_without_escapes() {
    let table = http(&[
        ("?q=a%20b", "raw"),
        ("?q=c/d", "plain"),
        ("?q=e+f", "plus"),
        ("?Q=x", "upper"),
        ("?p=", "empty"),
    ]);
    check(
        &table,
        &[
            ("/?q=a%20b", "raw"),
            ("/?q=c%2Fd", "plain"),
            ("/?q=c/d", "plain"),
            ("/?%71=c/d", "plain"),
            ("/?q=e+f", "plus"),
            ("/?q=e%20f", "404"),
            ("/?q=first&q=c/d", "404"),
            ("/?q=c/d&q=last", "plain"),
            ("/?Q=x", "upper"),
            ("/?q=x", "404"),
            ("/?p", "empty"),
            ("/?p=", "empty"),
            ("/?q=%zz", "404"),
        ],
    );
}

#[test]
fn the_more_special_goes_first_whatever_comes_first() {
    // Each two match the same request; the first of them wins, older or not, first or last in its route.
    for (winner, loser, asked) in [
        ("=/a", "/a", "/a"),
        ("=/a", "/a GET x-a:1 x-b:2 ?c=d", "/a?c=d x-a:1 x-b:2"),
        ("/a/b", "/a GET x-a:1", "/a/b x-a:1"),
        ("/a/b/", "/a", "/a/b"),
        ("/a GET", "/a x-a:1 x-b:2 x-c:3", "/a x-a:1 x-b:2 x-c:3"),
        ("/a x-a:1 x-b:2", "/a x-a:1 ?c=d ?e=f", "/a?c=d&e=f x-a:1 x-b:2"),
        ("/a x-a:1 ?c=d", "/a x-a:1", "/a?c=d x-a:1"),
        ("/a", "~/a.*", "/abc/../a"),
        ("/", "~/aaaaaaaaaaa", "/aaaaaaaaaaa"),
        ("~/a[b-d]", "~/a.", "/ab"),
        ("/a x-a:1 x-b:2", "/a x-a:1 x-a:1 x-a:1", "/a x-a:1 x-b:2"),
        ("grpc:a.B/C", "grpc:a.B/*", "/a.B/C"),
        ("grpc:a.B/*", "grpc:*/C", "/a.B/C"),
        ("grpc:*/C", "grpc:*/*", "/a.B/C"),
        ("grpc:a.B/*", "grpc:~a.*/C", "/a.B/C"),
        ("grpc:a.B/~C.*", "grpc:a.B/* x-a:1", "/a.B/C x-a:1"),
        ("grpc:a.B/C x-a:1", "grpc:a.B/C", "/a.B/C x-a:1"),
    ] {
        let kind = if winner.starts_with("grpc") { RouteKind::Grpc } else { RouteKind::Http };
        let key = |name| format!("{kind}/ns/{name}");
        for rules in [[(winner, "winner"), (loser, "loser")], [(loser, "loser"), (winner, "winner")]] {
            let table = Table::new(kind, [&of(&key("r"), &rules)]);
            assert_eq!(sent(&table, asked), "winner", "{winner} before {loser} in one route");
        }
        let (mut young, old) =
            ((*of(&key("z"), &[(winner, "winner")])).clone(), of(&key("a"), &[(loser, "loser")]));
        young.created_s = 1;
        for routes in [[&Arc::new(young.clone()), &old], [&old, &Arc::new(young)]] {
            assert_eq!(
                sent(&Table::new(kind, routes), asked),
                "winner",
                "{winner} before {loser}, though younger"
            );
        }
    }
}

#[test]
fn of_equals_the_oldest_then_the_first_by_name_then_the_first_in_its_list() {
    let at = |key, created_s, to| {
        let mut route = (*of(key, &[("/a", to)])).clone();
        route.created_s = created_s;
        Arc::new(route)
    };
    for (one, other, wanted) in [
        (at("HTTPRoute/ns/z", 1, "one"), at("HTTPRoute/ns/a", 2, "other"), "one"),
        (at("HTTPRoute/ns/b", 1, "one"), at("HTTPRoute/ns/a", 1, "other"), "other"),
        // By the text `<namespace>/<name>`, in which a slash comes after a hyphen.
        (at("HTTPRoute/a/x", 1, "one"), at("HTTPRoute/a-b/x", 1, "other"), "other"),
    ] {
        for routes in [[&one, &other], [&other, &one]] {
            assert_eq!(sent(&Table::new(RouteKind::Http, routes), "/a"), wanted);
        }
    }
    let first = http(&[("/a|/b", "one"), ("/a", "two"), ("/b", "three")]);
    check(&first, &[("/a", "one"), ("/b", "one")]);
}

#[test]
fn services_and_methods_of_grpc_match_each_by_itself() {
    let table = Table::new(
        RouteKind::Grpc,
        [&of(
            "GRPCRoute/ns/r",
            &[
                ("grpc:a.B/C", "exact"),
                ("grpc:a.B/*", "service"),
                ("grpc:*/Ping", "method"),
                ("grpc:~a\\.X[0-9]/~Get.*", "regex"),
            ],
        )],
    );
    check(
        &table,
        &[
            ("POST /a.B/C", "exact"),
            ("POST /a.B/D", "service"),
            ("POST /a.B/c", "service"),
            ("POST /a.BB/C", "404"),
            ("POST /other/Ping", "method"),
            ("POST /a.X1/GetIt", "regex"),
            ("POST /a.X1/PutIt", "404"),
            ("POST /", "404"),
        ],
    );
    let all = Table::new(RouteKind::Grpc, [&of("GRPCRoute/ns/r", &[("", "all")])]);
    check(&all, &[("POST /a.B/C", "all"), ("/", "all")]);
}

#[test]
fn many_matches_of_one_path_are_told_apart_by_what_they_demand() {
    let texts: Vec<(String, String)> = (0..500)
        .map(|at| match at % 4 {
            0 => (format!("/ x-user:u{at}"), format!("h{at}")),
            1 => (format!("/ ?user=u{at} x-fixed:yes"), format!("q{at}")),
            2 => (format!("/ x-user:u{at} x-fixed:no"), format!("b{at}")),
            _ => (format!("/p{at}"), format!("p{at}")),
        })
        .collect();
    let mut rules: Vec<(&str, &str)> = texts.iter().map(|(m, to)| (m.as_str(), to.as_str())).collect();
    rules.push(("x-user:~u.*", "regex"));
    let table = http(&rules);
    check(
        &table,
        &[
            ("/ x-user:u400", "h400"),
            ("/ x-user:u402", "regex"),
            ("/ x-user:u402 x-fixed:no", "b402"),
            ("/?user=u401 x-fixed:yes", "q401"),
            ("/?user=%75401 x-fixed:yes", "q401"),
            ("/?user=u401", "404"),
            ("/p403/x", "p403"),
            ("/ x-user:nobody", "404"),
        ],
    );
}

fn virtual_service(name: &str, created_s: u64, rules: &[(&str, &str)]) -> Arc<Route> {
    let mut route = (*of(&format!("VirtualService/ns/{name}"), rules)).clone();
    route.created_s = created_s;
    Arc::new(route)
}

#[test]
fn rules_of_virtual_services_come_in_the_order_in_which_they_are_written_the_oldest_first() {
    let newer = virtual_service("newer", 2, &[("^/foo", "never"), ("=/new", "new")]);
    let rules = [("^/foo", "begin"), ("=/foo/exact", "hidden"), ("GET", "get"), ("=/bar x-a:1", "put")];
    let table = Table::new(RouteKind::VirtualService, [&newer, &virtual_service("older", 1, &rules)]);
    check(
        &table,
        &[
            ("/foo", "begin"),
            ("/foobar", "begin"),
            ("/foo/exact", "begin"),
            ("/FOO", "get"),
            ("PUT /bar x-a:1", "put"),
            ("PUT /bar", "404"),
            ("PUT /new", "new"),
            ("PUT /newer", "404"),
        ],
    );
}

#[test]
fn what_only_virtual_services_demand_is_looked_at() {
    let token = crate::request_policy::Token {
        issuer: "i".into(),
        subject: "s".into(),
        claims: [("group".into(), Claim::List(vec![Claim::Text("a".into()), Claim::Text("b".into())]))]
            .into(),
    };
    let (http, shop): (_, Namespace) = (ValueMatch::Exact("http".into()), "shop".parse().unwrap());
    let claim = |value| ClaimMatch { path: vec!["group".into()], value };
    let header = |value| HeaderMatch { name: http::HeaderName::from_static("x-a"), value };
    let (b, c) = (ValueMatch::Exact("b".into()), ValueMatch::Exact("c".into()));
    let base = More::default;
    for (more, wanted) in [
        (base(), true),
        (More { method: Some(ValueMatch::Prefix("GE".into())), ..base() }, true),
        (More { method: Some(ValueMatch::Exact("PUT".into())), ..base() }, false),
        (More { scheme: Some(http.clone()), ..base() }, true),
        (More { scheme: Some(ValueMatch::Exact("https".into())), ..base() }, false),
        (More { authority: Some(ValueMatch::Exact("web:80".into())), ..base() }, true),
        (More { authority: Some(ValueMatch::Exact("web".into())), ..base() }, false),
        (More { port: Some(80), ..base() }, true),
        (More { port: Some(81), ..base() }, false),
        (More { from: Some(shop.clone()), ..base() }, true),
        (More { from: Some("next".parse().unwrap()), ..base() }, false),
        (More { without_headers: vec![header(ValueMatch::Present)], ..base() }, false),
        (More { without_headers: vec![header(ValueMatch::Exact("2".into()))], ..base() }, true),
        (More { claims: vec![claim(b.clone())], ..base() }, true),
        (More { claims: vec![claim(b.clone()), claim(c.clone())], ..base() }, false),
        (More { claims: vec![claim(ValueMatch::Present)], ..base() }, true),
        (More { without_claims: vec![claim(c)], ..base() }, true),
        (More { without_claims: vec![claim(b)], ..base() }, false),
    ] {
        let mut route = (*of("VirtualService/ns/r", &[("/", "yes")])).clone();
        let mut rule = (*route.rules[0]).clone();
        rule.matches[0].more = Some(Box::new(more.clone()));
        route.rules = vec![Arc::new(rule)];
        let table = Table::new(RouteKind::VirtualService, [&Arc::new(route)]);
        let request = request("/ x-a:1");
        let around = Around {
            scheme: "http",
            authority: "web:80",
            port: 80,
            from: Some(&shop),
            source: None,
            token: Some(&token),
        };
        let asked = Asked { around, ..request.asked() };
        assert_eq!(table.find(&asked).is_some(), wanted, "{more:?}");
        let stranger = Asked { around: Around { from: None, token: None, ..around }, ..asked };
        let needs = more.from.is_some() || !more.claims.is_empty();
        assert_eq!(
            table.find(&stranger).is_some(),
            (wanted || !more.without_claims.is_empty()) && !needs,
            "{more:?}"
        );
    }
}

fn a_match() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        "=(/[ab]){1,3}",
        "(/[ab]){1,3}",
        "\\^/[ab]?(/[ab])?/?",
        Just("/".into()),
        "~/[ab](/[ab]|\\.\\*)",
        Just("grpc:a/b".into()),
        Just("grpc:*/b".into()),
        Just("grpc:a/*".into()),
        Just("grpc:~[ab]/*".into()),
    ];
    let more =
        vec(prop_oneof!["x-[ab]:[12]", "\\?[pq]=[12]", Just("GET".into()), Just("x-a:~[12]".into())], 0..3);
    (path, more).prop_map(|(path, more)| format!("{path} {}", more.join(" ")))
}

fn routes() -> impl Strategy<Value = Vec<Arc<Route>>> {
    let rule = (vec(a_match(), 0..3), "[a-z]{3}").prop_map(|(matches, to)| (matches.join("|"), to));
    let route = (vec(rule, 1..4), 0..3u64);
    vec(route, 0..30).prop_map(|routes| {
        let named = routes.into_iter().enumerate().map(|(at, (rules, created_s))| {
            let rules: Vec<(&str, &str)> = rules.iter().map(|(m, to)| (m.as_str(), to.as_str())).collect();
            let mut route = (*of(&format!("HTTPRoute/ns/r{at}"), &rules)).clone();
            route.created_s = created_s;
            Arc::new(route)
        });
        named.collect()
    })
}

fn asked() -> impl Strategy<Value = String> {
    let target =
        ("(/[ab]){1,3}/?", vec("[pq]=[12]", 0..3)).prop_map(|(path, q)| format!("{path}?{}", q.join("&")));
    (prop_oneof![Just("GET"), Just("PUT")], target, vec("x-[ab]:[12]", 0..3)).prop_map(
        |(method, target, headers)| format!("{method} {target} {}", headers.join(" ")).trim().to_owned(),
    )
}

/// Whether a request is of a match, found without any index.
fn plainly(found: &Found<'_>, asked: &Asked<'_>) -> bool {
    let Some(one) = found.matched else { return true };
    let path = asked.path.as_str();
    let of_path = match &one.path {
        PathMatch::Exact(exact) => path == &**exact,
        PathMatch::Prefix(prefix) => {
            let elements = |text: &str| -> Vec<String> {
                text.trim_end_matches('/').split('/').map(str::to_owned).collect()
            };
            elements(path).starts_with(&elements(prefix))
        }
        PathMatch::Begins { text, any_case } => {
            !any_case && path.starts_with(&**text)
                || *any_case && path.to_ascii_lowercase().starts_with(&text.to_ascii_lowercase())
        }
        PathMatch::Regex(pattern) => pattern.is_match(path.as_bytes()),
        PathMatch::Grpc { service, method } => {
            let parts: Vec<&str> = path.splitn(3, '/').collect();
            let is = |of: &Option<ValueMatch>, at: usize| {
                of.as_ref()
                    .is_none_or(|of| parts.get(at).is_some_and(|part| value_is_of(of, part.as_bytes())))
            };
            is(service, 1) && is(method, 2)
        }
    };
    of_path && asked.is_of(one)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_is_the_first_of_all_that_match(routes in routes(), requests in vec(asked(), 1..10)) {
        let table = Table::new(RouteKind::Http, &routes);
        for text in requests {
            let request = request(&text);
            let asked = request.asked();
            let wanted = table.all().find(|found| plainly(found, &asked));
            let found = table.find(&asked);
            let place = |found: Option<Found<'_>>| found.map(|it| (it.route.key.clone(), Arc::as_ptr(it.rule)));
            prop_assert_eq!(place(found), place(wanted), "{}", text);
            // What is told of those before it agrees with that.
            let before = table.all().position(|it| plainly(&it, &asked)).unwrap_or(table.len());
            prop_assert_eq!(table.passed_over(&asked).count(), before, "{}", text);
        }
    }

    #[test]
    fn the_order_in_which_routes_come_never_matters(routes in routes(), seed: u64, requests in vec(asked(), 1..5)) {
        let mut shuffled = routes.clone();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        let (one, other) = (Table::new(RouteKind::Http, &routes), Table::new(RouteKind::Http, &shuffled));
        let order = |table: &Table| -> Vec<_> { table.all().map(|it| (it.route.key.clone(), it.matched.cloned())).collect() };
        prop_assert_eq!(order(&one), order(&other));
        for text in requests {
            prop_assert_eq!(sent(&one, &text), sent(&other, &text));
        }
    }
}
