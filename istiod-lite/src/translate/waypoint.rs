//! Through which waypoint something goes (`control-plane.md` 3.1 to 3.4): pure. Owns what makes a gateway a waypoint, whom
//! it lets in, and what holds while it is not there. Which labels name it is `index::users`', what is said of it to
//! authors is `conditions`'.

mod account;
mod record;

use ambit_cluster::kinds::core::Pod;
use ambit_cluster::kinds::entry::ServiceEntry;
use ambit_cluster::kinds::gateway::Gateway;
use ambit_cluster::kinds::mesh::Visible;
use ambit_cluster::kinds::meta::{Meta, Texts};
use ambit_cluster::kinds::service::Service as ServiceObject;
use ambit_cluster::kinds::waypoint::{MANAGED, PART_OF};
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::service::Service;
use ambit_model::workload::{ApplicationTunnel, GatewayRef};

use crate::index::World;
use crate::index::users::{Choice, Named, canary, choice};

pub(crate) use self::account::standing;
use self::account::{Claim, claim};
pub use self::record::{Asked, Known, class_of, is_waypoint, known, overlays};

/// The annotation of a service or a namespace that says what holds while its waypoint is not there.
const POLICY: &str = "ambit.io/waypoint-policy";
/// The annotation with the part in a hundred that goes through the second waypoint.
const CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
/// The label by which gateways at the mesh's border use the waypoint as well.
const INGRESS: &str = "istio.io/ingress-use-waypoint";

/// What may go through a waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker<'a> {
    /// A service.
    Service(&'a ServiceObject),
    /// A service entry.
    Entry(&'a ServiceEntry),
    /// A workload.
    Workload {
        /// Its namespace.
        namespace: &'a str,
        /// The labels that it chooses by.
        labels: &'a Texts,
        /// As whom it runs.
        account: &'a str,
    },
}

impl<'a> Asker<'a> {
    /// A service or a service entry that is there.
    #[must_use]
    pub fn of(world: &'a World, at: &ObjectRef) -> Option<Self> {
        let space = world.space(&at.namespace)?;
        match at.kind {
            Kind::Service => space.services.get(&at.name).map(|it| Self::Service(it)),
            Kind::ServiceEntry => space.entries.get(&at.name).map(|it| Self::Entry(it)),
            _ => None,
        }
    }

    /// The object that it is; a workload may be of several kinds.
    #[must_use]
    pub fn object(self) -> Option<ObjectRef> {
        let kind = match self {
            Self::Service(_) => Kind::Service,
            Self::Entry(_) => Kind::ServiceEntry,
            Self::Workload { .. } => return None,
        };
        self.meta().map(|it| ObjectRef::new(kind, &it.namespace, &it.name))
    }

    fn meta(self) -> Option<&'a Meta> {
        match self {
            Self::Service(it) => Some(&it.metadata),
            Self::Entry(it) => Some(&it.metadata),
            Self::Workload { .. } => None,
        }
    }

    fn labels(self) -> &'a Texts {
        match self {
            Self::Service(it) => &it.metadata.labels,
            Self::Entry(it) => &it.metadata.labels,
            Self::Workload { labels, .. } => labels,
        }
    }

    fn namespace(self) -> &'a str {
        match self {
            Self::Service(it) => &it.metadata.namespace,
            Self::Entry(it) => &it.metadata.namespace,
            Self::Workload { namespace, .. } => namespace,
        }
    }

    /// What its traffic is to waypoints.
    fn traffic(self) -> &'static str {
        if matches!(self, Self::Workload { .. }) { "workload" } else { "service" }
    }
}

/// What became of the wish to go through a waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment<'a> {
    /// Nobody wishes it.
    Unasked,
    /// Everything goes through it.
    Bound(Bound<'a>),
    /// It does not.
    Unbound(Unbound<'a>),
}

/// A waypoint that everything goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound<'a> {
    /// Which.
    pub waypoint: Named<'a>,
    /// Where it is.
    pub by: GatewayRef,
    /// Another one, that a part goes through.
    pub canary: Option<Canary<'a>>,
    /// Whether gateways at the border use it as well; none: nobody said.
    pub ingress: Option<bool>,
}

/// A second waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary<'a> {
    /// Which.
    pub waypoint: Named<'a>,
    /// Where it is, and the part in a hundred that goes through it; or why nothing does.
    pub by: Result<(GatewayRef, u32), CanaryFault>,
}

/// Why nothing goes through a second waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryFault {
    /// It is the first one.
    Same,
    /// Its part is none in a hundred.
    Weight,
    /// As with any waypoint.
    Waypoint(Fault),
}

/// A waypoint that something should go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound<'a> {
    /// Which.
    pub waypoint: Named<'a>,
    /// Why it does not.
    pub fault: Fault,
    /// Where everything is sent all the same, so that nothing goes past what is demanded of it.
    pub closed: Option<GatewayRef>,
}

