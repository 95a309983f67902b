//! From the model to shapes, sorted, for dumps.

use std::collections::BTreeMap;

use ambit_model::name::Label;
use ambit_model::policy::{Action, Condition, Match, Policy, PolicyScope, RangeMatch, TextMatch};
use ambit_model::service::{BalanceMode, Families, HealthRule, LoadBalancing, Scope, Service, Visibility};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{GatewayDestination, GatewayRef, Handover, Health, Locality, Tunnel, Workload};

use super::read::UNREADABLE;
use super::shape;

pub(super) fn workloads(world: &Snapshot) -> Vec<shape::Workload> {
    let mut all: Vec<_> = world.workloads().collect();
    all.sort_by(|a, b| a.uid.cmp(&b.uid));
    all.into_iter().map(|w| workload(w)).collect()
}

pub(super) fn services(world: &Snapshot) -> Vec<shape::Service> {
    let mut all: Vec<_> = world.services().collect();
    all.sort_by(|a, b| (&a.hostname, &a.namespace).cmp(&(&b.hostname, &b.namespace)));
    all.into_iter().map(|s| service(world, s)).collect()
}

pub(super) fn policies(world: &Snapshot) -> Vec<shape::Policy> {
    let mut all: Vec<_> = world.policies().collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all.into_iter().map(|p| policy(p)).collect()
}

/// Endpoints of services that are not known.
pub(super) fn staged_services(world: &Snapshot) -> BTreeMap<String, BTreeMap<String, shape::Endpoint>> {
    world.missing_services().map(|key| (key.to_string(), endpoints(world, key))).collect()
}

fn workload(w: &Workload) -> shape::Workload {
    shape::Workload {
        workload_ips: w.addresses.iter().map(ToString::to_string).collect(),
        uid: w.uid.to_string(),
        name: w.name.to_string(),
        namespace: w.namespace.to_string(),
        service_account: w.service_account.to_string(),
        trust_domain: w.trust_domain.to_string(),
        network: w.network.to_string(),
        node: w.node.to_string(),
        hostname: w.hostname.to_string(),
        workload_name: w.workload_name.to_string(),
        workload_type: w.kind.label().into(),
        canonical_name: w.canonical_name.to_string(),
        canonical_revision: w.canonical_revision.to_string(),
        cluster_id: w.cluster.to_string(),
        protocol: match w.tunnel {
            Tunnel::None => shape::Protocol::Tcp,
            Tunnel::Hbone => shape::Protocol::Hbone,
        },
        network_mode: match w.host_network {
            true => shape::NetworkMode::HostNetwork,
            false => shape::NetworkMode::Standard,
        },
        status: status(w),
        waypoint: w.waypoint.as_ref().map(gateway),
        network_gateway: w.network_gateway.as_ref().map(gateway),
        application_tunnel: w.application_tunnel.map(|t| shape::ApplicationTunnel {
            protocol: match t.protocol {
                Handover::Plain => shape::Handover::Plain,
                Handover::Proxy => shape::Handover::Proxy,
            },
            port: t.port,
        }),
        authorization_policies: w.policies.iter().map(ToString::to_string).collect(),
        locality: locality(&w.locality),
        native_tunnel: w.native_tunnel,
        capacity: w.capacity,
        labels: w.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        services: shape::Memberships::Keys(w.services.keys().map(ToString::to_string).collect()),
    }
}

fn status(w: &Workload) -> shape::Status {
    match w.health {
        Health::Healthy => shape::Status::Healthy,
        Health::Unhealthy => shape::Status::Unhealthy,
    }
}

fn locality(l: &Locality) -> Option<shape::Locality> {
    (*l != Locality::default()).then(|| shape::Locality {
        region: l.region.to_string(),
        zone: l.zone.to_string(),
        subzone: l.subzone.to_string(),
    })
}

fn gateway(reference: &GatewayRef) -> shape::Gateway {
    shape::Gateway {
        destination: match &reference.destination {
            GatewayDestination::Host(key) => key.to_string(),
            GatewayDestination::Address(address) => address.to_string(),
        },
        hbone_mtls_port: reference.hbone_port,
    }
}

fn service(world: &Snapshot, s: &Service) -> shape::Service {
    let weighted = |(destination, weight): &(GatewayRef, u32)| shape::WeightedWaypoint {
        destination: gateway(destination),
        weight: *weight,
    };
    shape::Service {
        name: s.name.to_string(),
        namespace: s.namespace.to_string(),
        hostname: s.hostname.to_string(),
        vips: s.vips.iter().map(ToString::to_string).collect(),
        cidr_vips: s
            .ranges
            .iter()
            .map(|r| shape::CidrVip { network: r.network.to_string(), cidr: r.range.to_string() })
            .collect(),
        ports: s.ports.iter().map(|(port, to)| (*port, to.target)).collect(),
        endpoints: endpoints(world, &s.key()),
        subject_alt_names: s.subject_alt_names.iter().map(Label::to_string).collect(),
        waypoint: s.waypoint.as_ref().map(gateway),
        weighted_waypoints: s.weighted_waypoints.iter().map(weighted).collect(),
        load_balancer: s.load_balancing.as_ref().map(load_balancer),
        ip_families: match s.families {
            Families::Automatic => None,
            Families::V4 => Some(shape::IpFamilies::IPv4),
            Families::V6 => Some(shape::IpFamilies::IPv6),
            Families::Dual => Some(shape::IpFamilies::Dual),
        },
        canonical: s.canonical,
        visibility: match s.visibility {
            Visibility::Public => shape::Visibility::Public,
            Visibility::Namespace => shape::Visibility::Namespace,
        },
    }
}

