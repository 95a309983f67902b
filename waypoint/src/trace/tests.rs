//! Spans of a request, and what collectors are sent of them.

use ambit_model::delta::{Change, Delta};
use ambit_model::provider::{Collector, Provider, ProviderKind, Tag, Traced as Wanted};
use ambit_model::trace::Sampling;
use std::sync::Arc;

use ambit_wire::pb::otlp as pb;
use http::{HeaderName, HeaderValue};

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn collector(name: &str, takes: Takes, mesh: Option<Sampling>) -> Change {
    let tag = Tag::Header { name: HeaderName::from_static("x-user"), default: "nobody".into() };
    let mesh = mesh.map(|sampling| Wanted { sampling, tags: vec![("user".into(), tag)] });
    let at = "otel.shop.svc:4317".parse().unwrap();
    let collector = Collector { at, takes, patience: Duration::from_secs(1), mesh };
    Change::Provider(Arc::new(Provider {
        name: name.into(),
        kind: ProviderKind::Collector(Arc::new(collector)),
    }))
}

fn otlp(name: &str, mesh: Option<Sampling>) -> Change {
    collector(name, Takes::OtlpGrpc { add: vec![] }, mesh)
}

fn zipkin(name: &str, mesh: Option<Sampling>) -> Change {
    collector(name, Takes::Zipkin { path: "/api/v2/spans".into() }, mesh)
}

/// Nobody but the mesh has a say.
fn unsaid() -> TracingSaid<'static> {
    TracingSaid::default()
}

fn world(changes: Vec<Change>) -> Snapshot {
    Snapshot::default().with(&Delta { changes })
}

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[test]
fn without_anybody_who_collects_all_requests_nothing_is_touched() {
    let came = headers(&[("traceparent", PARENT)]);
    assert!(begin(&world(vec![]), &came, unsaid()).is_none());
    assert!(begin(&world(vec![otlp("for-some", None)]), &came, unsaid()).is_none());
}

