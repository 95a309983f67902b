//! What is said of gateways that are waypoints of ours, and of their classes (`control-plane.md` 7.1, 7.5): whether they
//! are understood, whether they are there, and where. An address that was given once stays, so that a waypoint without a
//! ready pod keeps traffic waiting instead of letting it past.

use ambit_cluster::ObjectRef;
use ambit_cluster::kinds::core::Pod;
use ambit_cluster::kinds::gateway::{Gateway, GatewayAddress, Listener};
use ambit_cluster::kinds::meta::selects;
use ambit_cluster::kinds::service::Service;
use ambit_cluster::kinds::waypoint::CLASSES;

use super::Condition;
use crate::index::unit::UnitKind;
use crate::index::{Space, World};
use crate::translate::waypoint::{class_of, overlays, standing as for_account};

const ACCEPTED: &str = "Accepted";
const PROGRAMMED: &str = "Programmed";
const RESOLVED_REFS: &str = "ResolvedRefs";
const CONFLICTED: &str = "Conflicted";
const FOR_ACCOUNT: &str = "ambit.io/ForServiceAccount";

/// What is to be said of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidOfGateway {
    /// Of all of it.
    pub conditions: Vec<Condition>,
    /// Where it is.
    pub addresses: Vec<GatewayAddress>,
    /// Of its listeners, by name.
    pub listeners: Vec<(String, Vec<Condition>)>,
}

/// All that is to be said of a gateway now; nothing, if it is not ours.
#[must_use]
pub fn gateway(world: &World, at: &ObjectRef) -> Option<SaidOfGateway> {
    let space = world.space(&at.namespace)?;
    let gateway = space.gateways.get(&at.name)?;
    class_of(world, gateway).filter(|class| class.is_ours)?;
    let parameters = parameters(world, gateway)?;
    let standing = standing(world, space, gateway);
    let listeners = gateway.spec.listeners.iter();
    let listeners: Vec<_> = listeners.map(|it| (it.name.clone(), of_listener(it, &standing))).collect();
    let addresses = match &standing {
        Standing::There(addresses) => addresses.clone(),
        Standing::NotYet(_) | Standing::Refused(..) => gateway.status.addresses.clone(),
    };
    let programmed = match &standing {
        Standing::There(addresses) => {
            let list: Vec<String> = addresses.iter().map(|it| format!("{}:15008", it.value)).collect();
            Condition::new(PROGRAMMED, "True", PROGRAMMED, format!("reached at {}", list.join(", ")))
        }
        Standing::NotYet(why) => Condition::new(PROGRAMMED, "False", "AddressNotAssigned", why.clone()),
        Standing::Refused(reason, why) => Condition::new(PROGRAMMED, "False", reason, why.clone()),
    };
    let resolved =
        Condition::new(RESOLVED_REFS, "True", RESOLVED_REFS, "it refers to nothing that is missing");
    let mut conditions = vec![accepted((gateway, parameters), &standing), programmed, resolved];
    conditions.extend(account(world, gateway));
    Some(SaidOfGateway { conditions, addresses, listeners })
}

/// Of one that is for a service account: whether it is the one.
fn account(world: &World, gateway: &Gateway) -> Option<Condition> {
    let (account, other) = for_account(world, gateway)?;
    Some(match other {
        None => {
            let text = format!(
                "it is for what runs as {account} in this namespace, and for services all of whose endpoints do"
            );
            Condition::new(FOR_ACCOUNT, "True", "Serves", text)
        }
        Some(other) => {
            let text = format!("gateway {} is for account {account} already, and older", other.metadata.name);
            Condition::new(FOR_ACCOUNT, "False", "AccountServedByAnother", text)
        }
    })
}

/// Whether a class is one of ours.
#[must_use]
pub fn class(world: &World, name: &str) -> Vec<Condition> {
    let controller = world.class(name).map(|it| it.spec.controller_name.as_str());
    let is_ours = CLASSES.into_iter().any(|it| it.is_ours && Some(it.controller) == controller);
    let said = || Condition::new(ACCEPTED, "True", ACCEPTED, "gateways of this class are seen to by Ambit");
    is_ours.then(said).into_iter().collect()
}

