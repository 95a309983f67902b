//! Origins, questions of browsers, and what answers say.

use super::*;

#[test]
fn origins_are_the_same_by_scheme_host_and_port() {
    for (rule, origin, wanted) in [
        ("https://www.bar.com", "https://www.bar.com", true),
        ("https://www.bar.com", "https://WWW.bar.com", true),
        ("https://www.bar.com", "https://www.bar.com:443", true),
        ("https://www.bar.com:443", "https://www.bar.com", true),
        ("https://www.bar.com", "http://www.bar.com", false),
        ("https://www.bar.com", "https://www.bar.com:8443", false),
        ("https://www.bar.com", "https://www.bar.com/", false),
        ("http://bar.com:8080", "http://bar.com:8080", true),
        ("https://*.bar.com", "https://www.bar.com", true),
        ("https://*.bar.com", "https://xpto.www.bar.com", true),
        ("https://*.bar.com", "https://bar.com", false),
        ("https://*.bar.com", "https://.bar.com", false),
        ("https://*.bar.com", "https://foobar.com", false),
        ("http://[::1]:80", "http://[::1]", true),
        ("https://bar.com", "null", false),
    ] {
        assert_eq!(rule.parse::<OriginMatch>().unwrap().is_match(origin), wanted, "{rule} {origin}");
    }
}

#[test]
fn texts_that_are_no_origin_are_refused() {
    for text in
        ["", "*", "bar.com", "ftp://bar.com", "https://", "https://a.*.com", "https://*.", "https://a b"]
    {
        assert_eq!(text.parse::<OriginMatch>(), Err(OriginError { value: text.into() }), "{text}");
    }
}

#[test]
fn an_origin_reads_back_as_it_was_written() {
    for text in ["https://www.bar.com", "http://*.bar.com:8080", "http://[::1]:8000"] {
        assert_eq!(text.parse::<OriginMatch>().unwrap().to_string(), text);
    }
}

fn cors(origins: &[&str]) -> Cors {
    let origins = match origins {
        ["*"] => Names::Any,
        these => Names::These(these.iter().map(|it| it.parse().unwrap()).collect()),
    };
    Cors {
        origins,
        methods: Names::These(vec![Method::GET, Method::PUT]),
        headers: Names::These(vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")]),
        expose: Names::These(vec![HeaderName::from_static("x-c")]),
        ..Cors::default()
    }
}

fn headers(text: &str) -> HeaderMap {
    let lines = text.split('\n').filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{}: {}", name.as_str().replace("access-control-", "~"), value.to_str().unwrap())
    };
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

const QUESTION: &str = "origin: https://a.b\naccess-control-request-method: PATCH\n\
    access-control-request-headers: x-z, x-y";

#[test]
fn a_browser_that_asks_is_told_what_the_route_allows() {
    let told = |cors: &Cors| shown(&cors.preflight(&Method::OPTIONS, &headers(QUESTION)).unwrap());
    let listed = cors(&["https://a.b"]);
    let wanted = [
        "vary: origin",
        "~allow-headers: x-a, x-b",
        "~allow-methods: GET, PUT",
        "~allow-origin: https://a.b",
        "~expose-headers: x-c",
        "~max-age: 5",
    ];
    assert_eq!(told(&listed), wanted);
    let any = Cors { methods: Names::Any, headers: Names::Any, expose: Names::Any, ..cors(&["*"]) };
    let wanted = [
        "vary: origin",
        "~allow-headers: x-z, x-y",
        "~allow-methods: PATCH",
        "~allow-origin: https://a.b",
        "~expose-headers: *",
        "~max-age: 5",
    ];
    assert_eq!(told(&any), wanted);
    let trusted = Cors { credentials: true, max_age_s: Some(60), ..any };
    let wanted = [
        "vary: origin",
        "~allow-credentials: true",
        "~allow-headers: x-z, x-y",
        "~allow-methods: PATCH",
        "~allow-origin: https://a.b",
        "~max-age: 60",
    ];
    assert_eq!(told(&trusted), wanted, "an asterisk means nothing where there are credentials");
    assert_eq!(told(&cors(&["https://other.b"])), ["vary: origin"], "no leave, and nothing of it is said");
}

#[test]
fn origins_are_also_compared_as_texts_and_unknown_ones_are_left_to_the_backend_where_that_is_said() {
    let begin = ValueMatch::Prefix("https://a.".into());
    let leave = Cors { more_origins: vec![begin], max_age_s: None, ..cors(&["https://other.b"]) };
    let told = shown(&leave.preflight(&Method::OPTIONS, &headers(QUESTION)).unwrap());
    assert!(told.contains(&"~allow-origin: https://a.b".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.starts_with("~max-age")), "{told:?}");
    let passing = Cors { more_origins: Vec::new(), passes_unknown: true, ..leave };
    assert_eq!(passing.preflight(&Method::OPTIONS, &headers(QUESTION)), None);
}

#[test]
fn only_a_question_is_answered_as_one() {
    let cors = cors(&["*"]);
    for (method, text) in [
        (Method::GET, QUESTION),
        (Method::OPTIONS, "origin: https://a.b"),
        (Method::OPTIONS, "access-control-request-method: GET"),
        (Method::OPTIONS, ""),
    ] {
        assert_eq!(cors.preflight(&method, &headers(text)), None, "{method} {text}");
    }
}

#[test]
fn an_answer_says_what_the_route_allows_and_not_what_the_application_does() {
    let origin = HeaderValue::from_static("https://a.b");
    let marked = |cors: &Cors, origin| {
        let mut answer =
            headers("access-control-allow-origin: *\naccess-control-max-age: 9\nx-c: d\nvary: cookie");
        cors.mark(origin, &mut answer);
        shown(&answer)
    };
    let allowed =
        ["vary: cookie", "vary: origin", "x-c: d", "~allow-origin: https://a.b", "~expose-headers: x-c"];
    assert_eq!(marked(&cors(&["https://a.b"]), Some(&origin)), allowed);
    let refused = ["vary: cookie", "vary: origin", "x-c: d"];
    assert_eq!(marked(&cors(&["https://b.c"]), Some(&origin)), refused);
    let nobody = ["vary: cookie", "vary: origin", "x-c: d", "~allow-origin: *", "~max-age: 9"];
    assert_eq!(marked(&cors(&["https://a.b"]), None), nobody);
}
