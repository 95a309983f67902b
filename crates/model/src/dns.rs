//! What a name means inside a pod: services, endpoints of headless ones, pods; by the search order of a cluster
//! (`ztunnel.md` 10.2–10.4). Pure. Owns which names are ours and what is said of them.
//! Bytes of questions and answers are `wire::dns`'s; names that are not ours go elsewhere by ztunnel's `dns`.
//!
//! Beyond upstream, two kinds of names of pods are ours as well: `<pod>.<headless service>…`, which replicas of a
//! stateful set find each other by, and `<address with dashes>.<namespace>.pod.<domain>`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::NetworkAddress;
use crate::balance::Pick;
use crate::name::{Namespace, Network};
use crate::route::visible;
use crate::service::{Families, HealthRule, Service};
use crate::snapshot::Snapshot;
use crate::workload::{Health, Workload};

/// Who asks, and how names are completed for it.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The pod.
    pub client: &'a Workload,
    /// The cluster's domain.
    pub domain: &'a str,
    /// What a resolver appends to short names.
    pub search: Search<'a>,
    /// Preferred among services of one host name, when none is the client's own or canonical.
    pub preferred: Option<&'a Namespace>,
    /// Whether IPv6 is used at all.
    pub ipv6: bool,
}

/// What a resolver appends to short names.
#[derive(Debug, Clone, Copy)]
pub enum Search<'a> {
    /// What Kubernetes gives every pod: its namespace, services, the cluster.
    Cluster,
    /// These.
    Given(&'a [String]),
}

/// The kind of address asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4: A.
    V4,
    /// IPv6: AAAA.
    V6,
}

/// What is said of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The name is ours, and this is all there is.
    Ours {
        /// What the name stands for, where a search domain had been appended to it and there are addresses.
        alias: Option<String>,
        /// Its addresses, in an order of chance; none is an answer too.
        addresses: Vec<IpAddr>,
    },
    /// Somebody else must be asked.
    NotOurs,
}

/// What a name means to a pod. `name` is in lower case and without the final dot.
pub fn resolve(
    world: &Snapshot,
    asker: &Asker<'_>,
    (name, family): (&str, Family),
    pick: &mut impl Pick,
) -> Reply {
    for (stripped, candidate) in candidates(name, asker) {
        let Some(found) = find(world, asker, &candidate) else { continue };
        let mut addresses = found.addresses(world, asker, family);
        shuffle(&mut addresses, pick);
        // A resolver asks for both families, and as a pod joins, the one question may have gone elsewhere, where nobody
        // completes names. An alias without an address would then pass for an answer, and its search would end.
        let alias = stripped.filter(|_| !found.is_wildcard() && !addresses.is_empty()).map(str::to_owned);
        return Reply::Ours { alias, addresses };
    }
    Reply::NotOurs
}

/// The names that a name may stand for, in order; with each, what was left after a search domain was taken off.
fn candidates<'n>(name: &'n str, asker: &Asker<'_>) -> Vec<(Option<&'n str>, String)> {
    let mut all = Vec::new();
    let mut complete = |stripped: Option<&'n str>, short: &str| {
        all.push((stripped, short.to_owned()));
        all.extend(expansions(short, asker).into_iter().map(|full| (stripped, full)));
    };
    complete(None, name);
    for domain in search_domains(asker) {
        let rest = name.strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'));
        if let Some(short) = rest.filter(|short| !short.is_empty()) {
            complete(Some(short), short);
        }
    }
    all
}

fn search_domains(asker: &Asker<'_>) -> Vec<String> {
    let domain = asker.domain;
    match asker.search {
        Search::Cluster => {
            let own = format!("{}.svc.{domain}", asker.client.namespace);
            vec![own, format!("svc.{domain}"), domain.to_owned()]
        }
        Search::Given(domains) => domains.to_vec(),
    }
}

/// What Kubernetes lets people leave out.
fn expansions(short: &str, asker: &Asker<'_>) -> Vec<String> {
    let (domain, own) = (asker.domain, &asker.client.namespace);
    let labels: Vec<&str> = short.split('.').collect();
    match labels[..] {
        [x] => vec![format!("{x}.{own}.svc.{domain}")],
        [x, y] => vec![format!("{x}.{y}.svc.{domain}"), format!("{x}.{y}.{own}.svc.{domain}")],
        [x, y, "svc"] => vec![format!("{x}.{y}.svc.{domain}"), format!("{x}.{y}.svc.svc.{domain}")],
        [x, y, z] => vec![format!("{x}.{y}.{z}.svc.{domain}")],
        [_, _, _, "svc"] => vec![format!("{short}.{domain}")],
        _ => Vec::new(),
    }
}

