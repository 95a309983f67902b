//! Step 7: a waypoint for one service. What it does with requests, and what happens to them while it is replaced.

use std::time::{Duration, Instant};

use ambit_cluster::object::{Kind, ObjectRef};
use serde_json::Value;

use super::enrolment::{CART, in_mesh};
use super::report::Scene;
use super::stage::{Client, SOON, Shown, Stage, eventually, says};
use super::{tokens, trace};

const WAYPOINT: &str = include_str!("../../../deploy/demo-steps/waypoint.yaml");
/// Enough that a tenth of them is seen for certain: that none of them is has a chance of one in 10^11.
const ASKED: u64 = 250;
/// Requests of which every second one fails, until it is tried again.
const TRIED: u64 = 60;

/// Step 7.
pub(super) fn routed(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    attached(stage, scene)?;
    canary(stage, scene)?;
    tried_again(stage, scene)?;
    denied(stage, scene)?;
    tokens::believed(stage, scene)?;
    replaced(stage, scene)
}

fn attached(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let begun = stage.write("waypoint.yaml", WAYPOINT)?;
    let pod = eventually(SOON * 2, || waypoint(stage))?;
    scene.see(
        "the waypoint",
        Ok(format!(
            "a Gateway asks for a waypoint: pod {pod} is ready after {} ms",
            begun.elapsed().as_millis()
        )),
    );
    eventually(SOON, || in_mesh(stage, "shop/cart-v2", true))?;
    // From now on cart is asked by nobody else.
    stage.write("allow-waypoint.yaml", include_str!("../../../deploy/demo-steps/allow-waypoint.yaml"))?;
    stage.label(&ObjectRef::new(Kind::Service, "shop", "cart"), "istio.io/use-waypoint=way")?;
    for gone in ["allow-web.yaml", "allow-crawler.yaml"] {
        stage.remove(gone)?;
    }
    let through = eventually(SOON, || seen_by(stage, &pod));
    scene.see(
        "the way",
        through.map(|who| format!("service cart is labelled: the waypoint's log has the request, of {who}")),
    );
    let cart = stage.pod("shop/cart")?;
    let address = cart.ips.first().ok_or("cart has no address")?;
    let past = eventually(SOON, || stage.refused("shop/web", &format!("http://{address}:8080")));
    scene.see("past it", past.map(|()| "cart itself lets its waypoint in, and web past it no more"));
    Ok(())
}

fn canary(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    stage.write("route.yaml", include_str!("../../../deploy/demo-steps/canary.yaml"))?;
    eventually(SOON, || match stage.fetch("shop/web", CART)?.get("pod").and_then(Value::as_str) {
        Some("cart-v2") => Ok(()),
        other => Err(format!("{other:?} answers")),
    })?;
    let summary = asked(stage, ASKED)?;
    let (sent, second) = (number(&summary, "sent"), answered_by(&summary, "cart-v2"));
    // A fair share is outside of this less than once in 10^9 times.
    let is_fair = second > 0 && second * 100 < sent * 25;
    let told = format!("a route sends 10 in a hundred to cart-v2: {second} of {sent} requests went there");
    let fair = if is_fair && number(&summary, "failed") == 0 { Ok(told) } else { Err(summary.to_string()) };
    scene.see("the canary", fair);
    Ok(())
}

fn tried_again(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    stage.write(
        "route.yaml",
        include_str!("../../../deploy/demo-steps/retry.yaml")
            .split("      retry:")
            .next()
            .unwrap_or_default(),
    )?;
    stage.write("broken.yaml", include_str!("../../../deploy/demo-steps/broken.yaml"))?;
    let failing = |wanted: bool| {
        move || {
            let summary = asked(stage, TRIED)?;
            let failed = number(&summary, "failed");
            let is_it = (failed > 0) == wanted && answered_by(&summary, "cart-v2") == 0;
            if is_it { Ok((failed, number(&summary, "sent"))) } else { Err(summary.to_string()) }
        }
    };
    let (failed, sent) = eventually(SOON, failing(true))?;
    scene.see(
        "a broken pod",
        Ok(format!("a second pod of cart answers 500: {failed} of {sent} requests fail")),
    );
    stage.write("route.yaml", include_str!("../../../deploy/demo-steps/retry.yaml"))?;
    let hidden = eventually(SOON, failing(false));
    scene.see("tries", hidden.map(|(_, sent)| format!("the route has them tried again: 0 of {sent} fail")));
    trace::told(stage, scene)?;
    stage.remove("broken.yaml")
}

