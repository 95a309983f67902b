//! What a policy is attached to, to those whose requests come under it: pure. Owns which references mean something.

use ambit_cluster::kinds::policy::PolicyTarget;
use ambit_model::request_policy::Target;

use crate::index::World;
use crate::translate::waypoint::CLASSES;

/// Whose requests come under what a reference names. A service's name is known whether it is there or not.
pub(super) fn targets(world: &World, namespace: &str, target: &PolicyTarget) -> Vec<Target> {
    let service = |host: &str| format!("{namespace}/{host}").parse().ok().map(Target::Service);
    let name = target.name.as_str();
    match (target.group.as_str(), target.kind.as_str()) {
        ("" | "core", "Service") => service(&world.hostname(namespace, name)).into_iter().collect(),
        ("networking.istio.io", "ServiceEntry") => {
            let entry = world.space(namespace).and_then(|space| space.entries.get(name));
            entry.iter().flat_map(|it| &it.spec.hosts).filter_map(|host| service(&host.0)).collect()
        }
        ("gateway.networking.k8s.io", "Gateway") => {
            let namespace = namespace.parse().ok();
            namespace.map(|namespace| Target::Waypoint { namespace, name: name.into() }).into_iter().collect()
        }
        ("gateway.networking.k8s.io", "GatewayClass") => {
            let is_ours = CLASSES.iter().any(|it| it.is_ours && it.name == name);
            let is_for_all = is_ours && namespace == world.mesh.root_namespace;
            is_for_all.then_some(Target::Mesh).into_iter().collect()
        }
        _ => Vec::new(),
    }
}
