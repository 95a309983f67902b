//! How an endpoint is chosen, from what manifests say (`control-plane.md` 1.6, 1.8).

use ambit_model::service::{BalanceMode, HealthRule, LoadBalancing, Scope};

/// The annotation on services, service entries and namespaces.
const ANNOTATION: &str = "networking.istio.io/traffic-distribution";

/// What a service prefers, from the nearest place that says something; a word that is not known means no
/// preference and ends the search.
pub(super) fn preference(
    field: Option<&str>,
    object: &ambit_cluster::kinds::meta::Meta,
    space: &crate::index::Space,
) -> Option<LoadBalancing> {
    let said = field.or_else(|| object.annotation(ANNOTATION)).or_else(|| space.annotation(ANNOTATION))?;
    let near = [Scope::Network, Scope::Region, Scope::Zone];
    let nearest = [Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];
    match said.to_ascii_lowercase().as_str() {
        "prefersamezone" | "preferclose" => Some(rule(&near, BalanceMode::Failover)),
        "prefersamenode" => Some(rule(&nearest, BalanceMode::Failover)),
        _ => None,
    }
}

/// Only endpoints of the client's node.
pub(super) fn same_node() -> LoadBalancing {
    rule(&[Scope::Node], BalanceMode::Strict)
}

/// The destination is kept as the client chose it.
pub(super) fn passthrough() -> LoadBalancing {
    unready_too(Some(rule(&[], BalanceMode::Passthrough)))
}

/// As given, with unready endpoints as well.
pub(super) fn unready_too(given: Option<LoadBalancing>) -> LoadBalancing {
    let given = given.unwrap_or_else(|| rule(&[], BalanceMode::Standard));
    LoadBalancing { health: HealthRule::AllowAll, ..given }
}

fn rule(preference: &[Scope], mode: BalanceMode) -> LoadBalancing {
    LoadBalancing { preference: preference.into(), mode, health: HealthRule::OnlyHealthy }
}
