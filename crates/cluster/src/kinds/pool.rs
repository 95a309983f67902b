//! What many objects say alike: the pods of a deployment have the same labels, containers and owner, those of a node
//! its name. Owns one copy of each, so that fifty thousand pods take the memory of what tells them apart.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::kinds::core::{Container, Pod};
use crate::kinds::meta::{Meta, Owner, Texts};
use crate::kinds::text::Text;
use crate::object::Body;

/// Below this it is not looked what nobody has any more.
const LOOKED_THROUGH: usize = 1024;

/// One copy of each.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    words: HashSet<Arc<str>>,
    texts: HashSet<Texts>,
    containers: HashSet<Arc<[Container]>>,
    owners: HashSet<Arc<[Owner]>>,
    /// When there are so many, it is looked what nobody has any more.
    look_at: usize,
}

impl Pool {
    /// Lets an object that was just read share what others have said. Of one that somebody holds already, nothing.
    pub(crate) fn share(&mut self, body: &mut Body) {
        match body {
            Body::Pod(it) => Arc::get_mut(it).into_iter().for_each(|it| self.pod(it)),
            Body::Service(it) => Arc::get_mut(it).into_iter().for_each(|it| self.meta(&mut it.metadata)),
            Body::EndpointSlice(it) => {
                Arc::get_mut(it).into_iter().for_each(|it| self.meta(&mut it.metadata));
            }
            Body::Node(it) => Arc::get_mut(it).into_iter().for_each(|it| self.meta(&mut it.metadata)),
            // There are few of those.
            Body::Namespace(_)
            | Body::ServiceAccount(_)
            | Body::Gateway(_)
            | Body::GatewayClass(_)
            | Body::HttpRoute(_)
            | Body::GrpcRoute(_)
            | Body::TlsRoute(_)
            | Body::TcpRoute(_)
            | Body::BackendTlsPolicy(_)
            | Body::AuthorizationPolicy(_)
            | Body::PeerAuthentication(_)
            | Body::RequestAuthentication(_)
            | Body::RateLimitPolicy(_)
            | Body::ExtProcPolicy(_)
            | Body::ServiceEntry(_)
            | Body::WorkloadEntry(_)
            | Body::VirtualService(_)
            | Body::DestinationRule(_)
            | Body::Telemetry(_)
            | Body::ConfigMap(_)
            | Body::Secret(_) => {}
        }
        let held = self.words.len() + self.texts.len() + self.containers.len() + self.owners.len();
        if held >= self.look_at.max(LOOKED_THROUGH) {
            self.sweep();
        }
    }

    /// Lets go of what nobody has any more.
    pub(crate) fn sweep(&mut self) {
        self.words.retain(|it| Arc::strong_count(it) > 1);
        self.texts.retain(Texts::is_shared);
        self.containers.retain(|it| Arc::strong_count(it) > 1);
        self.owners.retain(|it| Arc::strong_count(it) > 1);
        let held = self.words.len() + self.texts.len() + self.containers.len() + self.owners.len();
        self.look_at = 2 * held;
    }

    fn pod(&mut self, pod: &mut Pod) {
        self.meta(&mut pod.metadata);
        let spec = &mut pod.spec;
        self.word(&mut spec.node_name);
        self.word(&mut spec.service_account_name);
        one(&mut self.containers, &mut spec.containers);
        one(&mut self.containers, &mut spec.init_containers);
    }

    fn meta(&mut self, meta: &mut Meta) {
        self.word(&mut meta.generate_name);
        one(&mut self.texts, &mut meta.labels);
        one(&mut self.texts, &mut meta.annotations);
        one(&mut self.owners, &mut meta.owner_references);
    }

    fn word(&mut self, text: &mut Text) {
        one(&mut self.words, &mut text.0);
    }
}

/// The copy that is kept, which is this one if there is none.
fn one<T: Clone + Eq + Hash>(kept: &mut HashSet<T>, it: &mut T) {
    match kept.get(it) {
        Some(known) => *it = known.clone(),
        None => drop(kept.insert(it.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::read_text;
    use crate::object::Kind;

    fn pod(pool: &mut Pool, name: &str, node: &str, app: &str) -> Arc<Pod> {
        let text = serde_json::json!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}, "generateName": "web-",
                         "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": true}]},
            "spec": {"nodeName": node, "containers": [{"name": "web", "ports": [{"containerPort": 80}]}]},
        });
        let mut body = read_text(Kind::Pod, &text.to_string()).unwrap();
        let before = body.clone();
        pool.share(&mut body);
        assert_eq!(body, before, "of one that somebody holds already, nothing is touched");
        drop(before);
        let (before, Body::Pod(it)) = (read_text(Kind::Pod, &text.to_string()).unwrap(), &mut body) else {
            panic!("it is a pod")
        };
        pool.pod(Arc::get_mut(it).unwrap());
        assert_eq!(Body::Pod(Arc::clone(it)), before, "it says what it said");
        Arc::clone(it)
    }

    #[test]
    fn what_objects_say_alike_is_there_once_and_goes_with_the_last_of_them() {
        let mut pool = Pool::default();
        let (a, b) = (pod(&mut pool, "a", "n1", "web"), pod(&mut pool, "b", "n1", "web"));
        let c = pod(&mut pool, "c", "n2", "other");
        assert!(Arc::ptr_eq(&a.spec.containers, &c.spec.containers));
        assert!(Arc::ptr_eq(&a.metadata.owner_references, &c.metadata.owner_references));
        assert!(Arc::ptr_eq(&a.spec.node_name.0, &b.spec.node_name.0));
        // No annotations, and two sets of labels.
        assert_eq!(pool.texts.len(), 3);
        drop((a, b));
        pool.sweep();
        assert_eq!((pool.texts.len(), pool.containers.len()), (1, 2));
        assert_eq!(pool.words.iter().filter(|it| it.starts_with('n')).count(), 1);
        drop(c);
        pool.sweep();
        assert!(pool.texts.is_empty() && pool.owners.is_empty());
    }
}
