//! What the cluster holds: objects from a directory of manifests, and where status is written.
