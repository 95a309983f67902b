//! Test targets: simulation, namespaces, conformance, performance.
