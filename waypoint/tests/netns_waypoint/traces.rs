//! Traces (`waypoint.md` 5.3): which span the endpoint is told of as its parent, what those who collect spans get in
//! both protocols, and that one who does not answer costs requests nothing. What OTLP carries is looked at byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::provider::{Collector, Provider, ProviderKind, Tag, Takes, Traced};
use ambit_model::service::AppProtocol;
use ambit_model::trace::Sampling;
use serde_json::Value;

use crate::authorizer::{Authorizer, Question, Says, authorizer};
use crate::backend::{Speaks, backend};
use crate::client::{empty, http1};
use crate::scene::{PATIENCE, Scene, endpoint_of, scene, service, shop};

const WEB: &str = "10.1.0.1:80";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

pub(crate) fn collector(name: &str, takes: Takes, percent: f64) -> Vec<Change> {
    let (vip, ip) = if name == "otel" { ("10.1.0.8", "127.0.0.3") } else { ("10.1.0.9", "127.0.0.4") };
    let mesh = Traced {
        sampling: Sampling::percent(percent).unwrap(),
        tags: vec![("env".into(), Tag::Literal("test".into()))],
    };
    let at = format!("shop/{name}.shop.svc.cluster.local:80").parse().unwrap();
    let kind = Collector { at, takes, patience: PATIENCE, mesh: Some(mesh) };
    let mut own = service(name, vip, AppProtocol::Http11);
    own.waypoint = None;
    vec![
        Change::Service(Arc::new(own)),
        Change::Workload(Arc::new(endpoint_of(name, name, ip))),
        Change::Provider(Arc::new(Provider {
            name: name.into(),
            kind: ProviderKind::Collector(Arc::new(kind)),
        })),
    ]
}

/// What a collector was told, once there are so many spans.
async fn told(
    collector: &Authorizer,
    count: usize,
    read: impl Fn(&Question) -> Vec<Span>,
) -> (Vec<Span>, Vec<Question>) {
    let until = tokio::time::Instant::now() + PATIENCE;
    let (mut all, mut calls) = (Vec::new(), Vec::new());
    while all.len() < count {
        assert!(tokio::time::Instant::now() < until, "not {count} spans in time: {all:?}");
        let asked = collector.asked();
        all.extend(asked.iter().flat_map(&read));
        calls.extend(asked);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (all, calls)
}

/// A span as a collector sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    is_server: bool,
    failed: bool,
    facts: BTreeMap<String, String>,
}

/// A field of a protobuf message: its bytes, or its number as text.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn number(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = message.split_first().unwrap();
            *message = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut all = Vec::new();
    while !message.is_empty() {
        let key = number(&mut message);
        let value = match key & 7 {
            0 => number(&mut message).to_string().into_bytes(),
            1 => message.split_off(..8).unwrap().to_vec(),
            2 => {
                let length = usize::try_from(number(&mut message)).unwrap();
                message.split_off(..length).unwrap().to_vec()
            }
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, value));
    }
    all
}

pub(crate) fn of(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|(it, _)| *it == number).map(|(_, value)| value).collect()
}

pub(crate) fn first(message: &[u8], number: u64) -> Vec<u8> {
    of(message, number).into_iter().next().unwrap_or_default()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of a call of `TraceService/Export`.
fn otlp(question: &Question) -> Vec<Span> {
    assert_eq!(question.headers["content-type"], "application/grpc");
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert!(question.line.starts_with("POST ") && question.line.ends_with(path), "{}", question.line);
    let resource = first(&question.body[5..], 1);
    let name = first(&first(&resource, 1), 1);
    assert_eq!(
        (text(&first(&name, 1)), text(&first(&first(&name, 2), 1))),
        ("service.name".into(), "way.shop".into())
    );
    let span = |span: Vec<u8>| {
        let value =
            |value: Vec<u8>| if of(&value, 1).is_empty() { first(&value, 3) } else { first(&value, 1) };
        let fact = |fact: Vec<u8>| (text(&first(&fact, 1)), text(&value(first(&fact, 2))));
        assert!(first(&span, 7).len() == 8 && first(&span, 8).len() == 8);
        Span {
            trace: hex(&first(&span, 1)),
            id: hex(&first(&span, 2)),
            parent: hex(&first(&span, 4)),
            name: text(&first(&span, 5)),
            is_server: first(&span, 6) == b"2",
            failed: first(&first(&span, 15), 3) == b"2",
            facts: of(&span, 9).into_iter().map(fact).collect(),
        }
    };
    of(&first(&resource, 2), 2).into_iter().map(span).collect()
}

/// The spans of a request to Zipkin.
fn zipkin(question: &Question) -> Vec<Span> {
    assert_eq!(question.line, "POST /api/v2/spans");
    let all: Value = serde_json::from_slice(&question.body).unwrap();
    let said = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let span = |it: &Value| Span {
        trace: said(&it["traceId"]),
        id: said(&it["id"]),
        parent: said(&it["parentId"]),
        name: said(&it["name"]),
        is_server: it["kind"] == "SERVER",
        failed: it["tags"].get("error").is_some(),
        facts: it["tags"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), said(value)))
            .collect(),
    };
    all.as_array().unwrap().iter().map(span).collect()
}

/// What a header says in an answer that tells of the request's.
pub(crate) fn header<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

