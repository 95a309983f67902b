//! What is refused, with which reason; and what is read with caution.

use ambit_model::policy::{Action, Match, RangeMatch, TextMatch};
use ambit_model::service::{AppProtocol, Visibility};
use ambit_model::workload::WorkloadKind;
use prost::Message;

use super::super::{
    ConvertError, ResourceType, decode, policy_from_pb, service_from_pb, service_to_pb, workload_from_pb,
};
use crate::pb::discovery::Payload;
use crate::pb::workload::{Address, address};
use crate::pb::{security, workload};

fn a_workload() -> workload::Workload {
    workload::Workload { uid: "u".into(), namespace: "ns".into(), ..Default::default() }
}

fn a_service() -> workload::Service {
    workload::Service { namespace: "ns".into(), hostname: "h".into(), ..Default::default() }
}

fn gateway(
    destination: Option<workload::gateway_address::Destination>,
    port: u32,
) -> workload::GatewayAddress {
    workload::GatewayAddress { destination, hbone_mtls_port: port }
}

#[test]
fn a_workload_is_refused_with_its_field_and_value() {
    type Change = fn(&mut workload::Workload);
    let cases: Vec<(&str, Change, &str)> = vec![
        ("empty namespace", |w| w.namespace.clear(), "namespace is refused: namespace is empty; give a name"),
        (
            "address of 5 bytes",
            |w| w.addresses.push(vec![1; 5].into()),
            "addresses has 5 bytes; an address has 4 or 16",
        ),
        ("unknown tunnel", |w| w.tunnel_protocol = 9, "tunnel_protocol is 9, which is unknown here"),
        (
            "sidecar tunnel",
            |w| w.tunnel_protocol = 2,
            "tunnel_protocol is LEGACY_ISTIO_MTLS, which a node proxy does not speak; use HBONE",
        ),
        ("unknown status", |w| w.status = 2, "status is 2, which is unknown here"),
        ("unknown network mode", |w| w.network_mode = -1, "network_mode is -1, which is unknown here"),
        (
            "gateway without destination",
            |w| w.waypoint = Some(gateway(None, 15008)),
            "waypoint holds none of the known alternatives",
        ),
        (
            "service key without slash",
            |w| drop(w.services.insert("svc".into(), workload::PortList::default())),
            "services is refused: service \"svc\" is not of the form <namespace>/<name>",
        ),
        (
            "target port",
            |w| {
                let port =
                    workload::Port { service_port: 80, target_port: 65536, ..workload::Port::default() };
                w.services.insert("a/b".into(), workload::PortList { ports: vec![port] });
            },
            "services.ports.target_port is 65536; a port is at most 65535",
        ),
        (
            "hand-over port",
            |w| w.application_tunnel = Some(workload::ApplicationTunnel { protocol: 1, port: 70000 }),
            "application_tunnel.port is 70000; a port is at most 65535",
        ),
        (
            "policy key",
            |w| w.authorization_policies.push("nameless".into()),
            "authorization_policies is refused: policy \"nameless\" is not of the form <namespace>/<name>",
        ),
    ];
    for (case, change, reason) in cases {
        let mut raw = a_workload();
        change(&mut raw);
        assert_eq!(workload_from_pb(raw).unwrap_err().in_full(), reason, "{case}");
    }
}

