//! What is said of those who have a say in what is told of requests (`waypoint.md` 4.6): whether waypoints go by it, and
//! what of it is not honoured.

use ambit_cluster::kinds::telemetry::Telemetry;

use super::bound::enforced;
use super::{Condition, WAYPOINT_ACCEPTED};
use crate::index::World;
use crate::translate::telemetry::{Reading, telemetry};

/// What there is to say of one.
pub(super) fn said(world: &World, object: &Telemetry) -> Option<Condition> {
    let condition = |status, reason, text: String| Condition::new(WAYPOINT_ACCEPTED, status, reason, text);
    if object.spec.selects() {
        let text = "it is for chosen workloads, which only sidecars tell apart; attach it with targetRefs, or leave the selector out";
        return Some(condition("False", "UnsupportedValue", text.into()));
    }
    let Reading { telemetry, notes, outdone } = telemetry(world, object);
    let before =
        (!outdone.is_empty()).then(|| format!("an older one goes before it: {}", outdone.join(", ")));
    if let (None, Some(text)) = (&telemetry, &before) {
        return Some(condition("False", "Conflicted", text.clone()));
    }
    let ignored = (!notes.is_empty()).then(|| format!("not honoured: {}", notes.join("; ")));
    let more: Vec<String> = [before, ignored].into_iter().flatten().collect();
    let targets: Vec<_> = object.spec.targets().collect();
    if !targets.is_empty() {
        let otherwise = || (!more.is_empty()).then(|| more.join("; "));
        return enforced(world, (&object.metadata.namespace, targets), otherwise);
    }
    let of_mesh = object.metadata.namespace == world.mesh.root_namespace;
    let whose = if of_mesh {
        "gone by by all waypoints of the mesh"
    } else {
        "gone by by the waypoints of its namespace, and for its services by those of others"
    };
    let reason = if more.is_empty() { "Accepted" } else { "PartiallyInvalid" };
    let all = std::iter::once(whose.to_owned()).chain(more).collect::<Vec<_>>();
    Some(condition("True", reason, all.join("; ")))
}
