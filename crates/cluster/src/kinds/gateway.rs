//! Gateways and their classes, as far as waypoints and ways into other networks need them. What other kinds of gateways
//! make use of beside that is passed over, and no value that only those know makes a gateway unreadable.

use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::{LabelSelector, Meta, Texts};
use crate::kinds::policy::PolicyCondition;
use crate::kinds::scalar::Port;

/// A gateway: something that traffic goes through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Gateway {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: GatewaySpec,
    /// What is.
    pub status: GatewayStatus,
}

impl Gateway {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        for (at, listener) in self.spec.listeners.iter().enumerate() {
            if let Some(selector) = &listener.allowed_routes.namespaces.selector {
                selector.check(&format!("spec.listeners[{at}].allowedRoutes.namespaces.selector"))?;
            }
        }
        Ok(())
    }
}

/// What is asked of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Its class.
    pub gateway_class_name: String,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Where it is to be; none: somewhere.
    pub addresses: Vec<GatewayAddress>,
    /// What is made for it is to be like this.
    pub infrastructure: Infrastructure,
}

/// Where a gateway listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: Port,
    /// What is spoken there.
    pub protocol: String,
    /// What may be attached.
    pub allowed_routes: AllowedRoutes,
}

/// What may be attached to a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AllowedRoutes {
    /// From where.
    pub namespaces: RouteNamespaces,
}

/// The namespaces from where something may be attached to a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RouteNamespaces {
    /// Which.
    pub from: From,
    /// By their labels.
    pub selector: Option<LabelSelector>,
}

/// Which namespaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum From {
    /// All.
    All,
    /// Those with certain labels.
    Selector,
    /// The gateway's own.
    #[default]
    Same,
    /// None, or what is not known here: nobody is let in by a word that is not understood.
    #[serde(other)]
    Nobody,
}

/// An address of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GatewayAddress {
    /// `IPAddress` (also when empty), `Hostname`, or something else.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub value: String,
}

/// How what is made for a gateway is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Infrastructure {
    /// Labels.
    pub labels: Texts,
    /// Annotations.
    pub annotations: Texts,
    /// An object that says more.
    pub parameters_ref: Option<Parameters>,
}

/// An object with parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What is true of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GatewayStatus {
    /// Where it is.
    pub addresses: Vec<GatewayAddress>,
    /// What is true of it.
    pub conditions: Vec<PolicyCondition>,
    /// What is true of its listeners.
    pub listeners: Vec<ListenerStatus>,
}

/// What is true of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// How many routes are attached.
    pub attached_routes: u32,
    /// What is true of it.
    pub conditions: Vec<PolicyCondition>,
}

/// A class of gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GatewayClass {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: GatewayClassSpec,
    /// What is.
    pub status: GatewayClassStatus,
}

/// Who sees to the gateways of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayClassSpec {
    /// Its controller.
    pub controller_name: String,
}

/// What is true of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GatewayClassStatus {
    /// What is true of it.
    pub conditions: Vec<PolicyCondition>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::read;
    use crate::object::{Body, Kind};

    fn listening(listener: &serde_json::Value) -> Result<Body, Wrong> {
        let spec = json!({"gatewayClassName": "x", "listeners": [listener]});
        read(Kind::Gateway, &json!({"metadata": {"name": "g", "namespace": "shop"}, "spec": spec}))
    }

    #[test]
    fn a_gateway_of_anybodys_reads_and_a_word_that_is_not_known_lets_nobody_in() {
        let listener = json!({
            "name": "web", "port": 443, "protocol": "example.com/FANCY", "hostname": "*.example",
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": "c"}]},
            "allowedRoutes": {"namespaces": {"from": "Friends"}, "kinds": [{"kind": "TCPRoute"}]},
        });
        let Ok(Body::Gateway(gateway)) = listening(&listener) else { panic!("it does not read") };
        assert_eq!(gateway.spec.listeners[0].allowed_routes.namespaces.from, From::Nobody);
    }

    #[test]
    fn what_no_gateway_can_be_is_refused_with_its_field() {
        let wrong = listening(&json!({"name": "mesh", "port": 0, "protocol": "HBONE"})).unwrap_err();
        assert_eq!((wrong.field.as_str(), wrong.value.as_str()), ("spec.listeners[0].port", "0"));
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
        let namespaces = json!({"from": "Selector", "selector": selector});
        let listener = json!({"name": "mesh", "port": 1, "allowedRoutes": {"namespaces": namespaces}});
        assert!(listening(&listener).unwrap_err().field.contains("listeners[0].allowedRoutes"));
    }
}