#[test]
fn a_service_is_refused_with_its_field_and_value() {
    type Change = fn(&mut workload::Service);
    let cases: Vec<(&str, Change, &str)> = vec![
        ("no host", |s| s.hostname.clear(), "hostname is refused: hostname is empty; give a name"),
        ("unknown families", |s| s.ip_families = 4, "ip_families is 4, which is unknown here"),
        (
            "unspecified scope",
            |s| {
                let balancing = workload::LoadBalancing { routing_preference: vec![0], ..Default::default() };
                s.load_balancing = Some(balancing);
            },
            "load_balancing.routing_preference is 0, which is unknown here",
        ),
        (
            "weighted waypoint without destination",
            |s| s.weighted_waypoints.push(workload::WeightedWaypoint { destination: None, weight: 1 }),
            "weighted_waypoints.destination holds none of the known alternatives",
        ),
        (
            "prefix length",
            |s| {
                let address = vec![10, 0, 0, 0].into();
                s.addresses.push(workload::NetworkAddress {
                    network: String::new(),
                    address,
                    length: Some(33),
                });
            },
            "addresses is 33, longer than the address (32 bits)",
        ),
        (
            "waypoint at a range",
            |s| {
                let address = vec![10, 0, 0, 0].into();
                let range = workload::NetworkAddress { network: String::new(), address, length: Some(8) };
                s.waypoint =
                    Some(gateway(Some(workload::gateway_address::Destination::Address(range)), 15008));
            },
            "waypoint holds none of the known alternatives",
        ),
    ];
    for (case, change, reason) in cases {
        let mut raw = a_service();
        change(&mut raw);
        assert_eq!(service_from_pb(raw).unwrap_err().in_full(), reason, "{case}");
    }
}

#[test]
fn values_that_only_inform_are_never_a_reason_to_refuse() {
    let read = workload_from_pb(workload::Workload { workload_type: 77, ..a_workload() }).unwrap();
    assert_eq!(read.kind, WorkloadKind::Deployment);
    let port = workload::Port { service_port: 1, target_port: 2, app_protocol: 77, ambit_grpc_web: false };
    let read =
        service_from_pb(workload::Service { visibility: 77, ports: vec![port], ..a_service() }).unwrap();
    assert_eq!(read.visibility, Visibility::Public);
    assert_eq!(read.ports[&1].protocol, AppProtocol::Unknown);
}

#[test]
fn a_port_of_grpc_web_is_one_without_a_protocol_to_whoever_does_not_know_our_word() {
    let port = workload::Port { service_port: 80, ambit_grpc_web: true, ..workload::Port::default() };
    let service = service_from_pb(workload::Service { ports: vec![port], ..a_service() }).unwrap();
    assert_eq!(service.ports[&80].protocol, AppProtocol::GrpcWeb);
    assert_eq!(service_to_pb(&service).ports, [port]);
    assert_eq!(port.app_protocol(), workload::AppProtocol::Unknown);
    // A protocol that is known is not said otherwise.
    let port = workload::Port { app_protocol: workload::AppProtocol::Tcp.into(), ..port };
    let service = service_from_pb(workload::Service { ports: vec![port], ..a_service() }).unwrap();
    assert_eq!(service.ports[&80].protocol, AppProtocol::Tcp);
}

#[test]
fn a_full_prefix_is_one_address_and_a_mapped_one_is_ipv4() {
    let mapped = "::ffff:10.0.0.0".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    for (address, length, vip, range) in [
        (vec![10, 0, 0, 1], Some(32), "/10.0.0.1", ""),
        (vec![10, 0, 0, 1], None, "/10.0.0.1", ""),
        (vec![10, 1, 2, 3], Some(8), "", "/10.0.0.0/8"),
        (mapped.clone(), None, "/10.0.0.0", ""),
        (mapped.clone(), Some(128), "/10.0.0.0", ""),
        (mapped.clone(), Some(104), "", "/10.0.0.0/8"),
        (mapped, Some(64), "", "/::/64"),
    ] {
        let raw =
            workload::NetworkAddress { network: String::new(), address: address.clone().into(), length };
        let read = service_from_pb(workload::Service { addresses: vec![raw], ..a_service() }).unwrap();
        let text = |list: Vec<String>| list.join(",");
        assert_eq!(text(read.vips.iter().map(ToString::to_string).collect()), vip, "{address:?}/{length:?}");
        assert_eq!(
            text(read.ranges.iter().map(ToString::to_string).collect()),
            range,
            "{address:?}/{length:?}"
        );
    }
}

fn a_policy(action: security::Action, one: security::Match) -> security::Authorization {
    security::Authorization {
        name: "p".into(),
        namespace: "n".into(),
        action: action.into(),
        rules: vec![security::Rule { clauses: vec![security::Clause { matches: vec![one] }] }],
        ..Default::default()
    }
}

