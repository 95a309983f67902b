//! Compiles the schemas in `proto/` to Rust, with no protoc installed.

use std::error::Error;

const SCHEMAS: [&str; 13] = [
    "workload.proto",
    "security.proto",
    "auth.proto",
    "discovery.proto",
    "zds.proto",
    "waypoint.proto",
    "otlp.proto",
    "ext_authz.proto",
    "ext_proc.proto",
    "processor.proto",
    "rate_limit.proto",
    "rls.proto",
    "telemetry.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(SCHEMAS, ["proto"])?;
    // Ordered maps: the same message always has the same bytes, which resource versions rest on.
    // `Bytes`: a payload shares the memory of the message it came in.
    // Boxed: an address costs what it holds, not the larger of the two kinds; nor does a rule without filters.
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        .boxed(".istio.workload.Address.type.workload")
        .boxed(".istio.workload.Address.type.service")
        .boxed(".ambit.waypoint.v1.Rule.change.filters")
        .boxed(".ambit.waypoint.v1.Backend.change.filters")
        .compile_fds(files)?;
    Ok(())
}