/// What a name belongs to.
enum Found<'a> {
    Service(&'a Arc<Service>),
    Pod(&'a Arc<Workload>),
}

/// The owner of a complete name: a service, a pod, or a service whose wildcard holds it.
fn find<'a>(world: &'a Snapshot, asker: &Asker<'_>, name: &str) -> Option<Found<'a>> {
    if let Some(exact) = service(world, asker, name) {
        return Some(Found::Service(exact));
    }
    if let Some(pod) = endpoint(world, asker, name).or_else(|| pod(world, asker, name)) {
        return Some(Found::Pod(pod));
    }
    let mut rest = name;
    while let Some((_, parent)) = rest.split_once('.') {
        if let Some(found) = service(world, asker, &format!("*.{parent}")) {
            return Some(Found::Service(found));
        }
        rest = parent;
    }
    None
}

/// The service of a host name that has something to say: the client's own first, then the canonical one, then the
/// preferred namespace's, then the smaller key.
fn service<'a>(world: &'a Snapshot, asker: &Asker<'_>, host: &str) -> Option<&'a Arc<Service>> {
    let own = &asker.client.namespace;
    let speaks = |s: &&Arc<Service>| exact_vips(s).next().is_some() || is_cluster_local(s, asker.domain);
    let all = world.services_named(host).iter();
    all.filter(|s| visible(s, Some(own)))
        .filter(speaks)
        .min_by_key(|s| (s.namespace != *own, !s.canonical, Some(&s.namespace) != asker.preferred))
}

fn is_cluster_local(service: &Service, domain: &str) -> bool {
    let rest = service.hostname.as_str().strip_suffix(domain);
    rest.is_some_and(|rest| rest.ends_with(".svc."))
}

/// Virtual addresses, those written as a range of one included.
fn exact_vips(service: &Service) -> impl Iterator<Item = NetworkAddress> {
    let alone = |r: &&crate::address::NetworkRange| r.range.prefix_len() == r.range.max_prefix_len();
    let ranges = service.ranges.iter().filter(alone);
    service.vips.iter().cloned().chain(ranges.map(|r| NetworkAddress::new(r.network.clone(), r.range.addr())))
}

/// `<pod>.<headless service>`: a pod that is an endpoint of a service without an address of its own.
fn endpoint<'a>(world: &'a Snapshot, asker: &Asker<'_>, name: &str) -> Option<&'a Arc<Workload>> {
    let (pod, host) = name.split_once('.')?;
    let service = service(world, asker, host).filter(|s| exact_vips(s).next().is_none())?;
    endpoints(world, &asker.client.network, service)
        .find(|w| w.name.as_str() == pod && w.namespace == service.namespace)
}

/// `<address with dashes>.<namespace>.pod.<domain>`: that pod, if there is one.
fn pod<'a>(world: &'a Snapshot, asker: &Asker<'_>, name: &str) -> Option<&'a Arc<Workload>> {
    let rest = name.strip_suffix(asker.domain)?.strip_suffix(".pod.")?;
    let (dashed, namespace) = rest.split_once('.')?;
    let four = dashed.replace('-', ".").parse::<IpAddr>();
    let ip = four.or_else(|_| dashed.replace('-', ":").parse()).ok()?;
    let found = world.workload_by_address(&NetworkAddress::new(asker.client.network.clone(), ip))?;
    (found.namespace.as_str() == namespace).then_some(found)
}

/// The endpoints of a headless service that its clients may be sent to. An address of another network would be
/// another's in the client's own, so only those of the client's network are told.
fn endpoints<'a, 'n>(
    world: &'a Snapshot,
    network: &'n Network,
    service: &Service,
) -> impl Iterator<Item = &'a Arc<Workload>> + use<'a, 'n> {
    let rule = service.load_balancing.as_ref().map_or(HealthRule::OnlyHealthy, |l| l.health);
    world.endpoints(&service.key()).filter(move |w| {
        (rule == HealthRule::AllowAll || w.health == Health::Healthy) && w.network == *network
    })
}

impl Found<'_> {
    fn is_wildcard(&self) -> bool {
        match self {
            Self::Service(service) => service.hostname.as_str().starts_with("*."),
            Self::Pod(_) => false,
        }
    }

    fn addresses(&self, world: &Snapshot, asker: &Asker<'_>, family: Family) -> Vec<IpAddr> {
        let wanted = |ip: &IpAddr| ip.is_ipv6() == (family == Family::V6);
        if family == Family::V6 && !asker.ipv6 {
            return Vec::new();
        }
        let service = match self {
            Self::Pod(pod) => return pod.addresses.iter().copied().filter(wanted).take(1).collect(),
            Self::Service(service) => service,
        };
        let spoken = match service.families {
            Families::Automatic | Families::Dual => true,
            Families::V4 => family == Family::V4,
            Families::V6 => family == Family::V6,
        };
        if !spoken {
            return Vec::new();
        }
        if exact_vips(service).next().is_some() {
            let here = |vip: &NetworkAddress| vip.network == asker.client.network;
            return exact_vips(service).filter(here).map(|vip| vip.ip).filter(wanted).collect();
        }
        let one = |w: &Arc<Workload>| w.addresses.iter().copied().find(wanted);
        endpoints(world, &asker.client.network, service).filter_map(one).collect()
    }
}

/// Clients take the first address: each shall be first as often as the others.
fn shuffle(addresses: &mut [IpAddr], pick: &mut impl Pick) {
    for last in (1..addresses.len()).rev() {
        let limit = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        addresses.swap(last, usize::try_from(pick.below(limit)).unwrap_or(last).min(last));
    }
}

#[cfg(test)]
mod tests;
