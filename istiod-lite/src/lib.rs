//! The control plane: translates the cluster, issues certificates, serves delta xDS.