async fn ask(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> crate::client::Answer {
    let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
    let request =
        headers.iter().fold(client.request(path), |request, (name, value)| request.header(*name, *value));
    client.ask(request.body(empty()).unwrap()).await
}

#[test]
fn a_trace_leads_from_the_client_through_the_waypoint_to_the_endpoint() {
    let mut world = shop(AppProtocol::Http11);
    let tenant = ("x-tenant".parse().unwrap(), "a".parse().unwrap());
    world.extend(collector("otel", Takes::OtlpGrpc { add: vec![tenant] }, 0.0));
    world.extend(collector("zip", Takes::Zipkin { path: "/api/v2/spans".into() }, 0.0));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let otel = authorizer(scene, Some("otel"), ("127.0.0.3", true)).await;
        let zip = authorizer(scene, Some("zip"), ("127.0.0.4", false)).await;
        otel.say(Says::Message(vec![]));
        zip.say(Says::Http(202, &[], ""));
        let parent = format!("00-{TRACE}-{CLIENT}-01");
        // What nobody wants to be kept is passed on as that; by chance nothing is.
        let answer = ask(scene, "/dropped", &[("traceparent", &parent.replace("-01", "-00"))]).await;
        let (trace, flags) = (format!("00-{TRACE}-"), header(&answer.body, "traceparent").unwrap());
        assert!(flags.starts_with(&trace) && flags.ends_with("-00"), "{}", answer.body);
        assert!(header(&ask(scene, "/chance", &[]).await.body, "traceparent").unwrap().ends_with("-00"));
        let kept = [("traceparent", parent.as_str()), ("tracestate", "a=b")];
        let answer = ask(scene, "/kept?x=y", &kept).await;
        let outgoing = header(&answer.body, "traceparent").unwrap().to_owned();
        assert_eq!(header(&answer.body, "tracestate"), Some("a=b"));
        assert_eq!(ask(scene, "/status/503", &kept).await.status, 503);
        // Who speaks B3 is answered in B3, and nothing else is made up.
        let single = format!("{TRACE}-{CLIENT}-1");
        let answer = ask(scene, "/b3", &[("b3", &single)]).await;
        assert!(header(&answer.body, "b3").unwrap().starts_with(TRACE), "{}", answer.body);
        assert_eq!(header(&answer.body, "traceparent"), None);
        let (all, calls) = told(&otel, 6, otlp).await;
        assert_eq!(calls[0].headers["x-tenant"], "a");
        let (same, _) = told(&zip, 6, zipkin).await;
        let of = |path: &str, all: &[Span]| -> (Span, Span) {
            let is_it = |it: &&Span| it.facts.get("url.path").is_some_and(|found| found == path);
            let server = all.iter().find(is_it).unwrap_or_else(|| panic!("{path} in {all:?}")).clone();
            let client = all.iter().find(|it| it.parent == server.id).unwrap().clone();
            (server, client)
        };
        for all in [&all, &same] {
            let (server, client) = of("/kept", all);
            assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, CLIENT));
            assert_eq!(
                outgoing,
                format!("00-{TRACE}-{}-01", client.id),
                "the endpoint's parent is the attempt"
            );
            assert_eq!((server.is_server, client.is_server), (true, false));
            assert_eq!(server.name, "web.shop.svc.cluster.local:80/*");
            for (key, wanted) in [
                ("http.url", "http://web/kept?x=y"),
                ("http.method", "GET"),
                ("http.status_code", "200"),
                ("env", "test"),
                ("istio.canonical_service", "way"),
                ("istio.source_canonical_service", "cart"),
                ("istio.destination_workload", "one"),
                ("upstream_cluster", "web.shop.svc.cluster.local"),
            ] {
                assert_eq!(server.facts.get(key).map(String::as_str), Some(wanted), "{key} in {server:?}");
            }
            assert_eq!(client.facts["peer.address"], "127.0.0.2:8080");
            let (server, client) = of("/status/503", all);
            assert!(server.failed && client.failed, "{server:?} {client:?}");
            assert!(!of("/b3", all).0.failed);
            assert!(
                all.iter()
                    .all(|it| it.facts.get("url.path").is_none_or(|it| it != "/dropped" && it != "/chance"))
            );
        }
        scene.logged(&["request complete", "path=\"/kept?x=y\"", TRACE]);
    });
}

#[test]
fn a_collector_that_does_not_answer_costs_requests_nothing() {
    let mut world = shop(AppProtocol::Http11);
    world.extend(collector("otel", Takes::OtlpGrpc { add: vec![] }, 100.0));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        // It hears all and says nothing.
        let otel = authorizer(scene, Some("otel"), ("127.0.0.3", true)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // Each leaves two spans: more than are told while nothing is answered.
        for number in 0..700 {
            assert_eq!(client.get("/").await.status, 200, "{number}");
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let metrics = scene.get(15020, "/metrics").await.unwrap();
            if metrics.contains("ambit_waypoint_spans_total{reason=\"collector_behind\"}") {
                break;
            }
            assert!(tokio::time::Instant::now() < until, "{metrics}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(client.get("/").await.status, 200);
        // They are on their way since before the third was given up.
        let mut calls = otel.asked().len();
        while calls < 2 {
            assert!(tokio::time::Instant::now() < until, "{calls} calls");
            tokio::time::sleep(Duration::from_millis(20)).await;
            calls += otel.asked().len();
        }
        assert_eq!(calls, 2, "no more than two calls wait for an answer");
    });
}
