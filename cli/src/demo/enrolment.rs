//! Steps 1, 2 and 5: traffic without the mesh, pods that join while they run, a pod that joins at its start,
//! a pod that leaves.

use ambit_cluster::object::{Kind, ObjectRef};
use serde_json::Value;

use super::report::Scene;
use super::stage::{SOON, Shown, Stage, eventually};
use super::traces::traces;
use crate::capture::{Segment, is_tls, shows};
use crate::local::Component;

/// Where HBONE tunnels arrive.
const HBONE: u16 = 15008;
/// Where the pods' own servers listen.
const APP: u16 = 8080;
const SHOP: [&str; 3] = ["shop/web", "shop/cart", "shop/crawler"];
const FAMILIES: [(&str, &str); 2] = [("-4", "IPv4"), ("-6", "IPv6")];
pub(super) const CART: &str = "http://cart.shop:8080";

/// Step 1.
pub(super) fn without_the_mesh(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    eventually(SOON, || stage.fetch("shop/web", &format!("{CART}/warm-up")))?;
    for (option, family) in FAMILIES {
        let ticket = ticket();
        let seen =
            request(stage, "shop/web", &format!("{CART}/{ticket}"), option).and_then(|(answer, wire)| {
                from_itself(stage, "shop/web", &answer)?;
                let readable = shows(&wire, &ticket);
                readable.then_some(()).ok_or("the request was not readable on the wire")?;
                Ok(format!("{family}: cart answered; the request is readable on the wire between the nodes"))
            });
        scene.see(family, seen);
    }
    scene.see(
        "traces",
        untouched(stage, "shop/web").map(|()| "no rule and no listener of a mesh in the pods"),
    );
    Ok(())
}

/// Step 2.
pub(super) fn joined(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let before = stage.processes()?;
    stage.label(&ObjectRef::new(Kind::Namespace, "", "shop"), "istio.io/dataplane-mode=ambient")?;
    let enrolled = eventually(SOON, || SHOP.iter().try_for_each(|pod| in_mesh(stage, pod, true)));
    scene.see("enrolment", enrolled.map(|()| "the three pods of shop are in the mesh"));
    for (option, family) in FAMILIES {
        let seen = eventually(SOON, || tunnelled(stage, "shop/web", CART, option));
        scene.see(
            family,
            seen.map(|records| {
                format!("{family}: the same request; {records} TLS records to {HBONE}, no plaintext; cart saw web's own address")
            }),
        );
    }
    for (node, direction) in [("node-1", "outbound"), ("node-2", "inbound")] {
        let line = eventually(SOON, || access_line(stage, node, direction));
        scene.see("access line", line.map(|line| format!("{node} {direction}: {line}")));
    }
    let after = stage.processes()?;
    let same =
        if before == after { Ok("no process of any pod was restarted") } else { Err(format!("{after:?}")) };
    scene.see("processes", same);
    Ok(())
}

/// Step 5.
pub(super) fn late(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    // Back to: allowed unless a rule selects the pod. What was said of cart stays in force.
    stage.remove("deny-all.yaml")?;
    stage.write("late.yaml", include_str!("../../../deploy/demo-steps/late.yaml"))?;
    eventually(SOON, || running(stage, "shop/late"))?;
    scene.see(
        "a new pod",
        redirected(stage, "shop/late").map(|()| "pod late runs, and was redirected before it did"),
    );
    let came = eventually(SOON, || in_mesh(stage, "shop/late", true));
    scene.see("a new pod", came.map(|()| "late is in the mesh"));
    let late = stage.pod("shop/late")?;
    let address = late.ips.first().ok_or("late has no address")?;
    let url = format!("http://{address}:{APP}");
    let seen = eventually(SOON, || tunnelled(stage, "shop/web", &url, "-4"));
    scene.see("late", seen.map(|_| "web reaches late through a tunnel, nothing in plaintext"));
    stage.label(&ObjectRef::new(Kind::Pod, "shop", "late"), "istio.io/dataplane-mode=none")?;
    let left = eventually(SOON, || in_mesh(stage, "shop/late", false));
    scene.see("opting out", left.map(|()| "late is out of the mesh by its label"));
    let plain = eventually(SOON, || {
        let ticket = ticket();
        let (_, wire) = request(stage, "shop/web", &format!("{url}/{ticket}"), "-4")?;
        shows(&wire, &ticket).then_some(()).ok_or_else(|| "not readable on the wire".to_owned())
    });
    scene.see("plain again", plain.map(|()| "its traffic is plain again"));
    let clean = eventually(SOON, || untouched(stage, "shop/late"));
    scene.see("traces", clean.map(|()| "no rule and no listener is left in its namespace"));
    Ok(())
}

