//! Which endpoint of a service takes a connection. Chance is passed in, and how busy endpoints are, where that is known.
//! Owns eligibility, scopes and weights (`ztunnel.md` 4.3). What to do with the endpoint is `route`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::WorkloadUid;
use crate::service::{BalanceMode, HealthRule, LoadBalancing, Scope, Service};
use crate::snapshot::Snapshot;
use crate::workload::{Health, Workload};

/// Chance, as an argument.
pub trait Pick {
    /// A number below `limit`, each as likely as the other. Never called with 0.
    fn below(&mut self, limit: u64) -> u64;

    /// How much an endpoint has to do right now; none: it is not known, and does not matter.
    fn busy(&self, _endpoint: &WorkloadUid) -> Option<u32> {
        None
    }
}

/// No chance at all: always the first by uid. For explanations, where the answer must not vary.
#[derive(Debug, Clone, Copy, Default)]
pub struct First;

impl Pick for First {
    fn below(&mut self, _: u64) -> u64 {
        0
    }
}

/// The endpoint that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its own port for the service's port.
    pub target_port: u16,
}

/// Why a service has no endpoint for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoEndpoint {
    /// The port is not one of the service's.
    #[error("port {0} is not a port of it")]
    PortNotOnService(u16),
    /// No workload is an endpoint.
    #[error("it has no endpoints")]
    None,
    /// No endpoint resolves the port (a named port that none of them has).
    #[error("none of its endpoints has a number for port {0}")]
    PortUnresolved(u16),
    /// Endpoints there are, none of them healthy.
    #[error("none of its {0} endpoints is healthy")]
    Unhealthy(usize),
    /// Endpoints there are, but on networks without a known gateway, or without any address.
    #[error("none of its endpoints can be reached: no address, or another network without a gateway")]
    Unreachable,
    /// The service is strict and no endpoint agrees with the client in every scope.
    #[error("none of its endpoints is where its traffic must stay")]
    OutOfScope,
    /// A route sends it to some of the endpoints only, and none of these is one of them.
    #[error("none of its endpoints is in the subset")]
    NotInSubset,
    /// Every endpoint has weight 0.
    #[error("all of its endpoints have capacity 0")]
    Weightless,
}

/// What a service is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Carrying the traffic of its own port.
    Destination,
    /// Being a waypoint: with an application tunnel it need not have the port.
    Waypoint,
    /// Being the gateway of another network: that network is its own, and yet it is dialled directly.
    Gateway,
}

/// A question to a service: who takes this port for this client?
pub(crate) struct Ask<'a> {
    pub(crate) client: &'a Workload,
    pub(crate) service: &'a Service,
    pub(crate) port: u16,
    pub(crate) role: Role,
    /// Endpoints that failed this very connection, not to be given again.
    pub(crate) avoid: &'a [WorkloadUid],
    /// Endpoints whose rank is left to others, as long as there are any.
    pub(crate) left: &'a [Arc<Workload>],
}

/// Chooses an endpoint, by capacity among those that agree best with the client: of two that come by chance, the less
/// busy, where that is known.
pub(crate) fn choose(world: &Snapshot, ask: &Ask<'_>, pick: &mut impl Pick) -> Result<Endpoint, NoEndpoint> {
    let listed = ask.service.ports.contains_key(&ask.port);
    if !listed && ask.role != Role::Waypoint {
        return Err(NoEndpoint::PortNotOnService(ask.port));
    }
    let eligible = eligible(world, ask, listed)?;
    let preferred = preferred(eligible, ask)?;
    let total: u64 = preferred.iter().map(|c| u64::from(c.workload.capacity)).sum();
    if total == 0 {
        return Err(NoEndpoint::Weightless);
    }
    let one = at(&preferred, pick.below(total)).ok_or(NoEndpoint::Weightless)?;
    let chosen = match pick.busy(&one.workload.uid) {
        // Nobody has less to do than nothing.
        None | Some(0) => one,
        Some(_) if preferred.len() == 1 => one,
        Some(busy) => {
            let other = at(&preferred, pick.below(total)).ok_or(NoEndpoint::Weightless)?;
            let load = u64::from(busy) * u64::from(other.workload.capacity);
            let others = pick.busy(&other.workload.uid).unwrap_or(busy);
            if u64::from(others) * u64::from(one.workload.capacity) < load { other } else { one }
        }
    };
    Ok(Endpoint { workload: Arc::clone(chosen.workload), target_port: chosen.target })
}

/// The candidate at a place among all, where each is as wide as its capacity.
fn at<'a, 'w>(all: &'a [Candidate<'w>], mut place: u64) -> Option<&'a Candidate<'w>> {
    all.iter().find(|candidate| {
        let width = u64::from(candidate.workload.capacity);
        let is_here = place < width;
        place = place.saturating_sub(width);
        is_here
    })
}

/// All that could take the connection and agree best with the client, by uid.
pub(crate) fn candidates(world: &Snapshot, ask: &Ask<'_>) -> Result<Vec<Endpoint>, NoEndpoint> {
    let listed = ask.service.ports.contains_key(&ask.port);
    if !listed && ask.role != Role::Waypoint {
        return Err(NoEndpoint::PortNotOnService(ask.port));
    }
    let all = preferred(eligible(world, ask, listed)?, ask)?.into_iter();
    Ok(all.map(|it| Endpoint { workload: Arc::clone(it.workload), target_port: it.target }).collect())
}

struct Candidate<'a> {
    workload: &'a Arc<Workload>,
    target: u16,
}

