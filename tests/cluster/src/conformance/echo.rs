//! The image that the suite's pods name: the program that answers, and the one that asks.
//! Owns what is in it. No registry is asked.

use std::fs;
use std::path::PathBuf;

use ambit_images::Image;
use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};

use crate::binaries::Suite;
use crate::layout::Layout;

/// As the suite's manifests name it.
const NAME: &str = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1";

/// Writes it as a tar.
pub(super) fn write(layout: &Layout, suite: &Suite) -> Result<PathBuf> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["echo".to_owned()])?.self_signed(&key)?;
    let image = Image::new(NAME)
        .program("usr/local/bin/server", &suite.server)?
        .program("usr/local/bin/client", &suite.client)?
        // Its port of TLS does not open without them.
        .file("cert.crt", 0o644, certificate.pem().as_bytes())
        .file("cert.key", 0o644, key.serialize_pem().as_bytes())
        .entrypoint(&["/usr/local/bin/server"]);
    fs::create_dir_all(layout.images())?;
    let tar = layout.images().join("echo.tar");
    image.write(&tar)?;
    Ok(tar)
}
