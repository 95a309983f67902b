//! Arbitrary nouns read back as they were written; arbitrary bytes are read or refused, never a panic.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::address::{NetworkAddress, NetworkRange};
use ambit_model::delta::Change;
use ambit_model::name::{PolicyKey, ServiceKey};
use ambit_model::policy::{
    AccountMatch, Action, Clause, Condition, Match, Policy, PolicyScope, RangeMatch, Rule, TextMatch,
};
use ambit_model::service::{
    AppProtocol, BalanceMode, Families, HealthRule, LoadBalancing, Scope, Service, ServicePort, Visibility,
};
use ambit_model::workload::{
    ApplicationTunnel, GatewayDestination, GatewayRef, Handover, Health, Locality, Tunnel, Workload,
    WorkloadKind,
};
use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::{ResourceType, decode, encode};
use crate::pb::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Payload};

pub(super) const PART: &str = "[a-z*._-]{1,12}";
const FREE: &str = ".{0,12}";

fn ip() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_map(|ip| ip.to_canonical())
}

fn network_address() -> impl Strategy<Value = NetworkAddress> {
    (FREE, ip()).prop_map(|(network, ip)| NetworkAddress::new(network.into(), ip))
}

fn range() -> impl Strategy<Value = IpNet> {
    (ip(), 0..=128u8).prop_map(|(ip, length)| {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        IpNet::new(ip, length % max).unwrap().trunc()
    })
}

pub(super) fn service_key() -> impl Strategy<Value = ServiceKey> {
    (PART, PART)
        .prop_map(|(ns, host)| ServiceKey { namespace: ns.parse().unwrap(), hostname: host.parse().unwrap() })
}

fn policy_key() -> impl Strategy<Value = PolicyKey> {
    (PART, PART)
        .prop_map(|(ns, name)| PolicyKey { namespace: ns.parse().unwrap(), name: name.parse().unwrap() })
}

fn gateway() -> impl Strategy<Value = GatewayRef> {
    let destination = prop_oneof![
        service_key().prop_map(GatewayDestination::Host),
        network_address().prop_map(GatewayDestination::Address),
    ];
    (destination, any::<u16>()).prop_map(|(destination, hbone_port)| GatewayRef { destination, hbone_port })
}

pub(super) fn one_of<T: Clone + std::fmt::Debug + 'static>(
    values: &[T],
) -> impl Strategy<Value = T> + Clone + use<T> {
    proptest::sample::select(values.to_vec())
}

fn workload() -> impl Strategy<Value = Workload> {
    use WorkloadKind::{CronJob, Deployment, Job, Pod};
    let texts = vec(FREE, 10);
    let names = (PART, PART, PART, "[a-z]{1,9}");
    let places = (vec(ip(), 0..3), option::of(gateway()), option::of(gateway()));
    let services = btree_map(service_key(), btree_map(any::<u16>(), any::<u16>(), 0..3), 0..3);
    let tunnel = option::of((one_of(&[Handover::Plain, Handover::Proxy]), option::of(1u16..)))
        .prop_map(|tunnel| tunnel.map(|(protocol, port)| ApplicationTunnel { protocol, port }));
    let modes = (any::<[bool; 4]>(), one_of(&[Deployment, CronJob, Pod, Job]), any::<u32>());
    (texts, names, places, services, (tunnel, vec(policy_key(), 0..3)), modes).prop_map(
        |(
            texts,
            names,
            (addresses, waypoint, network_gateway),
            services,
            (application_tunnel, policies),
            modes,
        )| {
            let ([hbone, native_tunnel, healthy, host_network], kind, capacity) = modes;
            let text = |at: usize| texts[at].as_str();
            Workload {
                uid: text(0).into(),
                name: text(1).into(),
                namespace: names.0.parse().unwrap(),
                addresses,
                hostname: text(2).into(),
                network: text(3).into(),
                tunnel: if hbone { Tunnel::Hbone } else { Tunnel::None },
                native_tunnel,
                trust_domain: names.1.parse().unwrap(),
                service_account: names.2.parse().unwrap(),
                waypoint,
                network_gateway,
                node: text(4).into(),
                canonical_name: text(5).into(),
                canonical_revision: text(6).into(),
                kind,
                workload_name: text(7).into(),
                application_tunnel,
                services,
                policies,
                health: if healthy { Health::Healthy } else { Health::Unhealthy },
                cluster: names.3.as_str().into(),
                locality: Locality { region: text(8).into(), zone: text(9).into(), subzone: text(8).into() },
                host_network,
                capacity,
                labels: [("app".into(), "web".into())].into(),
            }
        },
    )
}

fn balancing() -> impl Strategy<Value = LoadBalancing> {
    use BalanceMode::{Failover, Passthrough, Standard, Strict};
    let scopes = [Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node, Scope::Cluster, Scope::Network];
    (
        vec(one_of(&scopes), 0..4),
        one_of(&[Standard, Strict, Failover, Passthrough]),
        one_of(&[HealthRule::OnlyHealthy, HealthRule::AllowAll]),
    )
        .prop_map(|(preference, mode, health)| LoadBalancing { preference, mode, health })
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    use AppProtocol::{Grpc, GrpcWeb, Http2, Http11, Tcp, Tls, Unknown};
    (any::<u16>(), one_of(&[Unknown, Http11, Http2, Grpc, GrpcWeb, Tcp, Tls]))
        .prop_map(|(target, protocol)| ServicePort { target, protocol })
}