fn endpoints(world: &Snapshot, key: &ambit_model::name::ServiceKey) -> BTreeMap<String, shape::Endpoint> {
    let endpoint = |w: &Workload| shape::Endpoint {
        workload_uid: w.uid.to_string(),
        port: w.services.get(key).cloned().unwrap_or_default(),
        status: status(w),
    };
    world.endpoints(key).map(|w| (w.uid.to_string(), endpoint(w))).collect()
}

fn load_balancer(rule: &LoadBalancing) -> shape::LoadBalancer {
    let scope = |scope: &Scope| match scope {
        Scope::Region => shape::Scope::Region,
        Scope::Zone => shape::Scope::Zone,
        Scope::Subzone => shape::Scope::Subzone,
        Scope::Node => shape::Scope::Node,
        Scope::Cluster => shape::Scope::Cluster,
        Scope::Network => shape::Scope::Network,
    };
    shape::LoadBalancer {
        routing_preferences: rule.preference.iter().map(scope).collect(),
        mode: match rule.mode {
            BalanceMode::Standard => shape::Mode::Standard,
            BalanceMode::Strict => shape::Mode::Strict,
            BalanceMode::Failover => shape::Mode::Failover,
            BalanceMode::Passthrough => shape::Mode::Passthrough,
        },
        health_policy: match rule.health {
            HealthRule::OnlyHealthy => shape::HealthPolicy::OnlyHealthy,
            HealthRule::AllowAll => shape::HealthPolicy::AllowAll,
        },
    }
}

fn policy(p: &Policy) -> shape::Policy {
    let clause = |matches: &[Match]| matches.iter().map(matching).collect();
    shape::Policy {
        name: p.key.name.to_string(),
        namespace: p.key.namespace.to_string(),
        scope: match p.scope {
            PolicyScope::Global => shape::PolicyScope::Global,
            PolicyScope::Namespace => shape::PolicyScope::Namespace,
            PolicyScope::Selector => shape::PolicyScope::WorkloadSelector,
        },
        action: match p.action {
            Action::Allow => shape::Action::Allow,
            Action::Deny => shape::Action::Deny,
        },
        dry_run: p.dry_run,
        rules: p.rules.iter().map(|r| r.clauses.iter().map(|c| clause(&c.matches)).collect()).collect(),
    }
}

fn matching(m: &Match) -> shape::Match {
    let accounts = |list: &[ambit_model::policy::AccountMatch]| {
        list.iter()
            .map(|a| shape::Account {
                namespace: a.namespace.to_string(),
                service_account: a.service_account.to_string(),
            })
            .collect()
    };
    let (namespaces, not_namespaces) = texts(&m.namespaces);
    let (principals, not_principals) = texts(&m.principals);
    let (source_ips, not_source_ips) = ranges(&m.source_ips);
    let (destination_ips, not_destination_ips) = ranges(&m.destination_ips);
    shape::Match {
        namespaces,
        not_namespaces,
        service_accounts: accounts(&m.service_accounts.any),
        not_service_accounts: accounts(&m.service_accounts.none),
        principals,
        not_principals,
        source_ips,
        not_source_ips,
        destination_ips,
        not_destination_ips,
        destination_ports: m.destination_ports.any.clone(),
        not_destination_ports: m.destination_ports.none.clone(),
    }
}

fn texts(condition: &Condition<TextMatch>) -> (Vec<shape::Text>, Vec<shape::Text>) {
    let text = |text: &TextMatch| match text {
        TextMatch::Exact(text) => shape::Text::Exact(text.to_string()),
        TextMatch::Prefix(text) => shape::Text::Prefix(text.to_string()),
        TextMatch::Suffix(text) => shape::Text::Suffix(text.to_string()),
        TextMatch::Presence => shape::Text::Presence(shape::Nothing),
    };
    (condition.any.iter().map(text).collect(), condition.none.iter().map(text).collect())
}

fn ranges(condition: &Condition<RangeMatch>) -> (Vec<String>, Vec<String>) {
    let text = |range: &RangeMatch| match range {
        RangeMatch::Range(range) => range.to_string(),
        RangeMatch::Unreadable => UNREADABLE.into(),
    };
    (condition.any.iter().map(text).collect(), condition.none.iter().map(text).collect())
}
