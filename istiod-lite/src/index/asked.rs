//! Which labels of workloads routes look at (`waypoint.md` 4.1, `sourceLabels`). Owns counting them, so that workloads
//! are told with those labels and no others: nearly always with none.

use std::collections::BTreeMap;

use ambit_cluster::kinds::meta::Texts;
use ambit_cluster::kinds::virtual_service::VirtualService;
use ambit_wire::limits;

use crate::index::World;

/// Keys of labels, by how many objects ask for them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    keys: BTreeMap<Box<str>, usize>,
    /// How often the set of keys has changed.
    changes: u64,
}

impl Asked {
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn enter(&mut self, object: &VirtualService) {
        for key in keys(object) {
            let count = self.keys.entry(key.as_str().into()).or_default();
            *count += 1;
            self.changes += u64::from(*count == 1);
        }
    }

    pub(super) fn leave(&mut self, object: &VirtualService) {
        for key in keys(object) {
            let Some(count) = self.keys.get_mut(key.as_str()) else { continue };
            *count -= 1;
            if *count == 0 {
                self.keys.remove(key.as_str());
                self.changes += 1;
            }
        }
    }
}

impl World {
    /// Those labels of a workload that some route looks at.
    #[must_use]
    pub fn looked_at(&self, labels: &Texts) -> BTreeMap<Box<str>, Box<str>> {
        let keys = self.asked.keys.keys().take(limits::WORKLOAD_LABELS);
        keys.filter_map(|key| Some((key.clone(), labels.get(key)?.as_str().into()))).collect()
    }

    /// Whether waypoints are told a label: of the very many that may be asked for, not the last.
    #[must_use]
    pub fn is_told(&self, key: &str) -> bool {
        self.asked.keys.keys().take(limits::WORKLOAD_LABELS).any(|it| **it == *key)
    }
}

fn keys(object: &VirtualService) -> impl Iterator<Item = &String> {
    let spec = &object.spec;
    let http = spec.http.iter().flat_map(|it| &it.matches).map(|it| &it.source_labels);
    let tls = spec.tls.iter().flat_map(|it| &it.matches);
    let tcp = spec.tcp.iter().flat_map(|it| &it.matches);
    http.chain(tls.chain(tcp).map(|it| &it.source_labels)).flat_map(Texts::keys)
}

#[cfg(test)]
mod tests {
    use ambit_cluster::{Kind, ObjectRef};

    use crate::index::unit::UnitKind;
    use crate::testing;

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web, version: v1}}, status: {podIPs: [{ip: 10.0.0.1}]}}\n";

    fn asking(label: &str) -> String {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: r, namespace: shop}}, spec: {{hosts: [a], http: [{{match: [{{sourceLabels: {{{label}: x}}}}], redirect: {{}}}}]}}}}\n"
        )
    }

    #[test]
    fn workloads_are_told_with_the_labels_that_routes_look_at_and_told_again_when_those_change() {
        let mut world = testing::world(POD);
        let labels = world.space("shop").unwrap().pods["web"].metadata.labels.clone();
        assert!(world.looked_at(&labels).is_empty());
        let asked = testing::world(&format!("{POD}{}", asking("app")));
        assert_eq!(asked.looked_at(&labels).into_iter().collect::<Vec<_>>(), [("app".into(), "web".into())]);
        assert!(asked.is_told("app") && !asked.is_told("version"));
        world = asked;
        let touched = world.remove(&ObjectRef::new(Kind::VirtualService, "shop", "r"));
        assert!(touched.iter().any(|it| it.kind == UnitKind::Pod && &*it.name == "web"), "{touched:?}");
        assert!(world.looked_at(&labels).is_empty());
    }
}
