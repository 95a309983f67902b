//! Test targets: simulation, namespaces, conformance, performance.

pub mod sim;
