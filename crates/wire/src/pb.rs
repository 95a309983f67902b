//! What is generated from the schemas in `proto/`. Used at the edges only: everything inside speaks the model
//! (`convert` goes between). Owns no behaviour.

/// Declares a module with the code generated for one package, and the lints that generated code breaks.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $package:literal $(, $lint:path)*) => {
        $(#[$doc])*
        $(#[expect($lint, reason = "generated; lints are about code that people write")])*
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

generated!(
    /// Workload discovery.
    workload, "istio.workload");
generated!(
    /// Authorization policies for L4.
    security, "istio.security");
generated!(
    /// Certificates for workloads.
    auth, "istio.v1.auth", unused_qualifications, clippy::allow_attributes, clippy::too_many_lines);
generated!(
    /// Delta discovery.
    discovery,
    "envoy.service.discovery.v3",
    unused_qualifications,
    clippy::allow_attributes,
    clippy::too_many_lines);
generated!(
    /// The node link.
    zds, "istio.workload.zds");
generated!(
    /// Routes, for waypoints.
    waypoint, "ambit.waypoint.v1");
generated!(
    /// Questions to those who say whether a request may come in.
    ext_authz, "envoy.service.auth.v3");
generated!(
    /// Telling processors of requests and answers.
    ext_proc, "envoy.service.ext_proc.v3");
generated!(
    /// Questions to those who say whether there are too many requests.
    ratelimit, "envoy.service.ratelimit.v3");
generated!(
    /// Spans, for their collectors.
    otlp, "ambit.otlp");
generated!(
    /// What is told of requests, for waypoints.
    telemetry, "ambit.telemetry.v1");