/// Asks once, watched: the answer, and what passed between the nodes.
fn request(stage: &Stage, pod: &str, url: &str, family: &str) -> Shown<(Value, Vec<Segment>)> {
    let (answer, wire) =
        stage.on_the_wire(|| stage.fetch_with(pod, url, &[family, "--timeout-ms", "2000"]))?;
    Ok((answer?, wire))
}

/// A request that must go through a tunnel; returns the TLS records seen.
fn tunnelled(stage: &Stage, pod: &str, url: &str, family: &str) -> Shown<usize> {
    let ticket = ticket();
    let (answer, wire) = request(stage, pod, &format!("{url}/{ticket}"), family)?;
    from_itself(stage, pod, &answer)?;
    let to_app = |s: &&Segment| s.to.1 == APP || s.from.1 == APP;
    if shows(&wire, &ticket) || wire.iter().any(|s| to_app(&s)) {
        return Err("plaintext was seen on the wire".to_owned());
    }
    let records = wire.iter().filter(|s| s.to.1 == HBONE && is_tls(s)).count();
    if records == 0 { Err("no TLS was seen on the wire".to_owned()) } else { Ok(records) }
}

/// The server saw the client's own address.
fn from_itself(stage: &Stage, pod: &str, answer: &Value) -> Shown<()> {
    let from: Option<std::net::SocketAddr> =
        answer.get("from").and_then(Value::as_str).and_then(|from| from.parse().ok());
    let own = stage.pod(pod)?.ips;
    match from {
        Some(from) if own.contains(&from.ip()) => Ok(()),
        _ => Err(format!("the server saw another address than the client's: {answer}")),
    }
}

pub(super) fn in_mesh(stage: &Stage, pod: &str, wanted: bool) -> Shown<()> {
    let found = stage.pod(pod)?;
    if found.phase == "Running" && found.in_mesh == wanted {
        return Ok(());
    }
    Err(format!("{pod} is {}, in the mesh: {} {}", found.phase, found.in_mesh, found.why))
}

fn running(stage: &Stage, pod: &str) -> Shown<()> {
    let found = stage.pod(pod)?;
    if found.phase == "Running" { Ok(()) } else { Err(format!("{pod} is {} {}", found.phase, found.why)) }
}

/// The pod's namespace has the mesh's rules and listeners now: no second look.
fn redirected(stage: &Stage, pod: &str) -> Shown<()> {
    let found = traces(&stage.pod(pod)?.space).map_err(|e| e.to_string())?;
    let all = found.tables > 0 && found.listeners > 0;
    all.then_some(()).ok_or_else(|| format!("{pod} runs without redirection: {found:?}"))
}

/// The pod's namespace looks like one that never was in a mesh.
fn untouched(stage: &Stage, pod: &str) -> Shown<()> {
    let of = |pod: &str| -> Shown<_> { traces(&stage.pod(pod)?.space).map_err(|e| e.to_string()) };
    let (found, never) = (of(pod)?, of("outside/visitor")?);
    let clean = found == never && found.tables == 0 && found.listeners == 0;
    clean.then_some(()).ok_or_else(|| format!("{pod} has {found:?}, a pod outside {never:?}"))
}

/// The last access line of web's traffic to cart, cut to the identities in it.
fn access_line(stage: &Stage, node: &str, direction: &str) -> Shown<String> {
    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
    const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
    let log = stage.log(&Component::Ztunnel(node.to_owned()))?;
    let mine = |line: &&str| line.contains("connection complete") && line.contains(direction);
    let line = log.lines().rev().filter(mine).find(|line| line.contains(WEB) && line.contains(CART));
    let line = line.ok_or_else(|| format!("no {direction} line on {node} names both identities"))?;
    let words = line.split_ascii_whitespace().filter(|word| word.contains("identity"));
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// A word nobody else says.
fn ticket() -> String {
    format!("ticket-{:016x}", fastrand::u64(..))
}
