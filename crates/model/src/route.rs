//! Where does a flow go? Owns the outbound decision (`ztunnel.md` 4), as a plan or a refusal that says why, and
//! in `inbound` which targets a peer may ask for (5.2). Opens nothing, resolves no names: what is missing for
//! a plan is asked for with a refusal.
//!
//! One order everywhere: an address that is a workload's is that workload, whatever services cover it too.

mod find;
mod gateway;
mod inbound;
mod lead;
mod refusal;
mod waypoint;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::{Authority, ClientAddr, HopAddr, NetworkAddress, OriginalDst};
use crate::balance::{Ask, Endpoint, Pick, Role, choose};
use crate::name::{Identity, Label, WorkloadUid};
use crate::service::{Families, Service};
use crate::snapshot::Snapshot;
use crate::workload::{GatewayRef, Tunnel, Workload};
pub(crate) use find::visible;
pub use find::{service_by_address, service_by_host};
use gateway::Found;
pub use inbound::{Admission, Handed, NotAdmitted, admit, served};
pub use lead::{Asker, NotLed, asker, leads, plan_led};
pub use refusal::{Blame, Refusal, Unresolved};
pub use waypoint::{Bound, NotBound, Waypoint, bound, endpoints_of, plan_endpoint, plan_to, plan_workload};

/// Where peers listen for HBONE.
pub const HBONE_PORT: u16 = 15008;

/// Ports of our own listeners in a pod. Dialling one on an application's behalf would come back to us.
pub const RESERVED_PORTS: [u16; 3] = [15001, 15006, HBONE_PORT];

/// One connection of an application, before it is carried.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The workload that opened it.
    pub source: Arc<Workload>,
    /// Its address as accepted.
    pub client: ClientAddr,
    /// Where it meant to go.
    pub dst: OriginalDst,
}

/// What was learned while carrying this very flow.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Names that a plan asked for (`Refusal::NameNeeded`), and what they resolve to.
    pub names: BTreeMap<Label, Vec<IpAddr>>,
    /// Endpoints that could not be reached, not to be chosen again.
    pub avoid: Vec<WorkloadUid>,
    /// Endpoints that were tried, where farther ones are to be tried as well (see [`Hints::left`]).
    pub tried: Vec<Arc<Workload>>,
    /// The endpoint that is kept to as long as it may be chosen.
    pub stay: Option<WorkloadUid>,
}

impl Hints {
    /// Endpoints whose places are left to others, as long as there are any: with every second attempt, those that were
    /// tried until then.
    #[must_use]
    pub fn left(&self) -> &[Arc<Workload>] {
        let all = self.tried.len();
        self.tried.get(..all - all % 2).unwrap_or_default()
    }
}

/// How to carry a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// HBONE, to the node of the destination itself.
    Tunnel(Tunnelled),
    /// HBONE, to a waypoint, which decides further.
    ViaWaypoint(Tunnelled),
    /// HBONE inside HBONE, through the gateway of another network.
    ViaGateway(Relayed),
    /// Plain TCP, to where the application meant to go or to a workload that has no tunnel.
    Direct(Direct),
}

/// A flow through one tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnelled {
    /// Where to dial.
    pub hop: HopAddr,
    /// What to ask for there.
    pub authority: Authority,
    /// The peer must prove one of these. Never empty.
    pub expect: Vec<Identity>,
    /// The workload at the far end: the destination, the waypoint or the gateway.
    pub destination: Arc<Workload>,
    /// The service the application addressed.
    pub service: Option<Arc<Service>>,
}

/// A flow through a tunnel inside a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The tunnel to the gateway. Its authority is the inner one's, too.
    pub outer: Tunnelled,
    /// The peer inside must prove one of these. Never empty.
    pub expect: Vec<Identity>,
    /// The workload behind the gateway, as far as it is known.
    pub destination: Arc<Workload>,
    /// The service that the gateway was found through: another of its endpoints may stand in for it.
    pub gateway: Option<Arc<Service>>,
}

/// A flow without a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// Where to dial.
    pub hop: HopAddr,
    /// The destination, when it is one we know.
    pub destination: Option<Arc<Workload>>,
    /// The service the application addressed.
    pub service: Option<Arc<Service>>,
}

/// Plans a flow.
///
/// # Errors
/// Why it goes nowhere. Every one of them means: close the connection, never fall back to plaintext.
pub fn plan(world: &Snapshot, flow: &Flow, pick: &mut impl Pick) -> Result<Plan, Refusal> {
    plan_with(world, flow, &Hints::default(), pick)
}

