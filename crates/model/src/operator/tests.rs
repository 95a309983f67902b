//! Texts with operators, by tables: what they are with a request put in, and what is refused or unknown.

use std::time::Duration;

use super::*;

/// A request with a header that is out for trouble.
struct Asked;

impl Seen for Asked {
    fn known(&self, of: Known) -> Option<Shown<'_>> {
        let text = |it: &'static str| Some(Shown::Text(it.into()));
        match of {
            Known::Protocol => text("HTTP/1.1"),
            Known::Code => Some(Shown::Number(503)),
            Known::Duration => Some(Shown::Number(7)),
            Known::Received | Known::Sent => Some(Shown::Number(0)),
            Known::Flags => text("UF"),
            Known::Endpoint => text("10.0.0.2:8080"),
            Known::Route => text(""),
            Known::CodeDetails
            | Known::Answered
            | Known::Passed
            | Known::Service
            | Known::Attempts
            | Known::Failure
            | Known::Client
            | Known::Server
            | Known::Trace
            | Known::Nothing => None,
        }
    }

    fn request(&self, field: &Field) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match field {
            Field::Method => "GET",
            Field::Path => "/a?b=c",
            Field::Authority => "cart.shop",
            Field::Scheme => "http",
            Field::Header(name) if name == "user-agent" => "curl\n\"x\" \\ \u{1b}[0m",
            Field::Header(name) if name == "x-long" => "aüb",
            Field::Header(name) if name == "x-empty" => "",
            Field::Header(_) => return None,
        }))
    }

    fn response(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        (name == "x-took").then_some(Cow::Borrowed("5"))
    }

    fn address(&self, of: End) -> Option<SocketAddr> {
        (of == End::Remote).then(|| "10.0.0.1:4000".parse().unwrap())
    }

    fn start(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)
    }

    fn grpc(&self) -> Option<u16> {
        Some(5)
    }
}

fn text(text: &str) -> LineFormat {
    LineFormat { of: LineKind::Text(text.parse().unwrap()), omit_empty: false }
}

fn json(fields: &[(&str, &str)], omit_empty: bool) -> LineFormat {
    let fields = fields.iter().map(|(name, text)| ((*name).into(), text.parse().unwrap()));
    LineFormat { of: LineKind::Json(fields.collect()), omit_empty }
}

#[test]
fn operators_are_what_is_known_of_a_request_and_a_dash_where_nothing_is() {
    for (given, wanted) in [
        ("plain", "plain"),
        ("100%% of %PROTOCOL%%%", "100% of HTTP/1.1%"),
        ("%START_TIME% %START_TIME(%s.%3f)%", "1970-01-01T00:00:01.500Z 1.500"),
        ("\"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%\"", "\"GET /a?b=c\""),
        ("%REQ_WITHOUT_QUERY(:path)% %REQ(:AUTHORITY)% %REQ(Host)%", "/a cart.shop cart.shop"),
        ("%REQ(x-none)%|%REQ(x-none?x-long)%|%REQ(x-empty?:SCHEME)%|%REQ(x-empty)%", "-|aüb|http|-"),
        // A character is not cut in two.
        ("%REQ(x-long):1% %REQ(x-long):2% %REQ(x-long):3% %REQ(x-long):99%", "a a aü aüb"),
        ("%RESP(X-Took)% %RESP(x-none?x-took)% %RESP(x-none)%", "5 5 -"),
        ("%RESPONSE_CODE% %DURATION% %BYTES_SENT% %RESPONSE_FLAGS%", "503 7 0 UF"),
        ("%ROUTE_NAME% %TRACE_ID% %REQUESTED_SERVER_NAME%", "- - -"),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1:4000 10.0.0.1"),
        ("%DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_LOCAL_ADDRESS%", "4000 -"),
        ("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", "NotFound NOT_FOUND 5"),
        ("%UPSTREAM_HOST%:%FILTER_STATE(a:b)%!\n", "10.0.0.2:8080:-!"),
    ] {
        assert_eq!(text(given).line(&Asked), wanted, "{given}");
    }
}

