//! Providers on the wire and back.

use std::time::Duration;

use ambit_model::policy::TextMatch;
use ambit_model::provider::{Authorizer, BodyShown, OverHttp, Speaks, Which};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::convert::{
    ConvertError, ResourceKey, ResourceType, decode, encode, provider_from_pb, provider_to_pb,
};
use crate::pb::discovery::Payload;
use crate::pb::waypoint as pb;

fn which() -> impl Strategy<Value = Which> {
    let name = ("[a-z][a-z-]{0,5}", 0..3u8).prop_map(|(name, kind)| match kind {
        0 => TextMatch::Exact(name.into()),
        1 => TextMatch::Prefix(name.into()),
        _ => TextMatch::Suffix(name.into()),
    });
    prop_oneof![Just(Which::All), vec(name, 0..3).prop_map(Which::These)]
}

/// Any authorizer.
pub(super) fn authorizer() -> impl Strategy<Value = Authorizer> {
    let at = "([a-z]{1,3}/)?[a-z]{1,5}(\\.[a-z]{1,3})?:[1-9][0-9]{0,3}";
    let headers = vec(("x-[a-z]{1,3}", "[ -~&&[^ ]]{0,5}"), 0..2);
    let http = (("(/[a-z]{0,3}){0,2}", headers), which(), which(), which());
    let http = http.prop_map(|((prefix, add), onward, back, back_refused)| {
        let header = |(name, value): (String, String)| (name.parse().unwrap(), value.parse().unwrap());
        let add = add.into_iter().map(header).collect();
        Speaks::Http(Box::new(OverHttp { prefix: prefix.into(), add, onward, back, back_refused }))
    });
    let body = (0..1000usize, any::<bool>(), any::<bool>());
    let body = body.prop_map(|(most, partial, raw)| BodyShown { most, partial, raw });
    let speaks = prop_oneof![Just(Speaks::Grpc), http];
    let said = (0..1_000_000u64, any::<bool>(), 200..600u16, any::<bool>());
    (at, speaks, which(), option::of(body), said).prop_map(|(at, speaks, shown, body, said)| {
        let (patience, fail_open, error_status, reroute) = said;
        let (at, patience) = (at.parse().unwrap(), Duration::from_millis(patience));
        Authorizer { at, speaks, shown, patience, fail_open, error_status, reroute, body }
    })
}

fn names(these: &[&str]) -> Option<pb::HeaderNames> {
    Some(pb::HeaderNames { all: false, these: these.iter().map(ToString::to_string).collect() })
}

fn over_http() -> pb::AskedOverHttp {
    pb::AskedOverHttp {
        prefix: "/check".into(),
        add: vec![pb::Header { name: "x-mesh".into(), value: "a".into() }],
        onward: names(&["x-user"]),
        back: names(&["set-*"]),
        back_refused: Some(pb::HeaderNames { all: true, these: vec![] }),
    }
}

fn written(speaks: pb::authorizer::Speaks) -> pb::Authorizer {
    pb::Authorizer {
        at: "shop/authz.shop.svc:9000".into(),
        speaks: Some(speaks),
        shown: names(&["x-*", "*-id", "cookie"]),
        patience_ms: 1500,
        fail_open: true,
        error_status: 503,
        reroute: true,
        body: Some(pb::BodyShown { most: 1024, partial: true, raw: true }),
    }
}

fn whole(speaks: pb::authorizer::Speaks) -> pb::Provider {
    pb::Provider { name: "them".into(), kind: Some(pb::provider::Kind::Authorizer(written(speaks))) }
}

#[test]
fn everything_in_a_provider_is_read_and_written_back() {
    use pb::authorizer::Speaks;
    for speaks in [Speaks::Grpc(true), Speaks::Http(over_http())] {
        let raw = whole(speaks);
        let read = provider_from_pb(raw.clone()).unwrap();
        assert_eq!(provider_to_pb(&read), raw);
        let change = ambit_model::delta::Change::Provider(read.into());
        let (key, encoded) = encode(&change);
        assert_eq!((key.to_string().as_str(), key.kind()), ("them", ResourceType::Provider));
        let payload = Payload { type_url: ResourceType::Provider.url().into(), value: encoded.unwrap().body };
        let decoded = decode(ResourceType::Provider, "them", Some(payload)).unwrap();
        assert!(matches!(decoded.key, ResourceKey::Provider(_)));
        assert_eq!(decoded.change, change);
    }
}