fn read(action: security::Action, one: security::Match) -> Match {
    let policy = policy_from_pb(a_policy(action, one)).unwrap();
    assert_eq!(policy.action == Action::Deny, action == security::Action::Deny);
    policy.rules[0].clauses[0].matches[0].clone()
}

fn exact(text: &str) -> security::StringMatch {
    security::StringMatch { match_type: Some(security::string_match::MatchType::Exact(text.into())) }
}

#[test]
fn a_comparison_that_is_unknown_never_widens_an_allow_nor_narrows_a_deny() {
    let unknown = security::StringMatch { match_type: None };
    let nothing_allowed_everything_denied = in_doubt();
    let alone = security::Match { principals: vec![unknown.clone()], ..Default::default() };
    for action in [security::Action::Allow, security::Action::Deny] {
        assert_eq!(read(action, alone.clone()), nothing_allowed_everything_denied, "{action:?}");
    }
    let mixed = security::Match {
        principals: vec![exact("a"), unknown.clone()],
        not_namespaces: vec![exact("b"), unknown],
        destination_ports: vec![80],
        ..Default::default()
    };
    assert_eq!(read(security::Action::Allow, mixed.clone()), nothing_allowed_everything_denied);
    let strict = read(security::Action::Deny, mixed);
    assert!(strict.principals.is_empty(), "one of these or something else: no demand");
    assert_eq!(strict.namespaces.none, [TextMatch::Exact("b".into())]);
    assert_eq!(strict.destination_ports.any, [80]);
}

fn in_doubt() -> Match {
    let mut wanted = Match::default();
    wanted.source_ips.any.push(RangeMatch::Unreadable);
    wanted
}

#[test]
fn a_range_that_cannot_be_read_is_kept_as_such() {
    for (address, length) in [(vec![1, 2, 3], 8), (vec![10, 0, 0, 0], 33), (vec![0; 16], 129), (vec![], 0)] {
        let raw = security::Address { address: address.into(), length };
        let one = security::Match { destination_ips: vec![raw], ..Default::default() };
        assert_eq!(read(security::Action::Allow, one).destination_ips.any, [RangeMatch::Unreadable]);
    }
}

#[test]
fn a_policy_is_refused_with_its_field_and_value() {
    let ports = security::Match { not_destination_ports: vec![65536], ..Default::default() };
    let refused = policy_from_pb(a_policy(security::Action::Allow, ports)).unwrap_err();
    assert_eq!(refused, ConvertError::Port { field: "not_destination_ports", value: 65536 });
    let raw = a_policy(security::Action::Allow, security::Match::default());
    let unknown = security::Authorization { scope: 3, ..raw.clone() };
    assert_eq!(policy_from_pb(unknown).unwrap_err(), ConvertError::UnknownValue { field: "scope", value: 3 });
    let unknown = security::Authorization { action: 2, ..raw };
    assert_eq!(
        policy_from_pb(unknown).unwrap_err(),
        ConvertError::UnknownValue { field: "action", value: 2 }
    );
}

#[test]
fn a_resource_of_another_type_name_or_size_is_refused() {
    let url = ResourceType::Address.url();
    let body = |message: Address| Payload { type_url: url.into(), value: message.encode_to_vec().into() };
    let address = |w| Address { r#type: Some(address::Type::Workload(Box::new(w))) };
    let read = |name: &str, payload| decode(ResourceType::Address, name, payload).map(|_| ());
    assert!(matches!(read("u", None), Err(ConvertError::WrongType { .. })));
    assert!(matches!(read("x", Some(body(address(a_workload())))), Err(ConvertError::Misnamed { .. })));
    assert_eq!(read("u", Some(body(address(a_workload())))), Ok(()));
    let empty = Some(body(Address { r#type: None }));
    assert_eq!(read("u", empty), Err(ConvertError::NoAlternative { field: "type" }));
    let huge = Payload { type_url: url.into(), value: vec![0; crate::limits::RESOURCE + 1].into() };
    assert!(matches!(read("u", Some(huge)), Err(ConvertError::TooLarge { .. })));
    let torn = Payload { type_url: url.into(), value: vec![0x0a, 5].into() };
    assert!(matches!(read("u", Some(torn)), Err(ConvertError::Undecodable(_))));
}
