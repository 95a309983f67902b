//! The certificate authority, away for half of a certificate's life, and then for longer than one.

use std::time::{Duration, Instant};

use ambit_cluster_lab::mesh::SYSTEM;
use ambit_cluster_lab::{Lab, pause};
use anyhow::{Context as _, Result, ensure};

use crate::{PODS, SOON};

/// Short, so that the story can wait for its end. Certificates are renewed after a quarter of it.
pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
/// What the two clocks, and the looks at them, may differ by.
const SLACK: Duration = Duration::from_secs(10);

pub(crate) fn it_is_away(lab: &Lab) -> Result<()> {
    let begun = Instant::now();
    scale(lab, 0)?;
    let away = Instant::now();
    let wire = lab.capture()?;
    let load = lab.load("shop/client", "http://web.shop/half-a-life", 50)?;
    pause((LIFETIME / 2).saturating_sub(away.elapsed()));
    let load = load.finish()?;
    ensure!(load.sent > 0 && load.failed == 0, "half of a life without the authority: {load:?}");
    // From the end of the last certificate on nobody new is let in; nor does anything fall back. A tunnel that is open
    // already goes on, so it is asked for a pod that nobody has spoken to.
    pause((LIFETIME + SLACK).saturating_sub(away.elapsed()));
    let address = ["-n", "shop", "get", "pod", "unvisited", "-o", "jsonpath={.status.podIP}"];
    let unvisited = format!("http://{}:8080/too-late", lab.kubectl(&address)?);
    lab.fetch("shop/client", &unvisited).err().context("it is answered after all certificates have ended")?;
    scale(lab, 1)?;
    lab.wait("certificates to be renewed", SOON, || {
        lab.fetch("shop/client", &unvisited.replace("too-late", "after"))
    })?;
    let frames = wire.finish();
    for path in ["half-a-life", "too-late", "after"] {
        ensure!(!frames.contain(format!("GET /{path}").as_bytes()), "{path} can be read");
    }
    eprintln!(
        "the authority is away: {:.1} s, {} requests, none failed",
        begun.elapsed().as_secs_f32(),
        load.sent
    );
    Ok(())
}

fn scale(lab: &Lab, replicas: u8) -> Result<()> {
    lab.kubectl(&["-n", SYSTEM, "scale", "deployment/istiod", &format!("--replicas={replicas}")])?;
    if replicas > 0 {
        return lab.pods_ready(SYSTEM, "app=istiod", PODS);
    }
    lab.wait("the control plane to be gone", PODS, || {
        let left = lab.kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app=istiod", "-o", "name"])?;
        ensure!(left.trim().is_empty(), "{left} is left");
        Ok(())
    })
}