/// How far a gateway is.
enum Standing {
    /// It is reached there.
    There(Vec<GatewayAddress>),
    /// Not yet, and why.
    NotYet(String),
    /// It cannot be as it is asked to be: reason and text.
    Refused(&'static str, String),
}

fn standing(world: &World, space: &Space, gateway: &Gateway) -> Standing {
    let meta = &gateway.metadata;
    let (home, service) = match gateway.spec.addresses.as_slice() {
        [one] if one.kind == "Hostname" => {
            let claim = world.claims(&one.value).find(|it| it.kind == UnitKind::Service);
            match claim.and_then(|it| {
                Some((it.namespace.as_ref(), world.space(&it.namespace)?.services.get(&it.name)?))
            }) {
                Some(found) => found,
                None => {
                    return Standing::Refused(
                        "AddressNotUsable",
                        format!("no service is called {}", one.value),
                    );
                }
            }
        }
        [] => match space.services.get(gateway.name_of_parts()) {
            Some(service) => (meta.namespace.as_str(), service),
            None => {
                return Standing::NotYet(format!(
                    "there is no service {}/{} yet",
                    meta.namespace,
                    gateway.name_of_parts()
                ));
            }
        },
        [one] if matches!(one.kind.as_str(), "" | "IPAddress") => {
            match space.services.get(gateway.name_of_parts()) {
                Some(service) => (meta.namespace.as_str(), service),
                None => {
                    return Standing::NotYet(format!(
                        "there is no service {}/{} yet",
                        meta.namespace,
                        gateway.name_of_parts()
                    ));
                }
            }
        }
        _ => {
            let text = "a waypoint has no address of its choice, or one: that of a service by type Hostname, or a load balancer's";
            return Standing::Refused("UnsupportedAddress", text.into());
        }
    };
    if !has_ready(world, home, service) {
        return Standing::NotYet(format!("no pod of service {home}/{} is ready", service.metadata.name));
    }
    Standing::There(addresses(world, home, service))
}

fn has_ready(world: &World, home: &str, service: &Service) -> bool {
    let selector = &service.spec.selector;
    let pods = world.space(home).into_iter().flat_map(|space| space.pods.values());
    let mut ready = pods.filter(|it: &&std::sync::Arc<Pod>| {
        it.is_ready() && it.metadata.deletion_timestamp.is_none() && selects(selector, &it.metadata.labels)
    });
    !selector.is_empty() && ready.next().is_some()
}

/// A service's own addresses, then its name.
fn addresses(world: &World, home: &str, service: &Service) -> Vec<GatewayAddress> {
    let address = |kind: &str, value: String| GatewayAddress { kind: kind.into(), value };
    let ips = service.spec.vips().into_iter().map(|ip| address("IPAddress", ip.to_string()));
    ips.chain([address("Hostname", world.hostname(home, &service.metadata.name))]).collect()
}

fn is_usual(it: &Listener) -> bool {
    it.protocol == "HBONE" && it.port.0 == 15008
}

/// Why what the author says of what is made cannot be followed; nothing is said of a gateway before that is known.
fn parameters(world: &World, gateway: &Gateway) -> Option<Option<String>> {
    match overlays(world, gateway) {
        Some(read) => Some(read.err().map(|error| format!("{error}; what was made before stays as it is"))),
        None if world.overlays.is_some() => None,
        None => {
            let text = "spec.infrastructure.parametersRef is not read here, so nothing is deployed; use labels and annotations";
            Some(Some(text.into()))
        }
    }
}

fn accepted((gateway, parameters): (&Gateway, Option<String>), standing: &Standing) -> Condition {
    let good = gateway.spec.listeners.iter().filter(|it| is_usual(it)).count();
    let refused = "listeners of a waypoint are of protocol HBONE at port 15008";
    match standing {
        Standing::Refused(reason @ "UnsupportedAddress", why) => {
            Condition::new(ACCEPTED, "False", reason, why.clone())
        }
        _ if parameters.is_some() => {
            Condition::new(ACCEPTED, "False", "InvalidParameters", parameters.unwrap_or_default())
        }
        _ if good == 0 => {
            Condition::new(ACCEPTED, "False", "ListenersNotValid", format!("it has none: {refused}"))
        }
        _ if good < gateway.spec.listeners.len() => {
            Condition::new(ACCEPTED, "True", "ListenersNotValid", format!("some are passed over: {refused}"))
        }
        _ => Condition::new(ACCEPTED, "True", ACCEPTED, "understood"),
    }
}

fn of_listener(it: &Listener, standing: &Standing) -> Vec<Condition> {
    let is_good = is_usual(it);
    let accepted = if is_good {
        Condition::new(ACCEPTED, "True", ACCEPTED, "understood")
    } else {
        let text = format!(
            "a waypoint does not listen for {} at port {}; write HBONE and 15008",
            it.protocol, it.port.0
        );
        Condition::new(ACCEPTED, "False", "UnsupportedProtocol", text)
    };
    let programmed = match standing {
        Standing::There(_) if is_good => Condition::new(PROGRAMMED, "True", PROGRAMMED, "open"),
        Standing::There(_) => Condition::new(PROGRAMMED, "False", "Invalid", "not opened"),
        Standing::NotYet(_) | Standing::Refused(..) => {
            Condition::new(PROGRAMMED, "False", "Pending", "the gateway is not there yet")
        }
    };
    vec![
        accepted,
        Condition::new(CONFLICTED, "False", "NoConflicts", "it is in nobody's way"),
        programmed,
        Condition::new(RESOLVED_REFS, "True", RESOLVED_REFS, "it refers to nothing that is missing"),
    ]
}
