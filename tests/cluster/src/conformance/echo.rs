//! The images that the suite's pods name: programs that answer, and one that asks.
//! Owns what is in them. No registry is asked.

use std::fs;
use std::path::PathBuf;

use ambit_images::Image;
use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};

use crate::binaries::Suite;
use crate::layout::Layout;

/// As the suite's manifests of meshes name theirs.
const ADVANCED: &str = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1";
/// As ours name what answers in tests of gateways.
const BASIC: &str = "localhost/ambit-lab-echo-basic:1";

/// Writes them as tars.
pub(super) fn write(layout: &Layout, suite: &Suite) -> Result<[PathBuf; 2]> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["echo".to_owned()])?.self_signed(&key)?;
    let advanced = Image::new(ADVANCED)
        .program("usr/local/bin/server", &suite.server)?
        .program("usr/local/bin/client", &suite.client)?
        // Its port of TLS does not open without them.
        .file("cert.crt", 0o644, certificate.pem().as_bytes())
        .file("cert.key", 0o644, key.serialize_pem().as_bytes())
        .entrypoint(&["/usr/local/bin/server"]);
    let basic = Image::new(BASIC)
        .program("usr/local/bin/echo-basic", &suite.basic)?
        .entrypoint(&["/usr/local/bin/echo-basic"]);
    fs::create_dir_all(layout.images())?;
    let tars = ["echo-advanced.tar", "echo-basic.tar"].map(|name| layout.images().join(name));
    for (image, tar) in [advanced, basic].iter().zip(&tars) {
        image.write(tar)?;
    }
    Ok(tars)
}
