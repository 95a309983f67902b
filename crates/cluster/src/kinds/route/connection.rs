//! Routes of connections: TLSRoute, by the server that is asked for, and TCPRoute. They are of one shape, but that only
//! the first has names.

use serde::Deserialize;

use super::{BackendRef, ParentRef, RouteStatus, check};
use crate::fault::Wrong;
use crate::kinds::meta::Meta;

/// A route of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectionRoute {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ConnectionRouteSpec,
    /// What is.
    pub status: RouteStatus,
}

/// What is asked of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// The servers that are asked for with TLS.
    pub hostnames: Vec<String>,
    /// The rules.
    pub rules: Vec<ConnectionRule>,
}

/// A rule of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionRule {
    /// Its name.
    pub name: String,
    /// Where they go.
    pub backend_refs: Vec<BackendRef>,
}

impl ConnectionRoute {
    /// The rules that span several fields; `named`: of a TLSRoute.
    pub(crate) fn check(&self, named: bool) -> Result<(), Wrong> {
        check::connections(&self.spec, named)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::Kind;
    use crate::kinds::read;

    fn refused(kind: Kind, spec: &Value) -> Option<String> {
        let object = json!({ "metadata": { "name": "r", "namespace": "shop" }, "spec": spec });
        read(kind, &object).err().map(|wrong| wrong.field)
    }

    #[test]
    fn a_route_of_connections_has_one_rule_and_one_of_tls_has_names() {
        let rule = json!({ "backendRefs": [{ "name": "db", "port": 5432, "weight": 3 }] });
        let tls = |names: Value, rules: Value| json!({ "hostnames": names, "rules": rules });
        for (kind, spec, field) in [
            (Kind::TcpRoute, json!({ "rules": [rule] }), None),
            (Kind::TcpRoute, json!({ "rules": [] }), Some("spec.rules")),
            (Kind::TcpRoute, json!({ "rules": [rule, rule] }), Some("spec.rules")),
            (
                Kind::TcpRoute,
                json!({ "rules": [{ "backendRefs": [{ "name": "db", "weight": 1_000_001 }] }] }),
                Some("spec.rules[0].backendRefs[0].weight"),
            ),
            (Kind::TlsRoute, tls(json!(["db.shop", "*.shop"]), json!([rule])), None),
            (Kind::TlsRoute, tls(json!([]), json!([rule])), Some("spec.hostnames")),
            (Kind::TlsRoute, tls(json!(["db.shop", "*"]), json!([rule])), Some("spec.hostnames[1]")),
            (Kind::TlsRoute, tls(json!(vec!["a"; 17]), json!([rule])), Some("spec.hostnames")),
        ] {
            assert_eq!(refused(kind, &spec).as_deref(), field, "{spec}");
        }
    }
}