/// Plans a flow again, knowing more.
///
/// # Errors
/// As `plan`.
pub fn plan_with(
    world: &Snapshot,
    flow: &Flow,
    hints: &Hints,
    pick: &mut impl Pick,
) -> Result<Plan, Refusal> {
    if flow.dst.ip().is_loopback() && RESERVED_PORTS.contains(&flow.dst.port()) {
        return Err(Refusal::ReservedPort { port: flow.dst.port() });
    }
    let address = NetworkAddress::new(flow.source.network.clone(), flow.dst.ip());
    let mut planner = Planner { world, flow, hints, pick };
    if let Some(workload) = world.workload_by_address(&address) {
        return planner.workload_plan(workload);
    }
    match service_by_address(world, &address, Some(&flow.source.namespace)) {
        Some(service) => planner.service_plan(service),
        None => Ok(Plan::Direct(Direct { hop: planner.original(), destination: None, service: None })),
    }
}

/// Everything a plan is made from.
struct Planner<'a, P> {
    world: &'a Snapshot,
    flow: &'a Flow,
    hints: &'a Hints,
    pick: &'a mut P,
}

impl<P: Pick> Planner<'_, P> {
    fn original(&self) -> HopAddr {
        HopAddr::new(self.flow.dst.socket())
    }

    /// The application addressed a workload.
    fn workload_plan(&mut self, workload: &Arc<Workload>) -> Result<Plan, Refusal> {
        if let Some(reference) = self.foreign_waypoint(workload.waypoint.as_ref()) {
            return self.by_waypoint(reference);
        }
        Ok(self.addressed(workload))
    }

    /// To the workload itself, at the address and port that were asked for.
    fn addressed(&self, workload: &Arc<Workload>) -> Plan {
        let target = self.flow.dst.socket();
        match workload.tunnel {
            Tunnel::Hbone => Plan::Tunnel(Tunnelled {
                hop: HopAddr::new(SocketAddr::new(target.ip(), HBONE_PORT)),
                authority: Authority::Address(target),
                expect: identities(None, workload),
                destination: Arc::clone(workload),
                service: None,
            }),
            Tunnel::None => Plan::Direct(Direct {
                hop: self.original(),
                destination: Some(Arc::clone(workload)),
                service: None,
            }),
        }
    }

    /// The application addressed a service.
    fn service_plan(&mut self, service: &Arc<Service>) -> Result<Plan, Refusal> {
        let chosen = self.waypoint_of(service);
        if let Some(reference) = self.foreign_waypoint(chosen) {
            let waypoint =
                self.waypoint(reference).or_else(|why| self.another(service, reference).ok_or(why))?;
            if waypoint.workload.network != self.flow.source.network {
                return self.relay(&waypoint.workload, waypoint.service.as_deref(), service);
            }
            return self.through(&waypoint, Some(service)).map(Plan::ViaWaypoint);
        }
        self.beyond_waypoint(service)
    }

    /// To an endpoint, whatever waypoint the service has.
    fn beyond_waypoint(&mut self, service: &Arc<Service>) -> Result<Plan, Refusal> {
        if service.is_passed_through() {
            let service = Some(Arc::clone(service));
            return Ok(Plan::Direct(Direct { hop: self.original(), destination: None, service }));
        }
        let endpoint = self.endpoint(service)?;
        self.beyond_to(endpoint, service)
    }

    fn beyond_to(&mut self, endpoint: Endpoint, service: &Arc<Service>) -> Result<Plan, Refusal> {
        if endpoint.workload.network != self.flow.source.network {
            return self.relay(&endpoint.workload, Some(service), service);
        }
        self.endpoint_plan(endpoint, service)
    }

    fn endpoint_plan(&mut self, endpoint: Endpoint, service: &Arc<Service>) -> Result<Plan, Refusal> {
        let Endpoint { workload, target_port } = endpoint;
        let ip = self.ip_of(&workload, Some(service), self.flow.dst.ip())?;
        let (target, service) = (SocketAddr::new(ip, target_port), Arc::clone(service));
        Ok(match workload.tunnel {
            Tunnel::Hbone => Plan::Tunnel(Tunnelled {
                hop: HopAddr::new(SocketAddr::new(ip, HBONE_PORT)),
                authority: Authority::Address(target),
                expect: identities(Some(&service), &workload),
                destination: workload,
                service: Some(service),
            }),
            Tunnel::None => Plan::Direct(Direct {
                hop: HopAddr::new(target),
                destination: Some(workload),
                service: Some(service),
            }),
        })
    }

    fn endpoint(&mut self, service: &Arc<Service>) -> Result<Endpoint, Refusal> {
        let ask = Ask {
            client: &self.flow.source,
            service,
            port: self.flow.dst.port(),
            role: Role::Destination,
            avoid: &self.hints.avoid,
            left: self.hints.left(),
        };
        choose(self.world, &ask, self.pick).map_err(|why| Refusal::NoEndpoint { service: service.key(), why })
    }

    /// The waypoint of a service for this connection: weighted, when any weight says so.
    fn waypoint_of<'s>(&mut self, service: &'s Service) -> Option<&'s GatewayRef> {
        let total: u64 = service.weighted_waypoints.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total == 0 {
            return service.waypoint.as_ref();
        }
        let mut left = self.pick.below(total);
        for (reference, weight) in &service.weighted_waypoints {
            if left < u64::from(*weight) {
                return Some(reference);
            }
            left -= u64::from(*weight);
        }
        service.waypoint.as_ref()
    }

    /// Another waypoint of a service, where the one that was chosen has nobody to go to: of several, each is a whole
    /// one, with all that is asked of requests.
    fn another(&mut self, service: &Service, than: &GatewayRef) -> Option<Found> {
        let weighted = service.weighted_waypoints.iter().filter(|(_, weight)| *weight > 0);
        let all = service.waypoint.iter().chain(weighted.map(|(reference, _)| reference));
        let others: Vec<&GatewayRef> =
            all.filter(|it| *it != than && self.foreign_waypoint(Some(it)).is_some()).collect();
        others.into_iter().find_map(|reference| self.waypoint(reference).ok())
    }

    /// The tunnel to a waypoint, which is asked for what the application asked for.
    fn through(&mut self, waypoint: &Found, service: Option<&Arc<Service>>) -> Result<Tunnelled, Refusal> {
        Ok(Tunnelled {
            hop: self.hop_of(waypoint)?,
            authority: Authority::from(self.flow.dst),
            expect: identities(waypoint.service.as_deref(), &waypoint.workload),
            destination: Arc::clone(&waypoint.workload),
            service: service.map(Arc::clone),
        })
    }

    fn hop_of(&mut self, found: &Found) -> Result<HopAddr, Refusal> {
        let ip = self.ip_of(&found.workload, found.service.as_deref(), found.family)?;
        Ok(HopAddr::new(SocketAddr::new(ip, found.port)))
    }

    /// The address to dial a workload at (`ztunnel.md` 4.6): the wanted one if it is its own, else the first of
    /// the wanted one's family among those the service allows, else any of these, else what its name says.
    fn ip_of(
        &mut self,
        workload: &Workload,
        service: Option<&Service>,
        wanted: IpAddr,
    ) -> Result<IpAddr, Refusal> {
        if workload.addresses.contains(&wanted) {
            return Ok(wanted);
        }
        let allowed = |ip: &&IpAddr| match service.map_or(Families::Automatic, |s| s.families) {
            Families::Automatic | Families::Dual => true,
            Families::V4 => ip.is_ipv4(),
            Families::V6 => ip.is_ipv6(),
        };
        let alike = |ip: &&IpAddr| ip.is_ipv4() == wanted.is_ipv4();
        let own = || workload.addresses.iter().filter(allowed);
        if let Some(ip) = own().find(alike).or_else(|| own().next()) {
            return Ok(*ip);
        }
        if !workload.addresses.is_empty() || workload.hostname.is_empty() {
            return Err(Refusal::NoAddress { workload: workload.uid.clone() });
        }
        let Some(resolved) = self.hints.names.get(&workload.hostname) else {
            return Err(Refusal::NameNeeded { hostname: workload.hostname.clone() });
        };
        let same: Vec<_> = resolved.iter().filter(alike).collect();
        let from = if same.is_empty() { resolved.iter().collect() } else { same };
        let count = u64::try_from(from.len()).unwrap_or(u64::MAX);
        let chosen = if count == 0 { 0 } else { self.pick.below(count) };
        usize::try_from(chosen)
            .ok()
            .and_then(|i| from.get(i).map(|ip| **ip))
            .ok_or_else(|| Refusal::NameUnresolved { hostname: workload.hostname.clone() })
    }
}

/// What a service lists, as far as it is an identity.
fn listed(service: Option<&Service>) -> Vec<Identity> {
    let names = service.into_iter().flat_map(|s| &s.subject_alt_names);
    names.filter_map(|name| name.as_str().parse().ok()).collect()
}

/// Who may answer: what the service lists, and the workload itself.
fn identities(service: Option<&Service>, workload: &Workload) -> Vec<Identity> {
    let mut expect = listed(service);
    let own = workload.identity();
    if !expect.contains(&own) {
        expect.push(own);
    }
    expect
}

#[cfg(test)]
mod tests;