fn denied(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    stage.write("deny-path.yaml", include_str!("../../../deploy/demo-steps/deny-path.yaml"))?;
    let admin = format!("{CART}/admin/keys");
    // Spelled otherwise it is the same path.
    let spelled = format!("{CART}/shop/../%61dmin/keys");
    let refused = |url: &str| match stage.fetch("shop/web", url) {
        Err(why) if why.contains("403") => Ok(()),
        other => Err(format!("{url}: {other:?}")),
    };
    let both = eventually(SOON, || refused(&admin).and_then(|()| refused(&spelled)));
    let other = both.and_then(|()| stage.fetch("shop/web", &format!("{CART}/keys")));
    scene.see(
        "a path",
        other.map(|_| "a policy denies /admin: 403, also for /shop/../%61dmin; other paths are answered"),
    );
    stage.remove("deny-path.yaml")
}

fn replaced(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let before = waypoint(stage)?;
    let load = stage.client("shop/web", &["load", CART])?;
    load.line(SOON, |line| says(line, "passes", true))?;
    let begun = Instant::now();
    let again = WAYPOINT.replacen(
        "  name: way\n",
        "  name: way\n  annotations:\n    ambit.io/restarted-at: now\n",
        1,
    );
    stage.write("waypoint.yaml", &again)?;
    // Another one is ready, and the former has ended.
    let other = eventually(SOON * 2, || match waypoint(stage)? {
        other if other == before => Err(format!("{before} is still there")),
        other => Ok(other),
    })?;
    let took = begun.elapsed();
    let told = unharmed(load, took).map(|told| format!("the waypoint is replaced by {other}: {told}"));
    scene.see("the waypoint", told);
    Ok(())
}

/// The waypoint's only pod, if it is ready and traffic is sent to it.
fn waypoint(stage: &Stage) -> Shown<String> {
    let status = stage.status()?;
    let found = status.waypoints.iter().find(|it| it.name == "way").ok_or("nobody asks for a waypoint")?;
    if !found.programmed || found.ready != found.wanted || found.leaving > 0 {
        return Err(format!(
            "{} of {} ready, {} end: {}",
            found.ready, found.wanted, found.leaving, found.why
        ));
    }
    let mut pods = status.pods.iter().filter(|pod| pod.namespace == "shop" && pod.name.starts_with("way-"));
    match (pods.next(), pods.next()) {
        (Some(pod), None) if pod.ready => Ok(pod.name.clone()),
        _ => Err("there is not one pod of the waypoint".to_owned()),
    }
}

/// The identity with which a waypoint's log has a request of web's.
fn seen_by(stage: &Stage, pod: &str) -> Shown<String> {
    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
    let ticket = format!("ticket-{:016x}", fastrand::u64(..));
    stage.fetch("shop/web", &format!("{CART}/{ticket}"))?;
    let pod = stage.pod(&format!("shop/{pod}"))?;
    let logs = pod.containers.iter().map(|it| std::fs::read_to_string(&it.log).unwrap_or_default());
    let text = logs.collect::<String>();
    let line = text.lines().find(|line| line.contains(&ticket)).ok_or("the waypoint has not seen it")?;
    if line.contains(WEB) { Ok(WEB.to_owned()) } else { Err(line.to_owned()) }
}

/// Asks cart so often, from web.
fn asked(stage: &Stage, times: u64) -> Shown<Value> {
    let words = ["load", "--every-ms", "1", "--times", &times.to_string(), CART];
    let load = stage.client("shop/web", &words)?;
    load.line(SOON * 2, |line| line.get("sent").is_some()).map(|(_, summary)| summary)
}

fn number(summary: &Value, key: &str) -> u64 {
    summary.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn answered_by(summary: &Value, pod: &str) -> u64 {
    summary.get("answered").and_then(|by| by.get(pod)).and_then(Value::as_u64).unwrap_or_default()
}

/// Every request of the load was answered.
fn unharmed(load: Client, took: Duration) -> Shown<String> {
    let summary = load.finish()?;
    let (sent, failed) = (number(&summary, "sent"), number(&summary, "failed"));
    let told = format!(
        "within {} ms {sent} requests, {failed} failed, the longest took {} ms",
        took.as_millis(),
        number(&summary, "longest_ms")
    );
    if failed == 0 && sent > 0 { Ok(told) } else { Err(format!("{told} {summary}")) }
}