/// The endpoints that could take the connection. When there is none, the reason that came closest.
fn eligible<'a>(world: &'a Snapshot, ask: &Ask<'_>, listed: bool) -> Result<Vec<Candidate<'a>>, NoEndpoint> {
    let health = ask.service.load_balancing.as_ref().map_or(HealthRule::OnlyHealthy, |l| l.health);
    let (mut found, mut all, mut reached) = (Vec::new(), 0_usize, 0_usize);
    let mut unhealthy = 0_usize;
    let key = ask.service.key();
    for workload in world.endpoints(&key) {
        if ask.avoid.contains(&workload.uid) {
            continue;
        }
        all += 1;
        if !reachable(ask, workload) {
            continue;
        }
        reached += 1;
        let tunnelled = ask.role == Role::Waypoint && workload.application_tunnel.is_some();
        let mapped = || workload.services.get(&key);
        let target =
            if listed || tunnelled { mapping(ask.service, mapped(), workload, ask.port) } else { None };
        let Some(target) = target else { continue };
        if health == HealthRule::OnlyHealthy && workload.health == Health::Unhealthy {
            unhealthy += 1;
            continue;
        }
        found.push(Candidate { workload, target });
    }
    match (found.is_empty(), all, reached, unhealthy) {
        (false, ..) => Ok(found),
        (true, 0, ..) => Err(NoEndpoint::None),
        (true, _, 0, _) => Err(NoEndpoint::Unreachable),
        (true, _, _, 0) if !listed => Err(NoEndpoint::PortNotOnService(ask.port)),
        (true, _, _, 0) => Err(NoEndpoint::PortUnresolved(ask.port)),
        (true, _, _, unhealthy) => Err(NoEndpoint::Unhealthy(unhealthy)),
    }
}

fn reachable(ask: &Ask<'_>, endpoint: &Workload) -> bool {
    if endpoint.network == ask.client.network || ask.role == Role::Gateway {
        !endpoint.addresses.is_empty() || !endpoint.hostname.is_empty()
    } else {
        endpoint.network_gateway.is_some()
    }
}

/// The workload's own port for a service port: its own mapping, else the service's, else, with an application
/// tunnel that has a port of its own, the service port itself. 0 is no port.
pub(crate) fn target_port(service: &Service, workload: &Workload, port: u16) -> Option<u16> {
    mapping(service, workload.services.get(&service.key()), workload, port)
}

/// `target_port` for who has looked up the workload's own ports already.
fn mapping(service: &Service, own: Option<&Ports>, workload: &Workload, port: u16) -> Option<u16> {
    let own = own.and_then(|ports| ports.get(&port)).copied();
    let default = service.ports.get(&port).map(|p| p.target);
    let tunnel = workload.application_tunnel.and_then(|t| t.port).map(|_| port);
    [own, default, tunnel].into_iter().flatten().find(|p| *p != 0)
}

/// Service port -> target port.
type Ports = BTreeMap<u16, u16>;

fn preferred<'a>(candidates: Vec<Candidate<'a>>, ask: &Ask<'_>) -> Result<Vec<Candidate<'a>>, NoEndpoint> {
    let Some(balancing) = &ask.service.load_balancing else { return Ok(candidates) };
    match balancing.mode {
        BalanceMode::Standard | BalanceMode::Passthrough => Ok(candidates),
        BalanceMode::Strict => {
            let everywhere = |w: &Workload| balancing.preference.iter().all(|s| agree(*s, ask.client, w));
            let kept: Vec<_> = candidates.into_iter().filter(|c| everywhere(c.workload)).collect();
            if kept.is_empty() { Err(NoEndpoint::OutOfScope) } else { Ok(kept) }
        }
        BalanceMode::Failover => Ok(nearest(candidates, ask, balancing)),
    }
}

/// The candidates that rank highest. One that is never picked (capacity 0) does not hide those below it.
fn nearest<'a>(all: Vec<Candidate<'a>>, ask: &Ask<'_>, rule: &LoadBalancing) -> Vec<Candidate<'a>> {
    let rank = |endpoint: &Workload| rank(&rule.preference, ask.client, endpoint);
    let ranked: Vec<_> =
        all.into_iter().filter(|c| c.workload.capacity > 0).map(|c| (rank(c.workload), c)).collect();
    let left: Vec<usize> = ask.left.iter().map(|it| rank(it)).collect();
    let ranks = || ranked.iter().map(|(rank, _)| *rank);
    let best = ranks().filter(|rank| !left.contains(rank)).max().or_else(|| ranks().max());
    ranked.into_iter().filter(|(rank, _)| Some(*rank) == best).map(|(_, c)| c).collect()
}

/// One for each scope agreed on, in order, up to the first that is not. The network in first place is special:
/// agreeing on it outweighs everything, and not agreeing on it does not end the walk.
fn rank(preference: &[Scope], client: &Workload, endpoint: &Workload) -> usize {
    let (start, rest) = match preference {
        [Scope::Network, rest @ ..] if agree(Scope::Network, client, endpoint) => (preference.len(), rest),
        [Scope::Network, rest @ ..] => (0, rest),
        all => (0, all),
    };
    start + rest.iter().take_while(|s| agree(**s, client, endpoint)).count()
}

/// Two unknown values count as equal.
fn agree(scope: Scope, client: &Workload, endpoint: &Workload) -> bool {
    match scope {
        Scope::Region => client.locality.region == endpoint.locality.region,
        Scope::Zone => client.locality.zone == endpoint.locality.zone,
        Scope::Subzone => client.locality.subzone == endpoint.locality.subzone,
        Scope::Node => client.node == endpoint.node,
        Scope::Cluster => client.cluster == endpoint.cluster,
        Scope::Network => client.network == endpoint.network,
    }
}

#[cfg(test)]
mod tests;
