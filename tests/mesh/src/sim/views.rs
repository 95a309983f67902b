//! Is a node's view what it must be? Of everything: what is true. Of what it named: that, whole and current, and
//! nothing that is not true.

use std::sync::Arc;

use ambit_model::snapshot::Snapshot;
use ambit_model::workload::Workload;
use ambit_xds::subscriber::Mode;

use super::node::{Node, mode};

/// What is wrong with a node's view.
pub(super) fn differ(index: usize, node: &Node, truth: &Snapshot) -> Option<String> {
    let held = node.world.workloads().count() + node.world.services().count() + node.world.policies().count();
    if node.subscriber.retained() != held {
        return Some(format!("reports {} and holds {held}", node.subscriber.retained()));
    }
    match mode(index) {
        Mode::Wildcard if node.world == *truth => None,
        Mode::Wildcard => Some(format!("holds {:?} and not {truth:?}, or other versions", node.world)),
        Mode::OnDemand => untrue(&node.world, truth).or_else(|| lacking(index, node, truth)),
    }
}

/// Something it holds that is not true.
fn untrue(world: &Snapshot, truth: &Snapshot) -> Option<String> {
    let workload = world.workloads().find(|w| truth.workload(&w.uid) != Some(w));
    let service = world.services().find(|s| truth.service(&s.key()) != Some(s));
    let policies = world.policies().count() != truth.policies().count()
        || world.policies().any(|p| truth.policy(&p.key) != Some(p));
    workload
        .map(|w| format!("holds {w:?}, which is {:?}", truth.workload(&w.uid)))
        .or_else(|| service.map(|s| format!("holds {s:?}, which is {:?}", truth.service(&s.key()))))
        .or_else(|| policies.then(|| "holds other policies".into()))
}

/// Something it named, or that runs on it, that it does not hold.
fn lacking(index: usize, node: &Node, truth: &Snapshot) -> Option<String> {
    let own = truth.workloads_on(&format!("node-{index}").as_str().into()).cloned();
    let mut workloads: Vec<Arc<Workload>> = own.collect();
    for name in &node.asked {
        if let Some(workload) = truth.workload(&name.as_str().into()) {
            workloads.push(Arc::clone(workload));
        }
        let address = name.strip_prefix('/').and_then(|ip| ip.parse::<std::net::IpAddr>().ok());
        let here = |w: &&Arc<Workload>| address.is_some_and(|ip| w.addresses.contains(&ip));
        let with_address: Vec<_> = truth.workloads().filter(here).cloned().collect();
        let services = truth.services().filter(|s| match address {
            Some(ip) => with_address.is_empty() && s.vips.iter().any(|vip| vip.ip == ip),
            None => s.key().to_string() == *name,
        });
        for service in services {
            if node.world.service(&service.key()).is_none() {
                return Some(format!("lacks {}, having asked for {name}", service.key()));
            }
            workloads.extend(truth.endpoints(&service.key()).cloned());
        }
        workloads.extend(with_address);
    }
    let missing = workloads.iter().find(|w| node.world.workload(&w.uid).is_none());
    missing.map(|w| format!("lacks {}, having asked for {:?}", w.uid, node.asked))
}
