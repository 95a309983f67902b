//! Conditions, by tables: what is true of a request, and what is refused and where.

use super::*;

/// A request that failed, of which no status of gRPC is known.
struct Failed;

impl Facts for Failed {
    fn value(&self, of: &Attribute) -> Option<Value<'_>> {
        Some(match of {
            Attribute::ResponseCode => Value::Number(503),
            Attribute::RequestDuration => Value::Time(Duration::from_millis(700)),
            Attribute::Method => Value::Text("GET"),
            Attribute::UrlPath => Value::Text("/shop/cart"),
            Attribute::Header(name) if name == "x-user" => Value::Text("ada"),
            Attribute::Mtls => Value::Bool(true),
            Attribute::Port => Value::Number(80),
            Attribute::GrpcStatus
            | Attribute::ResponseSize
            | Attribute::RequestSize
            | Attribute::BackendLatency
            | Attribute::Path
            | Attribute::Host
            | Attribute::Header(_)
            | Attribute::CodeDetails
            | Attribute::RouteName
            | Attribute::Peer
            | Attribute::Protocol
            | Attribute::Query
            | Attribute::Endpoint => return None,
        })
    }
}

#[test]
fn a_condition_is_true_of_a_request_as_it_says() {
    for (text, wanted) in [
        ("response.code >= 400", true),
        ("response.code>=400&&response.code<500", false),
        ("response.code == 200 || request.duration > duration('500ms')", true),
        ("request.duration < duration(\"0.5s\")", false),
        ("!(response.code == 503)", false),
        ("!connection.mtls", false),
        ("connection.mtls", true),
        ("connection.mtls == true", true),
        ("request.method == 'GET' && request.url_path.startsWith('/shop')", true),
        ("request.url_path.endsWith('cart') && request.url_path.contains('op/ca')", true),
        ("request.headers['x-user'] != 'bob'", true),
        ("request.headers[\"X-User\"] == \"ada\"", true),
        ("has(request.headers['x-user']) && 'x-user' in request.headers", true),
        ("has(response.grpc_status)", false),
        // What is not known is neither; only the other side can decide.
        ("response.grpc_status == 0", false),
        ("!(response.grpc_status == 0)", false),
        ("response.grpc_status == 0 || response.code == 503", true),
        ("response.grpc_status == 0 && response.code == 503", false),
        ("!(response.grpc_status == 0 && response.code == 200)", true),
        ("request.headers['x-none'] == 'a'", false),
        (" ( ( response.code != 200 ) ) ", true),
        ("400 <= response.code", true),
        ("true || response.grpc_status == 1", true),
    ] {
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.is_true(&Failed), wanted, "{text}");
        assert_eq!(filter.to_string(), text);
    }
}

#[test]
fn what_is_no_part_of_it_is_refused_with_the_place_and_a_remedy() {
    for (text, at, told) in [
        ("", 1, "a value is missing"),
        ("response.code", 14, "a comparison is missing"),
        ("response.duration > 1", 1, "\"response.duration\" is not known here"),
        ("response.code >= '400'", 23, "different sorts"),
        ("request.method > 'A'", 21, "only numbers and times"),
        ("request.path.matches('^/a')", 13, "a method"),
        ("response.code == 200 200", 22, "nothing more"),
        ("(response.code == 200", 22, "\")\" is missing"),
        ("request.headers['a b'] == 'c'", 22, "no header's name"),
        ("request.method == 'GET", 19, "does not end"),
        ("request.method == 'G\\'", 19, "escapes"),
        ("request.duration > duration('soon')", 35, "is no time"),
        ("response.code == 99999999999999999999", 18, "no whole number"),
        ("response.code in [400, 500]", 15, "a comparison is missing"),
        ("size(request.path) > 3", 1, "not known"),
        ("has(true)", 9, "has() is about attributes"),
        ("response.code.startsWith('4')", 30, "not a text"),
        ("é == 'a'", 1, "a value is missing"),
        ("response.code == 200 &&", 24, "a value is missing"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert!(error.problem.contains(told) && !error.remedy.is_empty(), "{text}: {error}");
        assert_eq!(error.at, at, "{text}: {error}");
    }
    for many in ["(", "!"] {
        let deep = many.repeat(200);
        assert!(deep.parse::<Filter>().unwrap_err().problem.contains("too many"), "{many}");
    }
    assert!("a".repeat(LONGEST + 1).parse::<Filter>().unwrap_err().problem.contains("more than"));
}

#[test]
fn a_condition_knows_the_headers_that_it_is_about() {
    let filter: Filter =
        "request.headers['x-a'] == 'b' || !(has(request.headers['x-c']) && request.useragent.contains('d'))"
            .parse()
            .unwrap();
    let all: Vec<_> = filter.headers().into_iter().map(HeaderName::as_str).collect();
    assert_eq!(all, ["x-a", "x-c", "user-agent"]);
}