/// Why something does not go through a waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is none of that name, or it is nowhere yet.
    NotReady,
    /// It lets nothing of this namespace in.
    Denied,
    /// It is not for traffic to this.
    Traffic(&'static str),
    /// What nobody else may see cannot go through another namespace.
    Elsewhere,
    /// It is for an account that only some of the endpoints run as.
    Accounts,
}

/// Through which waypoint something goes.
#[must_use]
pub fn attach<'a>(world: &'a World, asker: Asker<'a>) -> Attachment<'a> {
    let (home, labels) = (asker.namespace(), asker.labels());
    let managed = labels.get(MANAGED).map(String::as_str);
    if matches!(asker, Asker::Service(_))
        && managed.is_some_and(|by| by == "istio.io-eastwest-controller" || record::is_controller(by))
    {
        return Attachment::Unasked;
    }
    let around = of_namespace(world, home);
    let (waypoint, origin) = match (choice(labels, home), claim(world, asker), around) {
        (Choice::Nobody, ..) => return Attachment::Unasked,
        (Choice::Waypoint(named), ..) => (named, Origin::Own),
        (Choice::Unsaid, Claim::All(named), Choice::Waypoint(other))
            if is_stood_in_for(world, (named, other), asker) =>
        {
            (other, Origin::Namespace)
        }
        (Choice::Unsaid, Claim::All(named), _) => (named, Origin::Account),
        (Choice::Unsaid, Claim::Part(named), around) => match (in_part(world, named, asker), around) {
            (Unbound { closed: None, .. }, Choice::Waypoint(named)) => (named, Origin::Namespace),
            (unbound, _) => return Attachment::Unbound(unbound),
        },
        (Choice::Unsaid, Claim::Nobody, Choice::Waypoint(named)) => (named, Origin::Namespace),
        (Choice::Unsaid, Claim::Nobody, Choice::Unsaid | Choice::Nobody) => return Attachment::Unasked,
    };
    match serves(world, waypoint, asker) {
        Err(Fault::Traffic("workload")) if origin != Origin::Own => Attachment::Unasked,
        Err(fault) => {
            Attachment::Unbound(Unbound { waypoint, fault, closed: closed(world, waypoint, (asker, fault)) })
        }
        Ok(by) => {
            let canary = second(world, asker, (waypoint, origin == Origin::Namespace));
            Attachment::Bound(Bound { waypoint, by, canary, ingress: ingress(world, asker) })
        }
    }
}

/// Who chose a waypoint: what is nearer goes before what is around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Its own label.
    Own,
    /// The account that it runs as.
    Account,
    /// Its namespace's label.
    Namespace,
}

/// Whether the namespace's waypoint goes on for somebody while the account's is not there yet: one that comes takes over
/// when it is, and nobody waits for it. Not if less were demanded there.
fn is_stood_in_for(world: &World, (waypoint, other): (Named<'_>, Named<'_>), asker: Asker<'_>) -> bool {
    serves(world, waypoint, asker) == Err(Fault::NotReady)
        && serves(world, other, asker).is_ok()
        && !record::demands_more(world, waypoint, other)
}

/// Some of its endpoints are a waypoint's, others not. What is demanded there is demanded of all of them then: nothing
/// may go past it, and those who run as somebody else lose nothing by it.
fn in_part<'a>(world: &'a World, waypoint: Named<'a>, asker: Asker<'a>) -> Unbound<'a> {
    let closed = match serves(world, waypoint, asker) {
        Ok(by) => is_strict(world, waypoint, asker).then_some(by),
        Err(fault) => closed(world, waypoint, (asker, fault)),
    };
    Unbound { waypoint, fault: Fault::Accounts, closed }
}

/// What a namespace's labels say of a waypoint.
fn of_namespace<'a>(world: &'a World, namespace: &'a str) -> Choice<'a> {
    let object = world.space(namespace).and_then(|space| space.object.as_ref());
    object.map_or(Choice::Unsaid, |it| choice(&it.metadata.labels, namespace))
}

/// Where a waypoint is for somebody.
fn serves(world: &World, waypoint: Named<'_>, asker: Asker<'_>) -> Result<GatewayRef, Fault> {
    let gateway = find(world, waypoint).ok_or(Fault::NotReady)?;
    let by = record::place(world, gateway).ok_or(Fault::NotReady)?;
    takes(world, gateway, asker).map(|()| by)
}

/// Whether a waypoint takes somebody's traffic, wherever it is.
fn takes(world: &World, gateway: &Gateway, asker: Asker<'_>) -> Result<(), Fault> {
    if !record::admits(world, gateway, asker.namespace()) {
        return Err(Fault::Denied);
    }
    if !record::is_for(world, gateway, asker.traffic()) {
        return Err(Fault::Traffic(asker.traffic()));
    }
    let hidden =
        matches!(asker, Asker::Entry(_)) && world.visibility(asker.namespace()) == Some(Visible::Namespace);
    if hidden && gateway.metadata.namespace != asker.namespace() {
        return Err(Fault::Elsewhere);
    }
    Ok(())
}