#[test]
fn an_endpoint_is_told_of_the_attempt_that_it_is_asked_by_and_spans_follow_from_the_clients() {
    let world = world(vec![otlp("otel", Some(Sampling::of(0).unwrap())), zipkin("zip", Some(Sampling::ALL))]);
    let mut sent = headers(&[("traceparent", PARENT), ("tracestate", "a=b"), ("x-user", "bob")]);
    let mut traced = begin(&world, &sent, unsaid()).unwrap();
    let mut told = Vec::new();
    for failed in [Some("broke".to_owned()), None] {
        traced.attempt(&mut sent);
        told.push(sent["traceparent"].to_str().unwrap().to_owned());
        traced.attempted(|| "web".into(), Vec::new, failed);
    }
    assert_eq!(sent["tracestate"], "a=b");
    let (to, spans) = traced.end("web".into(), vec![], None);
    assert_eq!(to.len(), 2);
    let [first, second, own] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(own.parent.unwrap().to_string(), "00f067aa0ba902b7");
    assert_eq!((own.side, first.side), (Side::Server, Side::Client));
    assert_eq!(own.facts, [("user".into(), Fact::Text("bob".into()))]);
    for (attempt, told) in [first, second].into_iter().zip(&told) {
        assert_eq!(attempt.parent, Some(own.id));
        assert_eq!(*told, format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", attempt.id));
    }
    assert_ne!(first.id, second.id);
    assert_eq!((first.failed.as_deref(), second.failed.as_deref()), (Some("broke"), None));
}

#[test]
fn those_that_somebody_names_are_told_of_as_many_as_are_said_and_with_these_tags() {
    let world = world(vec![otlp("of-mesh", Some(Sampling::ALL)), otlp("named", None)]);
    let (names, tags) =
        ([Label::from("named"), Label::from("nobody")], [("a".into(), Tag::Literal("b".into()))]);
    let usual = Wanted { sampling: Sampling::ALL, tags: vec![("mesh".into(), Tag::Literal("m".into()))] };
    let named = TracingSaid { providers: Some(&names), usual: Some(&usual), ..unsaid() };
    let none = Sampling::of(0);
    for (said, wanted) in [
        (unsaid(), Some((vec!["of-mesh"], "nobody"))),
        (TracingSaid { tags: Some(&tags), ..unsaid() }, Some((vec!["of-mesh"], "b"))),
        (named, Some((vec!["named"], "m"))),
        (TracingSaid { tags: Some(&tags), plain: true, ..named }, Some((vec!["named"], "b"))),
        (TracingSaid { sampling: none, ..named }, Some((vec![], ""))),
        (TracingSaid { disabled: true, ..named }, None),
        (TracingSaid { providers: Some(&names[1..]), ..named }, None),
    ] {
        let traced = begin(&world, &headers(&[]), said);
        let found = traced.map(|it| {
            assert_eq!(it.is_plain(), said.plain);
            let (to, mut spans) = it.end("web".into(), vec![], None);
            let tag = spans.pop().and_then(|mut it| it.facts.pop()).map(|(_, value)| value);
            (to, if let Some(Fact::Text(text)) = tag { text } else { String::new() })
        });
        let wanted = wanted.map(|(to, tag)| (to.into_iter().map(Label::from).collect(), tag.to_owned()));
        assert_eq!(found, wanted, "{said:?}");
    }
}

#[test]
fn what_is_not_kept_is_passed_on_as_not_kept_and_leaves_no_spans() {
    let mut sent = headers(&[]);
    let mut traced =
        begin(&world(vec![otlp("otel", Some(Sampling::of(0).unwrap()))]), &sent, unsaid()).unwrap();
    traced.attempt(&mut sent);
    assert!(sent["traceparent"].to_str().unwrap().ends_with("-00"), "{sent:?}");
    assert!(!traced.is_kept());
    // Who asks in the words of B3 is answered in them, and a collector of Zipkin's is told in them of new ones.
    for (came, collector) in [
        (headers(&[("x-b3-sampled", "1")]), otlp("otel", Some(Sampling::of(0).unwrap()))),
        (headers(&[]), zipkin("zip", Some(Sampling::ALL))),
    ] {
        let mut sent = came.clone();
        let mut traced = begin(&world(vec![collector]), &came, unsaid()).unwrap();
        traced.attempt(&mut sent);
        assert!(traced.is_kept());
        assert_eq!((&sent["x-b3-sampled"], sent.get("traceparent")), (&HeaderValue::from_static("1"), None));
    }
}

#[test]
fn a_new_trace_is_told_in_the_words_of_all_who_collect_in_whatever_order_they_are_known() {
    for at in 0..8 {
        let (one, other) =
            (otlp(&format!("o{at}"), Some(Sampling::ALL)), zipkin(&format!("z{at}"), Some(Sampling::ALL)));
        let mut sent = headers(&[]);
        begin(&world(vec![one, other]), &sent, unsaid()).unwrap().attempt(&mut sent);
        assert!(sent.contains_key("traceparent") && sent.contains_key("x-b3-traceid"), "{sent:?}");
    }
}

#[test]
fn an_attempt_that_nobody_waited_for_ends_with_its_request() {
    let mut sent = headers(&[("traceparent", PARENT)]);
    let mut traced = begin(&world(vec![otlp("otel", Some(Sampling::ALL))]), &sent, unsaid()).unwrap();
    traced.attempt(&mut sent);
    let (_, spans) = traced.end("web".into(), vec![], Some("left".into()));
    let failed: Vec<_> = spans.iter().map(|it| it.failed.as_deref()).collect();
    assert_eq!(failed, [Some("given up"), Some("left")]);
}

#[test]
fn both_forms_hold_all_of_a_span() {
    let mut sent = headers(&[("traceparent", PARENT)]);
    let mut traced = begin(&world(vec![otlp("otel", Some(Sampling::ALL))]), &sent, unsaid()).unwrap();
    traced.attempt(&mut sent);
    let facts = vec![
        ("http.method".into(), Fact::Text("GET".into())),
        ("http.status_code".into(), Fact::Number(503)),
    ];
    let (_, spans) = traced.end("web:80/*".into(), facts, Some("no healthy".into()));
    let own = spans.last().unwrap();
    let read = ambit_wire::spans::decode(otlp::message("way.shop", &spans)).unwrap();
    let resource = read.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    let all = &read.resource_spans[0].scope_spans[0].spans;
    let last = all.last().unwrap();
    assert_eq!(last.trace_id.to_vec(), own.trace.bytes());
    assert_eq!(all[0].parent_span_id, last.span_id);
    assert_eq!((all[0].kind(), last.kind()), (pb::SpanKind::Client, pb::SpanKind::Server));
    assert_eq!(
        last.status.as_ref().map(|it| (it.code(), it.message.as_str())),
        Some((pb::StatusCode::Error, "no healthy"))
    );
    assert!(last.end_time_unix_nano >= last.start_time_unix_nano && last.start_time_unix_nano > 0);
    assert!(last.attributes.iter().any(|it| it.key == "http.status_code"));
    let zipkin: serde_json::Value = serde_json::from_slice(&zipkin::message("way.shop", &spans)).unwrap();
    let last = &zipkin[1];
    assert_eq!(last["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((&last["parentId"], &last["kind"]), (&"00f067aa0ba902b7".into(), &"SERVER".into()));
    assert_eq!(
        (&last["tags"]["http.status_code"], &last["tags"]["error"]),
        (&"503".into(), &"no healthy".into())
    );
    assert_eq!(
        (&zipkin[0]["parentId"], &last["localEndpoint"]["serviceName"]),
        (&last["id"], &"way.shop".into())
    );
    assert!(last["duration"].as_u64().unwrap() >= 1);
}
