//! This node's pods and all namespaces as the cluster tells them: one writer, everybody reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_cluster::files::Event;
use ambit_cluster::kinds::core::{Namespace, Pod};
use ambit_cluster::{Body, Kind, ObjectRef, Source};
use ambit_process::stop::Stop;
use tokio::sync::watch;
use tracing::warn;

use crate::node::want::Criteria;

/// What is known of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Everything that was there at the start is in.
    pub(crate) complete: bool,
    /// Pods of this node.
    pub(crate) pods: BTreeMap<ObjectRef, Arc<Pod>>,
    namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    /// Every pod's namespace has an object, so that one without was only not told of yet.
    strict: bool,
}

impl View {
    /// Before anything is known: of a cluster's API, or of manifests, which may leave namespaces out.
    pub(crate) fn new(source: &Source) -> Self {
        Self { strict: matches!(source, Source::Api(_)), ..Self::default() }
    }

    /// Whether a namespace's labels are known, as far as they ever will be.
    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        !self.strict || self.namespaces.contains_key(name)
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name).map(AsRef::as_ref)
    }

    /// Whether a pod and its namespace are the very objects of an earlier view.
    pub(crate) fn is_unchanged(&self, reference: &ObjectRef, pod: &Arc<Pod>, earlier: &Self) -> bool {
        let namespace = |view: &Self| view.namespaces.get(&*pod.metadata.namespace).map(Arc::as_ptr);
        earlier.pods.get(reference).is_some_and(|it| Arc::ptr_eq(it, pod))
            && namespace(self) == namespace(earlier)
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(&ObjectRef::new(Kind::Pod, namespace, name))
    }

    /// Whether this node has a ztunnel of the cluster's, running or about to.
    pub(crate) fn expects_ztunnel(&self, by: &Criteria) -> bool {
        self.pods.values().any(|pod| by.is_ztunnel(pod) && !pod.is_over())
    }

    fn take(&mut self, event: Event, node: &str) {
        match event {
            Event::Applied(object) => match object.body {
                Body::Pod(pod) if pod.spec.node_name == node => {
                    self.pods.insert(object.reference, pod);
                }
                // Not placed yet, or moved away as a pod of the same name made again.
                Body::Pod(_) => {
                    self.pods.remove(&object.reference);
                }
                Body::Namespace(namespace) => {
                    self.namespaces.insert(object.reference.name, namespace);
                }
                _ => {}
            },
            Event::Gone(object) if object.kind == Kind::Pod => {
                self.pods.remove(&object);
            }
            Event::Gone(object) if object.kind == Kind::Namespace => {
                self.namespaces.remove(&object.name);
            }
            Event::Gone(_) => {}
            Event::Complete => self.complete = true,
            Event::Fault(fault) => warn!(%fault, "an object is not used"),
        }
    }
}

/// Follows the cluster until `stop`.
pub(crate) async fn follow(mut cluster: Source, node: String, publish: watch::Sender<Arc<View>>, stop: Stop) {
    let mut view = View::new(&cluster);
    loop {
        // Both arms are cancel-safe.
        let first = tokio::select! {
            () = stop.stopped() => return,
            event = cluster.next() => event,
        };
        view.take(first, &node);
        while let Some(event) = cluster.ready() {
            view.take(event, &node);
        }
        publish.send_replace(Arc::new(view.clone()));
    }
}
