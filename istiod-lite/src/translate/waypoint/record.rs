//! What makes a gateway a waypoint, where it is and whom it lets in (`control-plane.md` 3.1).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::kinds::gateway::{From, Gateway, Listener};
use ambit_cluster::kinds::waypoint::{CLASSES, FOR, TELLS_CLIENT, WaypointClass};
use ambit_model::address::NetworkAddress;
use ambit_model::workload::{ApplicationTunnel, GatewayDestination, GatewayRef, Handover};

use super::Asker;
use crate::deploy::overlay::{At, Overlay, OverlayError, named};
use crate::index::World;
use crate::index::accounts::served;
use crate::index::gateway::{Place, place as place_of};
use crate::index::users::Named;
use crate::translate::target::is_of_all;

/// The port of waypoints.
const HBONE_PORT: u16 = 15008;
/// The annotation that says how a waypoint of somebody else's is handed what is for it.
const BINDING: &str = "ambient.istio.io/waypoint-inbound-binding";

/// The class of waypoints that a gateway is of: by its class's controller, or by the name of a class that nobody made.
#[must_use]
pub fn class_of(world: &World, gateway: &Gateway) -> Option<WaypointClass> {
    let name = gateway.spec.gateway_class_name.as_str();
    let made = world.class(name).map(|it| it.spec.controller_name.as_str());
    WaypointClass::of(name, made)
}

/// Whether a gateway is a waypoint: by its class, or because it says for what traffic, or how it is handed some.
#[must_use]
pub fn is_waypoint(world: &World, gateway: &Gateway) -> bool {
    class_of(world, gateway).is_some()
        || said(world, gateway, Said::Label(FOR)).is_some()
        || said(world, gateway, Said::Annotation(BINDING)).is_some()
}

/// What is known of waypoints of ours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// The accounts that they run as: `<namespace>/<name>`.
    pub accounts: BTreeSet<String>,
    /// The gateways that are this control plane's to deploy.
    pub gateways: Vec<Asked>,
    /// Classes of ours that are not there.
    pub missing: Vec<WaypointClass>,
    /// The config maps that their authors name.
    pub maps: BTreeSet<At>,
}

/// A gateway that waypoints are asked for with.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Its class.
    pub class: WaypointClass,
    /// The cluster's network.
    pub network: Box<str>,
    /// Whether applications are to be told who asks.
    pub tells_client: bool,
    /// What is to be laid over what is made for it, in this order.
    pub overlays: Vec<Arc<Overlay>>,
}

/// What is known of waypoints of ours now.
#[must_use]
pub fn known(world: &World) -> Known {
    let gateways = world.spaces().flat_map(|(_, space)| space.gateways.values());
    let ours: Vec<(&Arc<Gateway>, WaypointClass)> =
        gateways.filter_map(|it| Some((it, class_of(world, it).filter(|class| class.is_ours)?))).collect();
    let account = |it: &Gateway| format!("{}/{}", it.metadata.namespace, it.account_of_parts());
    let network = world.network();
    let deployed = || ours.iter().filter(|(it, _)| world.deploys(&it.metadata));
    // Of whom it is not known how what is made for him is to be, nothing is made anew, and what is there stays.
    let asked = deployed().filter_map(|(it, class)| {
        let overlays = overlays(world, it)?.ok()?;
        let tells_client = said(world, it, Said::Annotation(TELLS_CLIENT)) == Some("true");
        Some(Asked {
            gateway: Arc::clone(it),
            class: *class,
            network: network.into(),
            tells_client,
            overlays,
        })
    });
    Known {
        accounts: ours.iter().map(|(it, _)| account(it)).collect(),
        gateways: asked.collect(),
        missing: CLASSES.into_iter().filter(|it| it.is_ours && world.class(it.name).is_none()).collect(),
        maps: deployed().filter_map(|(it, _)| named(it)?.ok()).collect(),
    }
}

/// What is to be laid over what is made for a gateway; none while that is not known.
#[must_use]
pub fn overlays(world: &World, gateway: &Gateway) -> Option<Result<Vec<Arc<Overlay>>, OverlayError>> {
    match &world.overlays {
        Some(overlays) => overlays.of(gateway),
        // Nobody reads them: what says nothing of the kind is complete without.
        None => named(gateway).is_none().then(|| Ok(Vec::new())),
    }
}

/// Whether the value of the label of managed objects is that of a controller of waypoints.
pub(super) fn is_controller(label: &str) -> bool {
    CLASSES.into_iter().any(|it| it.manager() == label)
}

