//! The golden encodings of `wire.md` 10 and the resources recorded from upstream.

use std::collections::BTreeMap;

use ambit_model::delta::Change;
use ambit_model::policy::{Action, PolicyScope, RangeMatch, TextMatch};
use prost::Message;

use super::super::{ResourceType, decode, encode};
use crate::pb::auth::IstioCertificateRequest;
use crate::pb::discovery::{DeltaDiscoveryRequest, Node, Payload};
use crate::pb::workload::{Address, address};
use crate::pb::{security, workload};

const WORKLOAD: &str = "0a560a017012026e731a040a00000528016002a201144b756265726e657465732f2f506f642f6e732f70b201260a1b6e732f7376632e6e732e7376632e636c75737465722e6c6f63616c12070a05085010903fda01020802";
const SERVICE: &str = "125a0a0373766312026e731a187376632e6e732e7376632e636c75737465722e6c6f63616c220612040a6000012a07085010903f18013a220a1d0a026e73121777702e6e732e7376632e636c75737465722e6c6f63616c18a0755801";
const POLICY: &str = "0a017012026e73180120012a0d0a0b1209220222004a0350bb03";
const CERTIFICATE: &str = "0a01431880a305223c0a3a0a14496d706572736f6e617465644964656e7469747912221a207370696666653a2f2f636c75737465722e6c6f63616c2f6e732f612f73612f62";
const FIRST: &str = "0a410a3f7a74756e6e656c7e31302e302e302e357e7a742e697374696f2d73797374656d7e697374696f2d73797374656d2e7376632e636c75737465722e6c6f63616c122a747970652e676f6f676c65617069732e636f6d2f697374696f2e776f726b6c6f61642e416464726573731a012a22012a";
const ACK: &str =
    "122a747970652e676f6f676c65617069732e636f6d2f697374696f2e776f726b6c6f61642e4164647265737332026e31";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn payload(kind: ResourceType, value: Vec<u8>) -> Option<Payload> {
    Some(Payload { type_url: kind.url().into(), value: value.into() })
}

#[test]
fn a_workload_has_the_bytes_of_the_specification() {
    let raw = workload::Workload {
        uid: "Kubernetes//Pod/ns/p".into(),
        name: "p".into(),
        namespace: "ns".into(),
        addresses: vec![vec![10, 0, 0, 5].into()],
        tunnel_protocol: workload::TunnelProtocol::Hbone.into(),
        workload_type: workload::WorkloadType::Pod.into(),
        services: BTreeMap::from([(
            "ns/svc.ns.svc.cluster.local".into(),
            workload::PortList {
                ports: vec![workload::Port {
                    service_port: 80,
                    target_port: 8080,
                    ..workload::Port::default()
                }],
            },
        )]),
        capacity: Some(2),
        ..Default::default()
    };
    let message = Address { r#type: Some(address::Type::Workload(Box::new(raw))) };
    assert_eq!(message.encode_to_vec(), bytes(WORKLOAD));
    let read = decode(
        ResourceType::Address,
        "Kubernetes//Pod/ns/p",
        payload(ResourceType::Address, bytes(WORKLOAD)),
    );
    let Change::Workload(workload) = read.unwrap().change else { panic!("a workload") };
    assert_eq!(workload.identity().to_string(), "spiffe://cluster.local/ns/ns/sa/default");
    assert_eq!((workload.cluster.as_str(), workload.capacity), ("Kubernetes", 2));
}

#[test]
fn a_service_has_the_bytes_of_the_specification() {
    let name = "ns/svc.ns.svc.cluster.local";
    let read = decode(ResourceType::Address, name, payload(ResourceType::Address, bytes(SERVICE))).unwrap();
    let (key, encoded) = encode(&read.change);
    assert_eq!(key.to_string(), name);
    assert_eq!(encoded.unwrap().body, bytes(SERVICE));
}

#[test]
fn a_policy_has_the_bytes_of_the_specification() {
    let kind = ResourceType::Authorization;
    let read = decode(kind, "ns/p", payload(kind, bytes(POLICY))).unwrap();
    let (key, encoded) = encode(&read.change);
    assert_eq!((key.to_string().as_str(), encoded.unwrap().body), ("ns/p", bytes(POLICY).into()));
    let Change::Policy(policy) = read.change else { panic!("a policy") };
    assert_eq!((policy.scope, policy.action), (PolicyScope::Namespace, Action::Deny));
    let only = &policy.rules[0].clauses[0].matches[0];
    assert_eq!(only.principals.none, [TextMatch::Presence]);
    assert_eq!(only.destination_ports.any, [80, 443]);
}

#[test]
fn unpacked_ports_read_as_packed_ones_do() {
    let kind = ResourceType::Authorization;
    let unpacked = POLICY.replace("4a0350bb03", "485048bb03");
    assert_ne!(unpacked, POLICY);
    let read = decode(kind, "ns/p", payload(kind, bytes(&unpacked))).unwrap();
    assert_eq!(read, decode(kind, "ns/p", payload(kind, bytes(POLICY))).unwrap());
}

#[test]
fn a_range_of_a_policy_has_the_bytes_of_the_specification() {
    let raw = security::Address { address: vec![10, 0, 0, 0].into(), length: 8 };
    assert_eq!(raw.encode_to_vec(), bytes("0a040a0000001008"));
    let condition = security::Match { source_ips: vec![raw], ..Default::default() };
    let clause = security::Clause { matches: vec![condition] };
    let raw = security::Authorization {
        name: "p".into(),
        namespace: "n".into(),
        rules: vec![security::Rule { clauses: vec![clause] }],
        ..Default::default()
    };
    let policy = super::super::policy_from_pb(raw).unwrap();
    let ranges = &policy.rules[0].clauses[0].matches[0].source_ips.any;
    assert_eq!(*ranges, [RangeMatch::Range("10.0.0.0/8".parse().unwrap())]);
}

#[test]
fn a_certificate_request_has_the_bytes_of_the_specification() {
    let identity = "spiffe://cluster.local/ns/a/sa/b".to_owned();
    let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(identity)) };
    let fields = BTreeMap::from([("ImpersonatedIdentity".to_owned(), value)]);
    let raw = IstioCertificateRequest {
        csr: "C".into(),
        validity_duration: 86400,
        metadata: Some(prost_types::Struct { fields }),
    };
    assert_eq!(raw.encode_to_vec(), bytes(CERTIFICATE));
}