fn find<'a>(world: &'a World, waypoint: Named<'_>) -> Option<&'a Gateway> {
    let gateway = world.space(waypoint.namespace)?.gateways.get(waypoint.name)?;
    is_waypoint(world, gateway).then_some(gateway)
}

/// Where traffic is sent though its waypoint is not there: to nobody, so that what is demanded of it is not passed by.
fn closed(world: &World, waypoint: Named<'_>, (asker, fault): (Asker<'_>, Fault)) -> Option<GatewayRef> {
    // Whoever would go past it when it is there does not wait for it. One that is not there is taken to be for services
    // alone, as it is without a word: a workload waits for it only if its own label says so.
    let waits = find(world, waypoint).map_or_else(
        || asker.traffic() == "service" || choice(asker.labels(), asker.namespace()) != Choice::Unsaid,
        |it| takes(world, it, asker).is_ok(),
    );
    if fault != Fault::NotReady || !waits || !is_strict(world, waypoint, asker) {
        return None;
    }
    let host = world.hostname(waypoint.namespace, waypoint.name);
    record::at_host(waypoint.namespace, &host)
}

/// Whether nothing may go past a waypoint that is not there: as the object says, or its namespace, or else when a policy
/// is attached.
fn is_strict(world: &World, waypoint: Named<'_>, asker: Asker<'_>) -> bool {
    let said = asker.meta().and_then(|it| it.annotation(POLICY));
    let around = || world.space(asker.namespace()).and_then(|it| it.annotation(POLICY));
    match said.or_else(around) {
        Some("strict") => true,
        Some("permissive") => false,
        _ => record::has_policy(world, waypoint, asker),
    }
}

/// The second waypoint of a service, named where the first one is.
fn second<'a>(
    world: &'a World,
    asker: Asker<'a>,
    (first, inherited): (Named<'a>, bool),
) -> Option<Canary<'a>> {
    let (meta, home) = (asker.meta()?, asker.namespace());
    let around = world.space(home).and_then(|space| space.object.as_ref()).map(|it| &it.metadata);
    let around = around.filter(|_| inherited);
    let waypoint = canary(&meta.labels, home).or_else(|| around.and_then(|it| canary(&it.labels, home)))?;
    let weight =
        meta.annotation(CANARY_WEIGHT).or_else(|| around.and_then(|it| it.annotation(CANARY_WEIGHT)));
    let weight = weight.map_or(Some(0), |it| it.parse::<u32>().ok()).filter(|it| *it <= 100);
    let by = match weight {
        _ if waypoint == first => Err(CanaryFault::Same),
        None => Err(CanaryFault::Weight),
        Some(weight) => serves(world, waypoint, asker).map(|by| (by, weight)).map_err(CanaryFault::Waypoint),
    };
    Some(Canary { waypoint, by })
}

fn ingress(world: &World, asker: Asker<'_>) -> Option<bool> {
    let own = asker.meta()?.label(INGRESS);
    let around = || world.space(asker.namespace())?.object.as_ref()?.metadata.label(INGRESS);
    own.or_else(around).map(|word| ["1", "t", "true"].contains(&word.to_ascii_lowercase().as_str()))
}

/// Says of a service what it goes through.
pub(super) fn on_service(world: &World, asker: Asker<'_>, service: &mut Service) {
    match attach(world, asker) {
        Attachment::Unasked => {}
        Attachment::Unbound(Unbound { closed, .. }) => service.waypoint = closed,
        Attachment::Bound(Bound { by, canary, ingress, .. }) => {
            if let Some(Canary { by: Ok((canary, weight)), .. }) = canary {
                service.weighted_waypoints = vec![(by.clone(), 100 - weight), (canary, weight)];
            }
            service.waypoint = Some(by);
            service.ingress_use_waypoint = ingress.unwrap_or_default();
        }
    }
}

/// What traffic to a workload itself goes through.
pub(super) fn of_workload(world: &World, asker: Asker<'_>) -> Option<GatewayRef> {
    match attach(world, asker) {
        Attachment::Unasked => None,
        Attachment::Unbound(Unbound { closed, .. }) => closed,
        Attachment::Bound(Bound { by, .. }) => Some(by),
    }
}

/// Of a waypoint's own pods: how they are handed what is for them. None of other pods.
pub(super) fn instance(world: &World, namespace: &str, pod: &Pod) -> Option<Option<ApplicationTunnel>> {
    let name = pod.metadata.label(PART_OF)?;
    let gateway = find(world, Named { namespace, name })?;
    Some(record::handover(world, gateway))
}

#[cfg(test)]
mod tests;