#[test]
fn what_clients_choose_ends_neither_a_line_nor_its_quotes() {
    let given = "\"%REQ(USER-AGENT)%\"";
    assert_eq!(text(given).line(&Asked), "\"curl\\x0a\\\"x\\\" \\\\ \\x1b[0m\"");
    let fields = [("a\"b", "%REQ(USER-AGENT)%"), ("c", "<%REQ(USER-AGENT):5%>")];
    assert_eq!(
        json(&fields, false).line(&Asked),
        "{\"a\\\"b\":\"curl\\u000a\\\"x\\\" \\\\ \\u001b[0m\",\"c\":\"<curl\\u000a>\"}"
    );
}

#[test]
fn members_that_are_numbers_are_numbers_and_what_is_not_known_is_null_or_left_out() {
    let fields =
        [("a", "%DURATION%"), ("b", "%DURATION%ms"), ("c", "%TRACE_ID%"), ("d", "x%TRACE_ID%"), ("e", "f")];
    assert_eq!(json(&fields, false).line(&Asked), r#"{"a":7,"b":"7ms","c":null,"d":"x-","e":"f"}"#);
    assert_eq!(json(&fields, true).line(&Asked), r#"{"a":7,"b":"7ms","d":"x","e":"f"}"#);
    assert_eq!(json(&fields[2..3], true).line(&Asked), "{}");
}

#[test]
fn what_is_no_operator_is_refused_with_its_place_and_what_nobody_knows_is_told_by_its_name() {
    let many = "%PROTOCOL%".repeat(65);
    let long = "a".repeat(5_000);
    for (given, at, problem) in [
        ("50% off", 3, "begins no operator"),
        ("a%", 2, "begins no operator"),
        ("%PROTOCOL", 1, "begins no operator"),
        ("%REQ(x%", 1, "begins no operator"),
        ("%REQ(x):many%", 1, "begins no operator"),
        (many.as_str(), 641, "more than 64"),
        (long.as_str(), 4_096, "more than 4096"),
    ] {
        let error = given.parse::<Template>().unwrap_err();
        assert_eq!(error.at, at, "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }
    let given = "%HOSTNAME% %REQ% %REQ(a b)% %PROTOCOL(x)% %START_TIME(%Q)% %GRPC_STATUS(ROMAN)% %RESP(a?b c)% %REQ(:a)%";
    let template: Template = given.parse().unwrap();
    let unknown: Vec<_> = template.unknown().collect();
    assert_eq!(
        unknown,
        [
            "HOSTNAME",
            "REQ",
            "REQ(a b)",
            "PROTOCOL(x)",
            "START_TIME(%Q)",
            "GRPC_STATUS(ROMAN)",
            "RESP(a?b c)",
            "REQ(:a)"
        ]
    );
    assert_eq!(template.to_string(), given);
    assert_eq!(template.plain(), None);
    assert_eq!("100%%".parse::<Template>().unwrap().plain(), Some("100%"));
    assert_eq!("".parse::<Template>().unwrap().plain(), Some(""));
}

#[test]
fn the_lines_that_there_are_without_a_word_read_and_say_which_headers_they_are_made_of() {
    let (text, json) = (LineFormat::usual_text().unwrap(), LineFormat::usual_json().unwrap());
    for format in [&text, &json] {
        assert_eq!(format.unknown().count(), 0);
        let headers: Vec<_> = format.request_headers().map(HeaderName::as_str).collect();
        assert_eq!(headers, ["x-envoy-original-path", "x-forwarded-for", "user-agent", "x-request-id"]);
        let headers: Vec<_> = format.response_headers().map(HeaderName::as_str).collect();
        assert_eq!(headers, ["x-envoy-upstream-service-time"]);
    }
    assert!(
        text.line(&Asked)
            .starts_with("[1970-01-01T00:00:01.500Z] \"GET /a?b=c HTTP/1.1\" 503 UF - - \"-\" 0 0 7 - ")
    );
    assert!(json.line(&Asked).contains("\"response_code\":503,"));
    let template: Template = "%REQ(a?b)% %REQ_WITHOUT_QUERY(c?:PATH)% %RESP(d?e)%".parse().unwrap();
    assert_eq!(template.request_headers().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(template.response_headers().collect::<Vec<_>>(), ["d", "e"]);
    assert_eq!(template.filled(&Asked), " /a ");
}