#[test]
fn a_provider_that_cannot_be_used_as_it_is_written_is_refused_whole() {
    use pb::authorizer::Speaks;
    let refused = |edit: &dyn Fn(&mut pb::Authorizer)| {
        let mut raw = written(Speaks::Http(over_http()));
        edit(&mut raw);
        let kind = Some(pb::provider::Kind::Authorizer(raw));
        match provider_from_pb(pb::Provider { name: "them".into(), kind }).unwrap_err() {
            ConvertError::Value { field, .. }
            | ConvertError::NoAlternative { field }
            | ConvertError::TooMany { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    let http = |edit: &dyn Fn(&mut pb::AskedOverHttp)| {
        let mut raw = over_http();
        edit(&mut raw);
        refused(&|it| it.speaks = Some(Speaks::Http(raw.clone())))
    };
    assert_eq!(refused(&|it| it.at = "authz".into()), "at");
    assert_eq!(refused(&|it| it.speaks = None), "speaks");
    assert_eq!(refused(&|it| it.error_status = 100), "error_status");
    assert_eq!(refused(&|it| it.error_status = 600), "error_status");
    assert_eq!(refused(&|it| it.body.as_mut().unwrap().most = u32::MAX), "body.most");
    assert_eq!(http(&|it| it.prefix = "check".into()), "prefix");
    assert_eq!(http(&|it| it.prefix = "/a?b".into()), "prefix");
    assert_eq!(http(&|it| it.add[0].name = "a b".into()), "add");
    assert_eq!(http(&|it| it.add[0].value = "a\nb".into()), "add");
    assert_eq!(http(&|it| it.onward = names(&["x"; 1000])), "these");
    let nameless = pb::Provider { name: String::new(), ..whole(Speaks::Grpc(true)) };
    assert!(matches!(provider_from_pb(nameless), Err(ConvertError::Value { field: "name", .. })));
    let empty = pb::Provider { name: "them".into(), kind: None };
    assert!(matches!(provider_from_pb(empty), Err(ConvertError::NoAlternative { field: "kind" })));
}

fn collector() -> pb::Collector {
    let add = vec![pb::Header { name: "x-tenant".into(), value: "a".into() }];
    let tag =
        |name: &str, header: &str| pb::Tag { name: name.into(), text: "b".into(), header: header.into() };
    pb::Collector {
        at: "shop/otel.shop.svc:4317".into(),
        takes: Some(pb::collector::Takes::OtlpHttp(pb::OverPath { path: "/v1/traces".into(), add })),
        patience_ms: 500,
        mesh: Some(pb::Traced { sampling: 250, tags: vec![tag("env", ""), tag("user", "x-user")] }),
    }
}

#[test]
fn everything_in_a_collector_is_read_and_written_back() {
    use pb::collector::Takes;
    let add = vec![pb::Header { name: "x-tenant".into(), value: "a".into() }];
    for takes in [
        collector().takes.unwrap(),
        Takes::OtlpGrpc(pb::OverGrpc { add }),
        Takes::Zipkin(pb::OverPath { path: "/api/v2/spans".into(), add: vec![] }),
    ] {
        let raw = pb::Collector { takes: Some(takes), ..collector() };
        let raw = pb::Provider { name: "it".into(), kind: Some(pb::provider::Kind::Collector(raw)) };
        let read = provider_from_pb(raw.clone()).unwrap();
        assert_eq!(provider_to_pb(&read), raw);
        let shown = crate::local::provider(&read).to_string();
        assert!(shown.contains("\"percentOfMesh\":2.5") && !shown.contains("\"a\""), "{shown}");
    }
}

#[test]
fn a_collector_that_cannot_be_used_as_it_is_written_is_refused_whole() {
    let refused = |edit: &dyn Fn(&mut pb::Collector)| {
        let mut raw = collector();
        edit(&mut raw);
        let kind = Some(pb::provider::Kind::Collector(raw));
        match provider_from_pb(pb::Provider { name: "it".into(), kind }).unwrap_err() {
            ConvertError::Value { field, .. } | ConvertError::NoAlternative { field } => field,
            other => panic!("{other}"),
        }
    };
    let over = |path: &str| pb::OverPath { path: path.into(), add: vec![] };
    assert_eq!(refused(&|it| it.at = "otel".into()), "at");
    assert_eq!(refused(&|it| it.takes = None), "takes");
    assert_eq!(refused(&|it| it.takes = Some(pb::collector::Takes::Zipkin(over("x")))), "path");
    assert_eq!(refused(&|it| it.mesh.as_mut().unwrap().sampling = 10_001), "sampling");
    assert_eq!(refused(&|it| it.mesh.as_mut().unwrap().tags[0].name.clear()), "tags");
    assert_eq!(refused(&|it| it.mesh.as_mut().unwrap().tags[1].header = "a b".into()), "tags");
}