fn service() -> impl Strategy<Value = Service> {
    let network_range =
        (FREE, range()).prop_map(|(network, range)| NetworkRange { network: network.into(), range });
    let addresses = (vec(network_address(), 0..3), vec(network_range, 0..3));
    let ports = btree_map(any::<u16>(), service_port(), 0..4);
    let ways = (option::of(gateway()), vec((gateway(), any::<u32>()), 0..3));
    let modes = (
        one_of(&[Families::Automatic, Families::V4, Families::V6, Families::Dual]),
        one_of(&[Visibility::Public, Visibility::Namespace]),
        any::<[bool; 2]>(),
    );
    ((FREE, service_key(), vec(FREE, 0..3)), addresses, ports, ways, option::of(balancing()), modes).prop_map(
        |(
            (name, key, sans),
            (vips, ranges),
            ports,
            (waypoint, weighted_waypoints),
            load_balancing,
            modes,
        )| Service {
            name: name.into(),
            namespace: key.namespace,
            hostname: key.hostname,
            vips,
            ranges,
            ports,
            subject_alt_names: sans.into_iter().map(Into::into).collect(),
            waypoint,
            weighted_waypoints,
            load_balancing,
            families: modes.0,
            canonical: modes.2[0],
            ingress_use_waypoint: modes.2[1],
            visibility: modes.1,
        },
    )
}

fn condition<S: Strategy>(of: fn() -> S) -> impl Strategy<Value = Condition<S::Value>> {
    (vec(of(), 0..3), vec(of(), 0..3)).prop_map(|(any, none)| Condition { any, none })
}

fn text_match() -> impl Strategy<Value = TextMatch> {
    prop_oneof![
        FREE.prop_map(|text| TextMatch::Exact(text.into())),
        FREE.prop_map(|text| TextMatch::Prefix(text.into())),
        FREE.prop_map(|text| TextMatch::Suffix(text.into())),
        Just(TextMatch::Presence),
    ]
}

fn account_match() -> impl Strategy<Value = AccountMatch> {
    (PART, PART).prop_map(|(ns, account)| AccountMatch {
        namespace: ns.parse().unwrap(),
        service_account: account.parse().unwrap(),
    })
}

fn range_match() -> impl Strategy<Value = RangeMatch> {
    prop_oneof![range().prop_map(RangeMatch::Range), Just(RangeMatch::Unreadable)]
}

fn one_match() -> impl Strategy<Value = Match> {
    (
        condition(text_match),
        condition(account_match),
        condition(text_match),
        condition(range_match),
        condition(range_match),
        condition(any::<u16>),
    )
        .prop_map(
            |(namespaces, service_accounts, principals, source_ips, destination_ips, destination_ports)| {
                Match {
                    namespaces,
                    service_accounts,
                    principals,
                    source_ips,
                    destination_ips,
                    destination_ports,
                }
            },
        )
}

fn policy() -> impl Strategy<Value = Policy> {
    let clause = vec(one_match(), 0..3).prop_map(|matches| Clause { matches });
    let rule = vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    (
        policy_key(),
        one_of(&[PolicyScope::Global, PolicyScope::Namespace, PolicyScope::Selector]),
        one_of(&[Action::Allow, Action::Deny]),
        vec(rule, 0..3),
        any::<bool>(),
    )
        .prop_map(|(key, scope, action, rules, dry_run)| Policy { key, scope, action, rules, dry_run })
}

pub(super) fn reads_back(change: &Change) -> Result<(), TestCaseError> {
    let (key, encoded) = encode(change);
    let kind = key.kind();
    let payload = Payload { type_url: kind.url().into(), value: encoded.unwrap().body };
    let read = decode(kind, &key.to_string(), Some(payload)).unwrap();
    prop_assert_eq!(&read.change, change);
    prop_assert_eq!(read.key, key);
    Ok(())
}

proptest! {
    #[test]
    fn a_workload_reads_back_as_it_was_written(noun in workload()) {
        reads_back(&Change::Workload(Arc::new(noun)))?;
    }

    #[test]
    fn a_service_reads_back_as_it_was_written(noun in service()) {
        reads_back(&Change::Service(Arc::new(noun)))?;
    }

    #[test]
    fn a_policy_reads_back_as_it_was_written(noun in policy()) {
        reads_back(&Change::Policy(Arc::new(noun)))?;
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(value: Vec<u8>, name in FREE) {
        for kind in ResourceType::ALL {
            let payload = Payload { type_url: kind.url().into(), value: value.clone().into() };
            let _ = decode(kind, &name, Some(payload));
        }
        let _ = <DeltaDiscoveryResponse as prost::Message>::decode(&*value);
        let _ = <DeltaDiscoveryRequest as prost::Message>::decode(&*value);
    }

    /// Bytes that are nearly right reach further than random ones.
    #[test]
    fn damaged_resources_are_read_or_refused(noun in policy(), at: proptest::sample::Index, with: u8) {
        let (key, encoded) = encode(&Change::Policy(Arc::new(noun)));
        let mut value = encoded.unwrap().body.to_vec();
        let at = at.index(value.len());
        value[at] = with;
        let payload = Payload { type_url: ResourceType::Authorization.url().into(), value: value.into() };
        let _ = decode(ResourceType::Authorization, &key.to_string(), Some(payload));
    }
}

#[test]
fn the_same_noun_always_has_the_same_bytes() {
    let mut workload = Workload { services: BTreeMap::new(), ..proptest_sample() };
    for host in ["c", "a", "b"] {
        workload.services.insert(format!("n/{host}").parse().unwrap(), BTreeMap::new());
    }
    let body = |w: &Workload| encode(&Change::Workload(Arc::new(w.clone()))).1.unwrap().body;
    assert_eq!(body(&workload), body(&workload.clone()));
}

fn proptest_sample() -> Workload {
    let raw = crate::pb::workload::Workload { uid: "u".into(), namespace: "n".into(), ..Default::default() };
    super::super::workload_from_pb(raw).unwrap()
}
