//! Steps 3 and 4: who may talk to whom, what the log says of it, and how fast a change cuts an open connection.

use super::enrolment::CART;
use super::report::Scene;
use super::stage::{SOON, Shown, Stage, eventually, says};
use crate::args::chain;
use crate::local::Component;
use crate::observe;

/// Step 3.
pub(super) fn judged(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let cart = stage.pod("shop/cart")?;
    let address = cart.ips.first().ok_or("cart has no address")?;
    let direct = format!("http://{address}:8080/");
    scene.see(
        "before",
        stage.fetch("outside/visitor", &direct).map(|_| "visitor, outside the mesh, reaches cart"),
    );
    stage.write("strict.yaml", include_str!("../../../deploy/demo-steps/strict.yaml"))?;
    let refused = eventually(SOON, || refused(stage, "outside/visitor", &direct));
    scene.see("STRICT", refused.map(|()| "STRICT: visitor is refused"));
    scene.see("web", stage.fetch("shop/web", CART).map(|_| "web still reaches cart"));
    stage.write("deny-all.yaml", include_str!("../../../deploy/demo-steps/deny-all.yaml"))?;
    let nobody = eventually(SOON, || self::refused(stage, "shop/web", CART));
    scene.see("default deny", nobody.map(|()| "an allow policy without a rule: web is refused, too"));
    stage.write("allow-web.yaml", include_str!("../../../deploy/demo-steps/allow-web.yaml"))?;
    let allowed = eventually(SOON, || stage.fetch("shop/web", CART));
    scene.see("allow web", allowed.map(|_| "web allowed by its principal: web passes"));
    scene.see("crawler", self::refused(stage, "shop/crawler", CART).map(|()| "crawler is refused"));
    stage.write("deny-crawler.yaml", include_str!("../../../deploy/demo-steps/deny-crawler.yaml"))?;
    let named = eventually(SOON, || same_policy(stage));
    scene.see("why", named.map(|policy| format!("`ambit why` and the log name the same policy: {policy}")));
    Ok(())
}

/// Step 4.
pub(super) fn cut(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let held = stage.client("shop/web", &["hold", CART])?;
    held.line(SOON, |line| says(line, "held", true))?;
    let changed = stage.write("deny-web.yaml", include_str!("../../../deploy/demo-steps/deny-web.yaml"))?;
    let cut = held.line(SOON, |line| says(line, "held", false)).map(|(at, line)| {
        let ms = at.saturating_duration_since(changed).as_secs_f64() * 1000.0;
        format!(
            "the open connection was cut {ms:.1} ms after the file changed ({})",
            line.get("why").map(ToString::to_string).unwrap_or_default()
        )
    });
    scene.see("the cut", cut);
    scene.see("new connections", refused(stage, "shop/web", CART).map(|()| "a new one is refused"));
    stage.remove("deny-web.yaml")?;
    let again = eventually(SOON, || stage.fetch("shop/web", CART));
    scene.see("undone", again.map(|_| "the policy removed, web passes again"));
    Ok(())
}

/// The pod must not get an answer.
pub(super) fn refused(stage: &Stage, pod: &str, url: &str) -> Shown<()> {
    stage.refused(pod, url)
}

/// The policy that `ambit why` names for crawler, if the log of cart's node names it, too.
fn same_policy(stage: &Stage) -> Shown<String> {
    refused(stage, "shop/crawler", CART)?;
    let told = observe::ask(&stage.mesh, "shop/crawler", "cart.shop.svc.cluster.local:8080");
    let told = told.map_err(|e| chain(&e))?;
    let policy = told.verdict.and_then(|ruling| ruling.policy).ok_or("`ambit why` names no policy")?;
    let log = stage.log(&Component::Ztunnel("node-2".to_owned()))?;
    let line = log.lines().rev().find(|line| line.contains("inbound") && line.contains("denied by"));
    let line = line.ok_or("no line of the log names a policy")?;
    if line.contains(&policy) { Ok(policy) } else { Err(format!("why says {policy}, the log says {line}")) }
}
