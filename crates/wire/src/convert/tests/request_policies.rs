//! Policies of requests: arbitrary ones read back as they were written; what is refused, and why.

use ambit_model::name::PolicyKey;
use ambit_model::policy::{AccountMatch, Condition, TextMatch};
use ambit_model::request_policy::{
    AddressOf, Glob, Operation, RequestAction, RequestPolicy, RequestPrincipal, RequestRule, Requirement,
    Source, Target, TextOf, text_match,
};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::super::{ConvertError, request_policy_from_pb, request_policy_to_pb};
use super::arbitrary::{PART, one_of, service_key};
use crate::pb::waypoint as pb;

const TEXT: &str = "[a-z/*.]{0,8}";

fn condition<T: std::fmt::Debug>(
    of: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Condition<T>> {
    (vec(of.clone(), 0..3), vec(of, 0..2)).prop_map(|(any, none)| Condition { any, none })
}

fn texts() -> impl Strategy<Value = Condition<TextMatch>> {
    condition(TEXT.prop_map(|text| text_match(&text)))
}

fn principals() -> impl Strategy<Value = Condition<RequestPrincipal>> {
    condition(TEXT.prop_map(|text| RequestPrincipal::from(&*text)))
}

fn globs() -> impl Strategy<Value = Condition<Glob>> {
    condition(TEXT.prop_map(|text| Glob::from(&*text)))
}

fn accounts() -> impl Strategy<Value = Condition<AccountMatch>> {
    condition((PART, PART).prop_map(|(namespace, account)| AccountMatch {
        namespace: namespace.parse().unwrap(),
        service_account: account.parse().unwrap(),
    }))
}

fn ranges() -> impl Strategy<Value = Condition<IpNet>> {
    let text = ["10.0.0.0/8", "10.1.2.3/32", "fd00::/8", "::1/128"];
    condition(one_of(&text.map(|text| text.parse::<IpNet>().unwrap())))
}

fn source() -> impl Strategy<Value = Source> {
    (texts(), principals(), globs(), accounts(), texts(), ranges(), ranges()).prop_map(
        |(principals, request_principals, namespaces, service_accounts, trust_domains, ip_blocks, remote)| {
            Source {
                principals,
                request_principals,
                namespaces,
                service_accounts,
                trust_domains,
                ip_blocks,
                remote_ip_blocks: remote,
            }
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let path = one_of(&["/a", "/a*", "*", "/a/{*}", "/{**}/b", ""]).prop_map(|text| text.parse().unwrap());
    (texts(), condition(any::<u16>()), texts(), vec(path.clone(), 0..3), vec(path, 0..2)).prop_map(
        |(hosts, ports, methods, any, none)| Operation {
            hosts,
            ports,
            methods,
            paths: Condition { any, none },
        },
    )
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let of = prop_oneof![
        "x-[a-z]{1,4}".prop_map(|name| TextOf::Header(name.parse().unwrap())),
        vec(TEXT.prop_map(Into::into), 0..3).prop_map(TextOf::Claim),
        one_of(&[TextOf::Principal, TextOf::TrustDomain, TextOf::Audiences, TextOf::Presenter, TextOf::Sni]),
    ];
    let address = one_of(&[AddressOf::Source, AddressOf::Remote, AddressOf::Destination]);
    prop_oneof![
        (of, texts()).prop_map(|(of, values)| Requirement::Text { of, values }),
        (address, ranges()).prop_map(|(of, values)| Requirement::Address { of, values }),
        globs().prop_map(Requirement::Namespace),
        accounts().prop_map(Requirement::ServiceAccount),
        principals().prop_map(Requirement::RequestPrincipal),
        condition(any::<u16>()).prop_map(Requirement::Port),
        TEXT.prop_map(|key| Requirement::Unknown(key.into())),
    ]
}

fn policy() -> impl Strategy<Value = RequestPolicy> {
    let target = prop_oneof![
        service_key().prop_map(Target::Service),
        (PART, PART).prop_map(|(namespace, name)| Target::Waypoint {
            namespace: namespace.parse().unwrap(),
            name: name.into()
        }),
        Just(Target::Mesh),
    ];
    let action = prop_oneof![
        one_of(&[RequestAction::Allow, RequestAction::Deny, RequestAction::Audit]),
        option::of("[a-z]{1,5}").prop_map(|name| RequestAction::Custom { provider: name.map(Into::into) }),
    ];
    let rule = (vec(source(), 0..2), vec(operation(), 0..2), vec(requirement(), 0..3))
        .prop_map(|(from, to, when)| RequestRule { from, to, when });
    let key = (PART, PART).prop_map(|(namespace, name)| PolicyKey {
        namespace: namespace.parse().unwrap(),
        name: name.parse().unwrap(),
    });
    (key, vec(target, 0..3), action, vec(rule, 0..3), any::<bool>()).prop_map(
        |(key, targets, action, rules, dry_run)| RequestPolicy { key, targets, action, rules, dry_run },
    )
}

proptest! {
    #[test]
    fn a_policy_of_requests_reads_back_as_it_was_written(noun in policy()) {
        let bytes = request_policy_to_pb(&noun).encode_to_vec();
        let read = request_policy_from_pb(pb::Policy::decode(&*bytes).unwrap());
        prop_assert_eq!(read, Ok(noun));
    }

    #[test]
    fn damaged_policies_of_requests_are_read_or_refused(noun in policy(), at: proptest::sample::Index, with: u8) {
        let mut bytes = request_policy_to_pb(&noun).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = pb::Policy::decode(&*bytes).map(request_policy_from_pb);
    }
}

fn a_policy() -> pb::Policy {
    let values = |text: &str| Some(pb::Values { any: vec![text.into()], none: vec![] });
    let source = pb::PolicySource { principals: values("td/ns/shop/sa/web"), ..Default::default() };
    let operation = pb::PolicyOperation { paths: values("/a/{*}"), ..Default::default() };
    let of = Some(pb::policy_requirement::Of::Header("x-a".into()));
    let requirement = pb::PolicyRequirement { of, values: values("1*") };
    pb::Policy {
        namespace: "shop".into(),
        name: "p".into(),
        targets: vec![pb::PolicyTarget { kind: Some(pb::policy_target::Kind::Waypoint("shop/way".into())) }],
        action: pb::PolicyAction::Deny.into(),
        rules: vec![pb::PolicyRule { from: vec![source], to: vec![operation], when: vec![requirement] }],
        ..Default::default()
    }
}

#[test]
fn a_policy_of_requests_is_refused_with_its_field_and_value() {
    type Change = fn(&mut pb::Policy);
    fn ips(p: &mut pb::Policy) -> &mut Option<pb::Values> {
        &mut p.rules[0].from[0].ip_blocks
    }
    let cases: Vec<(Change, &str)> = vec![
        (|p| p.action = 0, "action is 0, which is unknown here"),
        (|p| p.action = 9, "action is 9, which is unknown here"),
        (|p| p.name.clear(), "name is refused: policy name is empty; give a name"),
        (|p| p.targets = vec![p.targets[0].clone(); 4097], "targets: 4097 is more than 4096"),
        (|p| p.targets[0].kind = None, "targets holds none of the known alternatives"),
        (|p| p.rules[0].when[0].of = None, "when.of holds none of the known alternatives"),
        (
            |p| p.rules[0].when[0].of = Some(pb::policy_requirement::Of::Attribute(0)),
            "when.attribute is 0, which is unknown here",
        ),
        (
            |p| p.rules[0].when[0].of = Some(pb::policy_requirement::Of::Attribute(4)),
            "when.values is \"1*\", wanted a port",
        ),
        (
            |p| *ips(p) = Some(pb::Values { any: vec!["10.0.0.0/33".into()], none: vec![] }),
            "ip_blocks is \"10.0.0.0/33\", wanted a range of addresses",
        ),
        (
            |p| {
                p.rules[0].from[0].service_accounts =
                    Some(pb::Values { any: vec!["web".into()], none: vec![] })
            },
            "service_accounts is \"web\", wanted <namespace>/<service account>",
        ),
        (
            |p| p.rules[0].to[0].paths = Some(pb::Values { any: vec!["/{x}".into()], none: vec![] }),
            "paths is refused: \"/{x}\" is no template: it begins with a slash, {*} and {**} are whole elements, {**} \
             the last of them",
        ),
        (
            |p| p.rules[0].to[0].ports = Some(pb::Ports { any: vec![65_536], none: vec![] }),
            "ports is 65536; a port is at most 65535",
        ),
    ];
    assert!(request_policy_from_pb(a_policy()).is_ok());
    for (change, wanted) in cases {
        let mut policy = a_policy();
        change(&mut policy);
        let found: ConvertError = request_policy_from_pb(policy).unwrap_err();
        assert_eq!(found.in_full(), wanted);
    }
}

#[test]
fn one_address_is_a_range_of_itself() {
    let mut policy = a_policy();
    policy.rules[0].from[0].ip_blocks =
        Some(pb::Values { any: vec!["10.0.0.1".into(), "::1".into()], none: vec![] });
    let read = request_policy_from_pb(policy).unwrap();
    let ranges: Vec<String> = read.rules[0].from[0].ip_blocks.any.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.1/32", "::1/128"]);
}