#[derive(Clone, Copy)]
enum Said {
    Label(&'static str),
    Annotation(&'static str),
}

/// What a gateway says, or else its class.
fn said<'a>(world: &'a World, gateway: &'a Gateway, what: Said) -> Option<&'a str> {
    let class = world.class(&gateway.spec.gateway_class_name).map(|it| &it.metadata);
    let mut all = std::iter::once(&gateway.metadata).chain(class);
    all.find_map(|it| match what {
        Said::Label(key) => it.label(key),
        Said::Annotation(key) => it.annotation(key),
    })
}

/// Where a waypoint is; nowhere before its status says so.
pub(super) fn place(world: &World, gateway: &Gateway) -> Option<GatewayRef> {
    let namespace = gateway.metadata.namespace.as_str();
    let places: Vec<Place> = gateway.status.addresses.iter().filter_map(place_of).collect();
    let host = places.iter().find_map(|it| match it {
        Place::Host(host) => at_host(namespace, host),
        Place::Ip(_) => None,
    });
    host.or_else(|| {
        places.iter().find_map(|it| match it {
            Place::Ip(ip) => {
                let address = NetworkAddress::new(world.network().into(), *ip);
                Some(GatewayRef { destination: GatewayDestination::Address(address), hbone_port: HBONE_PORT })
            }
            Place::Host(_) => None,
        })
    })
}

pub(super) fn at_host(namespace: &str, host: &str) -> Option<GatewayRef> {
    let key = format!("{namespace}/{host}").parse().ok()?;
    Some(GatewayRef { destination: GatewayDestination::Host(key), hbone_port: HBONE_PORT })
}

/// Whether something of a namespace may go through a waypoint.
pub(super) fn admits(world: &World, gateway: &Gateway, namespace: &str) -> bool {
    let allowed = listener(world, gateway).map(|it| Cow::Borrowed(&it.allowed_routes.namespaces));
    let allowed = allowed.unwrap_or_default();
    match allowed.from {
        From::All => true,
        From::Same => gateway.metadata.namespace == namespace,
        From::Selector => allowed.selector.as_ref().is_some_and(|it| it.selects(&world.labels_of(namespace))),
        From::Nobody => false,
    }
}

/// The listener that traffic of the mesh comes to.
fn listener<'a>(world: &World, gateway: &'a Gateway) -> Option<&'a Listener> {
    let binding = said(world, gateway, Said::Annotation(BINDING));
    let bound = binding.and_then(|it| {
        let port = it.split_once('/').and_then(|(_, port)| port.parse::<u16>().ok());
        let is_it = |listener: &&Listener| match port {
            Some(port) => listener.port.0 == port,
            None => listener.protocol == "istio.io/PROXY",
        };
        gateway.spec.listeners.iter().find(is_it)
    });
    let usual = |it: &&Listener| it.protocol == "HBONE" && it.port.0 == HBONE_PORT;
    bound.or_else(|| gateway.spec.listeners.iter().find(usual))
}

/// Whether a waypoint is for traffic to services, or to workloads.
pub(super) fn is_for(world: &World, gateway: &Gateway, traffic: &str) -> bool {
    // What runs as an account is reached by its services and by its own addresses.
    let usual = if served(gateway).is_some() { "all" } else { "service" };
    let word = said(world, gateway, Said::Label(FOR)).unwrap_or(usual);
    word == "all" || word == traffic
}

/// How a waypoint's pods are handed what is for them, if otherwise than by a tunnel.
pub(super) fn handover(world: &World, gateway: &Gateway) -> Option<ApplicationTunnel> {
    let word = said(world, gateway, Said::Annotation(BINDING))?;
    let (protocol, port) = word.split_once('/').map_or((word, None), |(it, port)| (it, Some(port)));
    let protocol = match protocol {
        "NONE" => Handover::Plain,
        "PROXY" => Handover::Proxy,
        _ => return None,
    };
    Some(ApplicationTunnel { protocol, port: port.and_then(|it| it.parse().ok()).filter(|it| *it != 0) })
}

/// Whether a policy is attached to a waypoint, to all of its class, or to what goes through it.
pub(super) fn has_policy(world: &World, waypoint: Named<'_>, asker: Asker<'_>) -> bool {
    let (kind, name) = match asker {
        Asker::Service(it) => ("Service", it.metadata.name.as_str()),
        Asker::Entry(it) => ("ServiceEntry", it.metadata.name.as_str()),
        Asker::Workload { .. } => ("", ""),
    };
    is_demanded(world, (waypoint.namespace, "Gateway", waypoint.name))
        || is_demanded(world, (asker.namespace(), kind, name))
        || asker.object().is_some_and(|it| world.is_limited_by_route(&it))
        || is_demanded_of_all(world)
        || class_name(world, waypoint).is_some_and(|class| is_demanded_of_class(world, class))
}

/// Whether policies are attached to a waypoint, or to its class, that are not in force at another one.
pub(super) fn demands_more(world: &World, waypoint: Named<'_>, other: Named<'_>) -> bool {
    let class = class_name(world, waypoint).filter(|it| Some(*it) != class_name(world, other));
    // What is for all waypoints of ours is in force at each of them, whatever it is called.
    let class = class.filter(|it| !is_of_all(it));
    is_demanded(world, (waypoint.namespace, "Gateway", waypoint.name))
        || class.is_some_and(|class| is_demanded_of_class(world, class))
        || is_ours(world, waypoint) && !is_ours(world, other) && is_demanded_of_all(world)
}

fn is_ours(world: &World, waypoint: Named<'_>) -> bool {
    super::find(world, waypoint).and_then(|it| class_of(world, it)).is_some_and(|class| class.is_ours)
}

/// Whether a policy is attached to all waypoints, those that are not there as well.
fn is_demanded_of_all(world: &World) -> bool {
    CLASSES.into_iter().any(|it| is_of_all(it.name) && is_demanded_of_class(world, it.name))
}

fn class_name<'a>(world: &'a World, waypoint: Named<'_>) -> Option<&'a str> {
    let gateway = world.space(waypoint.namespace)?.gateways.get(waypoint.name)?;
    Some(&gateway.spec.gateway_class_name)
}

fn is_demanded_of_class(world: &World, class: &str) -> bool {
    is_demanded(world, (&world.mesh.root_namespace, "GatewayClass", class))
}

/// Whether a policy is attached to something. That goes for tokens as well: whoever went past it with one that is not
/// good for anything would not be refused.
fn is_demanded(world: &World, (namespace, kind, name): (&str, &str, &str)) -> bool {
    world.space(namespace).is_some_and(|space| space.attached().any(|it| it.names(kind, name)))
}
