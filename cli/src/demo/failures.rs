//! Step 6: programs that die or are replaced, and the traffic that must not notice.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::enrolment::CART;
use super::judgement::refused;
use super::report::Scene;
use super::stage::{Client, SOON, Shown, Stage, eventually, says};
use crate::local::{Component, Request, is_ready, replace_ztunnel};

/// How long traffic is watched while something is away.
const WATCHED: Duration = Duration::from_millis(700);
const NODES: [&str; 2] = ["node-1", "node-2"];

/// Step 6.
pub(super) fn survived(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let held = stage.client("shop/web", &["hold", CART])?;
    held.line(SOON, |line| says(line, "held", true))?;
    without_istiod(stage, scene, &held)?;
    without_cni(stage, scene)?;
    overlapped(stage, scene)
}

fn without_istiod(stage: &Stage, scene: &mut Scene, held: &Client) -> Shown<()> {
    stage.tell(&Request::Kill(Component::Istiod))?;
    // The change that must arrive later: crawler may reach cart.
    stage.remove("deny-crawler.yaml")?;
    stage.write("allow-crawler.yaml", include_str!("../../../deploy/demo-steps/allow-crawler.yaml"))?;
    let new = stage.fetch("shop/web", CART);
    scene.see("new connections", new.map(|_| "istiod-lite killed: new connections go on"));
    let open = still_held(held);
    scene.see("open connections", open.map(|()| "an open connection goes on"));
    scene.see(
        "frozen",
        refused(stage, "shop/crawler", CART).map(|()| "a change made meanwhile is not in force"),
    );
    stage.tell(&Request::Start(Component::Istiod))?;
    let begun = Instant::now();
    let arrived = eventually(SOON * 2, || stage.fetch("shop/crawler", CART));
    scene.see(
        "the change",
        arrived.map(|_| {
            format!("istiod-lite returned: the change arrived within {} ms", begun.elapsed().as_millis())
        }),
    );
    Ok(())
}

fn without_cni(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let load = stage.client("shop/web", &["load", CART])?;
    load.line(SOON, |line| says(line, "passes", true))?;
    for node in NODES {
        stage.tell(&Request::Kill(Component::Cni(node.to_owned())))?;
    }
    std::thread::park_timeout(WATCHED);
    for node in NODES {
        stage.tell(&Request::Start(Component::Cni(node.to_owned())))?;
    }
    eventually(SOON, || all_ready(stage))?;
    std::thread::park_timeout(WATCHED);
    scene.see("the CNI daemons", unharmed(load).map(|sent| format!("CNI daemons killed and back: {sent}")));
    Ok(())
}

fn overlapped(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let load = stage.client("shop/web", &["load", CART])?;
    load.line(SOON, |line| says(line, "passes", true))?;
    for node in NODES {
        replace_ztunnel(&stage.mesh, node).map_err(|e| e.to_string())?;
    }
    scene.see("the ztunnels", unharmed(load).map(|sent| format!("ztunnels replaced with overlap: {sent}")));
    Ok(())
}

/// The held connection reports again, and that it is held.
fn still_held(held: &Client) -> Shown<()> {
    let (_, line) = held.line(SOON, |line| line.get("held").is_some())?;
    if says(&line, "held", true) { Ok(()) } else { Err(line.to_string()) }
}

/// Every request of the load was answered.
fn unharmed(load: Client) -> Shown<String> {
    let summary = load.finish()?;
    let number = |key: &str| summary.get(key).and_then(Value::as_u64).unwrap_or_default();
    let told = format!(
        "{} new connections, {} failed, the longest took {} ms",
        number("sent"),
        number("failed"),
        number("longest_ms")
    );
    if number("failed") == 0 && number("sent") > 0 { Ok(told) } else { Err(format!("{told} {summary}")) }
}

fn all_ready(stage: &Stage) -> Shown<()> {
    let status = stage.status()?;
    let away = status.components.iter().find(|c| !is_ready(&stage.mesh, c));
    away.map_or(Ok(()), |c| Err(format!("{} is not ready", c.component)))
}
