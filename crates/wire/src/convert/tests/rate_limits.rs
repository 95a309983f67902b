//! Policies of limits on the wire and back, and what of one is refused.

use prost::Message;
use serde_json::Value;

use crate::convert::{
    ConvertError, ResourceKey, ResourceType, decode, encode, rate_limit_from_pb, rate_limit_to_pb,
};
use crate::pb::discovery::Payload;
use crate::pb::waypoint as pb;

fn whole() -> pb::RateLimit {
    use pb::limit_entry::Value;
    let entry = |key: &str, value| pb::LimitEntry { key: key.into(), value: Some(value) };
    let rule = pb::PolicyRule {
        to: vec![pb::PolicyOperation {
            methods: Some(pb::Values { any: vec!["GET".into()], none: Vec::new() }),
            ..pb::PolicyOperation::default()
        }],
        ..pb::PolicyRule::default()
    };
    pb::RateLimit {
        namespace: "shop".into(),
        name: "limits".into(),
        targets: vec![pb::PolicyTarget {
            kind: Some(pb::policy_target::Kind::Service("shop/web.shop.svc".into())),
        }],
        local: vec![pb::LocalLimit {
            rule: Some(rule.clone()),
            key: vec!["source.principal".into(), "request.auth.claims[a][b]".into()],
            requests: 10,
            per_ms: 60_000,
            burst: 20,
        }],
        global: Some(pb::GlobalLimit {
            at: "shop/limits.shop.svc:8081".into(),
            domain: "shop".into(),
            descriptors: vec![pb::LimitDescriptor {
                rule: Some(rule),
                entries: vec![
                    entry("what", Value::Fixed("cart".into())),
                    entry("who", Value::Of("request.headers[x-user]".into())),
                ],
            }],
            hits: 2,
            patience_ms: 20,
            fail_closed: true,
        }),
        tell: true,
        exhausted: true,
        routes: vec![
            pb::RouteTarget { route: "HTTPRoute/shop/cart".into(), rule: "pay".into() },
            pb::RouteTarget { route: "GRPCRoute/shop/cart".into(), rule: String::new() },
        ],
    }
}

#[test]
fn a_policy_of_limits_comes_back_as_it_went() {
    let read = rate_limit_from_pb(whole()).unwrap();
    assert_eq!(rate_limit_to_pb(&read), whole());
    let (key, encoded) = encode(&ambit_model::delta::Change::RateLimit(read.clone().into()));
    assert_eq!(key.kind(), ResourceType::RateLimit);
    let body = encoded.unwrap().body;
    assert_eq!(pb::RateLimit::decode(body.clone()).unwrap(), whole());
    let payload = Payload { type_url: ResourceType::RateLimit.url().into(), value: body };
    let decoded = decode(ResourceType::RateLimit, "shop/limits", Some(payload)).unwrap();
    assert_eq!(decoded.key, ResourceKey::RateLimit("shop/limits".parse().unwrap()));
    let shown = crate::local::rate_limit(&read);
    assert_eq!(shown["local"][0]["key"][1], "request.auth.claims[a][b]");
    assert_eq!(shown["global"]["onFailure"], "Deny");
    assert_eq!((&shown["routes"][0]["rule"], &shown["routes"][1]["rule"]), (&"pay".into(), &Value::Null));
    // Where it is not known, nobody counts, and that is not the same as no limit.
    let mut lost = whole();
    lost.global.as_mut().unwrap().at.clear();
    let read = rate_limit_from_pb(lost.clone()).unwrap();
    assert_eq!((read.global.as_ref().unwrap().at.as_ref(), rate_limit_to_pb(&read)), (None, lost));
    assert_eq!(crate::local::rate_limit(&read)["global"]["at"], "unreadable");
}

#[test]
fn what_is_no_limit_is_refused_by_field() {
    let local = |change: fn(&mut pb::LocalLimit)| {
        let mut raw = whole();
        change(&mut raw.local[0]);
        rate_limit_from_pb(raw).unwrap_err()
    };
    assert!(matches!(local(|it| it.requests = 0), ConvertError::Rate { field: "local", .. }));
    assert!(matches!(local(|it| it.key.push("x".into())), ConvertError::Value { field: "local.key", .. }));
    assert!(matches!(
        local(|it| it.key = vec!["source.ip".into(); 17]),
        ConvertError::TooMany { field: "local.key", .. }
    ));
    let routes = |routes: Vec<pb::RouteTarget>| rate_limit_from_pb(pb::RateLimit { routes, ..whole() });
    let cart = || pb::RouteTarget { route: "HTTPRoute/shop/cart".into(), rule: String::new() };
    let lost = routes(vec![pb::RouteTarget { route: "shop/cart".into(), ..cart() }]);
    assert!(matches!(lost, Err(ConvertError::Name { field: "routes.route", .. })), "{lost:?}");
    let long = routes(vec![pb::RouteTarget { rule: "x".repeat(5000), ..cart() }]);
    assert!(matches!(long, Err(ConvertError::TooLong { field: "routes.rule", .. })), "{long:?}");
    let many = routes(vec![cart(); 17]);
    assert!(matches!(many, Err(ConvertError::TooMany { field: "routes", .. })), "{many:?}");
    let global = |change: fn(&mut pb::GlobalLimit)| {
        let mut raw = whole();
        change(raw.global.as_mut().unwrap());
        rate_limit_from_pb(raw).unwrap_err()
    };
    assert!(matches!(global(|it| it.at = "nowhere".into()), ConvertError::Value { field: "at", .. }));
    assert!(matches!(
        global(|it| it.descriptors[0].entries[0].value = None),
        ConvertError::NoAlternative { field: "entries.value" }
    ));
    assert!(matches!(
        global(|it| it.domain = "x".repeat(257)),
        ConvertError::TooLong { field: "global.domain", .. }
    ));
}