#[test]
fn requests_for_discovery_have_the_bytes_of_the_specification() {
    let id = "ztunnel~10.0.0.5~zt.istio-system~istio-system.svc.cluster.local".to_owned();
    let first = DeltaDiscoveryRequest {
        node: Some(Node { id, ..Default::default() }),
        type_url: ResourceType::Address.url().into(),
        resource_names_subscribe: vec!["*".into()],
        resource_names_unsubscribe: vec!["*".into()],
        ..Default::default()
    };
    assert_eq!(first.encode_to_vec(), bytes(FIRST));
    let ack = DeltaDiscoveryRequest {
        type_url: ResourceType::Address.url().into(),
        response_nonce: "n1".into(),
        ..Default::default()
    };
    assert_eq!(ack.encode_to_vec(), bytes(ACK));
}

/// Ports are a map in the model and a list on the wire; their order means nothing.
fn in_order(mut message: Address) -> Address {
    if let Some(address::Type::Service(service)) = &mut message.r#type {
        service.ports.sort_by_key(|port| port.service_port);
    }
    if let Some(address::Type::Workload(workload)) = &mut message.r#type {
        workload.services.values_mut().for_each(|list| list.ports.sort_by_key(|port| port.service_port));
    }
    message
}

#[test]
fn everything_upstream_sends_is_read_and_written_back_as_it_was() {
    let mut seen = 0;
    for file in [
        include_str!("../../../tests/vectors/basic.txt"),
        include_str!("../../../tests/vectors/policies.txt"),
        include_str!("../../../tests/vectors/services.txt"),
        include_str!("../../../tests/vectors/waypoints.txt"),
        include_str!("../../../tests/vectors/workloads.txt"),
    ] {
        for line in file.lines().filter(|line| !line.starts_with('#')) {
            let [kind, name, body] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let kind = if kind == "Address" { ResourceType::Address } else { ResourceType::Authorization };
            let sent = base64(body);
            let read = decode(kind, name, payload(kind, sent.clone())).unwrap();
            let written = encode(&read.change).1.unwrap().body;
            match kind {
                ResourceType::Address => {
                    let (sent, written) = (Address::decode(&*sent), Address::decode(written));
                    assert_eq!(in_order(written.unwrap()), in_order(sent.unwrap()), "{name}");
                }
                ResourceType::Authorization => {
                    let sent = security::Authorization::decode(&*sent).unwrap();
                    assert_eq!(security::Authorization::decode(written).unwrap(), sent, "{name}");
                }
                ResourceType::Route
                | ResourceType::Policy
                | ResourceType::RateLimit
                | ResourceType::ExtProc
                | ResourceType::Authentication
                | ResourceType::Provider
                | ResourceType::Traffic
                | ResourceType::Credential
                | ResourceType::Telemetry => {
                    panic!("of our own schema: {name}")
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} resources");
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for digit in text.chars().filter_map(|c| DIGITS.find(c)) {
        held = held << 6 | u32::try_from(digit).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).unwrap());
        }
    }
    out
}
