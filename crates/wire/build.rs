//! Compiles the schemas in `proto/` to Rust, with no protoc installed.

use std::error::Error;

const SCHEMAS: [&str; 5] = ["workload.proto", "security.proto", "auth.proto", "discovery.proto", "zds.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(SCHEMAS, ["proto"])?;
    // Ordered maps: the same message always has the same bytes, which resource versions rest on.
    // `Bytes`: a payload shares the memory of the message it came in.
    // Boxed: an address costs what it holds, not the larger of the two kinds.
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        .boxed(".istio.workload.Address.type.workload")
        .boxed(".istio.workload.Address.type.service")
        .compile_fds(files)?;
    Ok(())
}
