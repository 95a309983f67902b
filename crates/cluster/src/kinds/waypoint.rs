//! The words by which gateways are waypoints, and by which things go through one: labels, annotations, classes. Owns the
//! words, and what a gateway says of what is made for it; what follows is for whoever deploys it or sends traffic there.

use std::collections::BTreeMap;

use crate::kinds::gateway::Gateway;
use crate::kinds::meta::Texts;

/// The label by which a waypoint is chosen.
pub const USE: &str = "istio.io/use-waypoint";
/// The label that says where it is, if elsewhere.
pub const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// The label that says what traffic a waypoint is for.
pub const FOR: &str = "istio.io/waypoint-for";
/// The annotation of a gateway that names the account whose traffic it is for.
pub const FOR_ACCOUNT: &str = "istio.io/for-service-account";
/// The label of what is made for a gateway: the gateway's name.
pub const PART_OF: &str = "gateway.networking.k8s.io/gateway-name";
/// The label of what is made for a gateway: its class.
pub const CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// The label of all that is made for gateways, and by whom.
pub const MANAGED: &str = "gateway.istio.io/managed";
/// The annotation that names the account of what is made for a gateway.
pub const ACCOUNT: &str = "gateway.istio.io/service-account";
/// The annotation that says how many pods there are to be, where nothing in a cluster counts them.
pub const REPLICAS: &str = "ambit.io/replicas";
/// The annotation, of a gateway or its class, by which applications are told who asks (`x-forwarded-client-cert`).
pub const TELLS_CLIENT: &str = "ambient.istio.io/xfcc-include-client-identity";
/// The annotation that gives what is made for a gateway another name.
const NAME: &str = "gateway.istio.io/name-override";
/// Written by upstream's controller onto gateways that it deploys. Those pods stay as they are until somebody takes the
/// annotation away: what they enforce by policies of requests is not given up in passing.
const UPSTREAM: &str = "gateway.istio.io/controller-version";

/// A class of waypoints that is there without anybody having made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaypointClass {
    /// Its name.
    pub name: &'static str,
    /// The name of its controller.
    pub controller: &'static str,
    /// Whether gateways of this class are deployed here.
    pub is_ours: bool,
}

/// Classes of waypoints: the one that users know, ours beside it, and one of upstream's that is carried out elsewhere.
pub const CLASSES: [WaypointClass; 3] = [
    WaypointClass { name: "istio-waypoint", controller: "istio.io/mesh-controller", is_ours: true },
    WaypointClass { name: "ambit-waypoint", controller: "ambit.io/waypoint-controller", is_ours: true },
    WaypointClass {
        name: "istio-agentgateway-waypoint",
        controller: "istio.io/agentgateway-waypoint-controller",
        is_ours: false,
    },
];

impl WaypointClass {
    /// The class of this name: by the controller of the class that somebody made, or by the name where nobody did.
    #[must_use]
    pub fn of(name: &str, controller: Option<&str>) -> Option<Self> {
        CLASSES.into_iter().find(|it| controller.map_or(it.name == name, |made| it.controller == made))
    }

    /// Who sees to its gateways, as the label of what is made for them says it.
    #[must_use]
    pub fn manager(self) -> String {
        self.controller.replace('/', "-")
    }
}

/// Labels and annotations that what is made for a gateway has of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOn {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Gateway {
    /// What is made for it is called so.
    #[must_use]
    pub fn name_of_parts(&self) -> &str {
        self.metadata.annotation(NAME).filter(|it| !it.is_empty()).unwrap_or(&self.metadata.name)
    }

    /// The account that its pods run as.
    #[must_use]
    pub fn account_of_parts(&self) -> &str {
        self.metadata.annotation(ACCOUNT).filter(|it| !it.is_empty()).unwrap_or(&self.metadata.name)
    }

    /// Whether its pods are made by whoever sees to its class; whoever names a host runs them himself.
    #[must_use]
    pub fn is_deployed(&self) -> bool {
        let is_free = match self.spec.addresses.as_slice() {
            [] => true,
            [one] => matches!(one.kind.as_str(), "" | "IPAddress"),
            _ => false,
        };
        is_free && self.metadata.annotation(UPSTREAM).is_none()
    }

    /// What is made for it has these labels and annotations of it: those for its infrastructure, where it says any,
    /// without what is meant for whoever makes it.
    #[must_use]
    pub fn passed_on(&self) -> PassedOn {
        let (meta, own) = (&self.metadata, &self.spec.infrastructure);
        let is_said = !own.labels.is_empty() || !own.annotations.is_empty();
        let (labels, annotations) =
            if is_said { (&own.labels, &own.annotations) } else { (&meta.labels, &meta.annotations) };
        let is_free = |key: &str| {
            !key.starts_with("gateway.networking.k8s.io/")
                && ![NAME, ACCOUNT, UPSTREAM, REPLICAS].contains(&key)
        };
        let words = |all: &Texts| -> BTreeMap<String, String> {
            all.iter().filter(|(key, _)| is_free(key)).map(|(key, it)| (key.clone(), it.clone())).collect()
        };
        PassedOn { labels: words(labels), annotations: words(annotations) }
    }
}
