//! Policies of processors on the wire and back, and what of one is refused.

use prost::Message;

use crate::convert::{
    ConvertError, ResourceKey, ResourceType, decode, encode, ext_proc_from_pb, ext_proc_to_pb,
};
use crate::pb::discovery::Payload;
use crate::pb::waypoint as pb;

fn whole() -> pb::ExtProc {
    let names = |these: &[&str]| {
        Some(pb::HeaderNames { all: false, these: these.iter().map(ToString::to_string).collect() })
    };
    pb::ExtProc {
        namespace: "shop".into(),
        name: "guard".into(),
        targets: vec![pb::PolicyTarget {
            kind: Some(pb::policy_target::Kind::Service("shop/web.shop.svc".into())),
        }],
        rule: Some(pb::PolicyRule {
            to: vec![pb::PolicyOperation {
                methods: Some(pb::Values { any: vec!["GET".into()], none: Vec::new() }),
                ..pb::PolicyOperation::default()
            }],
            ..pb::PolicyRule::default()
        }),
        at: "shop/guard.shop.svc:9002".into(),
        patience_ms: 250,
        fail_open: true,
        modes: Some(pb::ProcModes {
            request_headers: true,
            response_headers: false,
            request_body: pb::proc_modes::Body::Buffered.into(),
            response_body: pb::proc_modes::Body::Streamed.into(),
            request_trailers: true,
            response_trailers: false,
        }),
        may_choose: true,
        body_most: 65_536,
        shown: Some(pb::HeaderNames { all: true, these: Vec::new() }),
        hidden: names(&["cookie"]),
        attributes: vec!["source.principal".into()],
        watches: true,
        changes: Some(pb::ProcChanges {
            routing: true,
            nothing_else: true,
            allow: names(&["x-mine-*"]),
            deny: names(&["*-no"]),
        }),
        routes: vec![pb::RouteTarget { route: "HTTPRoute/shop/cart".into(), rule: "pay".into() }],
    }
}

#[test]
fn a_policy_of_a_processor_is_read_and_written_back_as_it_was() {
    let kind = ResourceType::ExtProc;
    let body = whole().encode_to_vec();
    let payload = Payload { type_url: kind.url().into(), value: body.clone().into() };
    let read = decode(kind, "shop/guard", Some(payload)).unwrap();
    let (key, written) = encode(&read.change);
    assert_eq!(key, ResourceKey::ExtProc("shop/guard".parse().unwrap()));
    assert_eq!(written.unwrap().body, body);
    assert_eq!(ext_proc_to_pb(&ext_proc_from_pb(whole()).unwrap()), whole());
    // Where it is not known, nobody answers.
    let lost = ext_proc_from_pb(pb::ExtProc { at: String::new(), ..whole() }).unwrap();
    assert_eq!((lost.at.as_ref(), ext_proc_to_pb(&lost).at.as_str()), (None, ""));
}

#[test]
fn a_processor_with_which_nobody_waits_for_the_other_is_read_and_shown() {
    let mut raw = whole();
    raw.modes.as_mut().unwrap().request_body = pb::proc_modes::Body::FullDuplexStreamed.into();
    let read = ext_proc_from_pb(raw.clone()).unwrap();
    assert_eq!(ext_proc_to_pb(&read), raw);
    assert_eq!(crate::local::ext_proc(&read)["processingMode"]["requestBody"], "FULL_DUPLEX_STREAMED");
}

#[test]
fn what_cannot_be_read_of_a_policy_of_a_processor_is_refused() {
    let with = |change: fn(&mut pb::ExtProc)| {
        let mut raw = whole();
        change(&mut raw);
        ext_proc_from_pb(raw).unwrap_err()
    };
    assert!(matches!(with(|it| it.name = String::new()), ConvertError::Name { field: "name", .. }));
    assert!(matches!(with(|it| it.at = "nowhere".into()), ConvertError::Value { field: "at", .. }));
    assert!(matches!(with(|it| it.patience_ms = 0), ConvertError::Value { field: "patience_ms", .. }));
    assert!(matches!(with(|it| it.body_most = 5 << 20), ConvertError::TooMany { field: "body_most", .. }));
    assert!(matches!(
        with(|it| it.attributes = vec!["source.mood".into()]),
        ConvertError::Value { field: "attributes", .. }
    ));
    assert!(matches!(
        with(|it| it.attributes = vec!["source.ip".into(); 17]),
        ConvertError::TooMany { field: "attributes", .. }
    ));
    assert!(matches!(
        with(|it| it.modes.as_mut().unwrap().request_body = 9),
        ConvertError::Value { field: "modes.request_body", .. }
    ));
}
